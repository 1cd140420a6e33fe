"""The SQL of the PostgreSQL store agrees with itself and with the engine that asks for it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from perdure.engine.mutations import Mutation
from perdure.model.errors import StoreError
from perdure.store.postgres import PostgresStore, migrate
from perdure.store.postgres.migrate import Migration, latest, migrations
from perdure.store.postgres.statements import QUERIES, RECORDS, WRITES
from perdure.store.sqlite.driver import STATEMENTS
from perdure.store.statements import statement_name
from tests.support.postgres import PostgresServer
from tests.support.postgres_session import PostgresSession

OWN = {
    "put_blobs", "put_blob_uses", "blobs", "begin", "begin_view", "join", "enter", "tidy", "lock_versions",
    "create_versions", "versions", "put_version", "older_alive", "has_versions", "known_nodes", "tell_all", "now",
    "join_bus", "is_shared", "has_database", "identity",
}  # fmt: skip
"""The statements that the store asks for itself."""
SEVERAL = {"begin", "begin_view", "create_versions"}
"""Those that are no single statement with parameters."""


def test_migrations_are_numbered_without_gaps_and_begin_with_what_they_add() -> None:
    numbers = [migration.version for migration in migrations() if migration.part == "pre"]
    assert numbers == list(range(1, latest() + 1))


def test_both_stores_answer_the_same_questions_and_make_the_same_changes() -> None:
    written = {statement_name(kind) for kind in WRITES}
    assert written == {statement_name(kind) for kind in Mutation.__subclasses__()}
    assert written | (set(QUERIES) - OWN) == set(STATEMENTS)


async def test_every_statement_is_valid_in_the_schema(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        for name, query in QUERIES.items():
            if name not in SEVERAL:
                await connection.prepare(query.sql)
        for kind, write in WRITES.items():
            statement = await connection.prepare(write.sql)
            assert len(statement.get_parameters()) == len(kind.__struct_fields__), kind
    finally:
        await connection.close()


async def test_the_columns_of_a_table_are_the_fields_of_its_record(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        for table, record in RECORDS.items():
            found = await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 ORDER BY attnum",
                f"perdure.{table}",
            )
            assert tuple(row[0] for row in found) == record.__struct_fields__
    finally:
        await connection.close()


async def test_nodes_that_start_at_once_migrate_once(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    stores = [PostgresStore(url) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await store.close()
    postgres_server.drop_database(url)


async def test_an_older_database_gets_what_it_lacks_and_nothing_is_removed_under_an_older_node(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = PostgresStore(postgres_url)
    await old.open()
    number = latest() + 1
    newer = [
        *migrations(),
        Migration(number, "pre", "CREATE TABLE perdure.better (id text)"),
        Migration(number, "post", "DROP TABLE perdure.better"),
        Migration(number + 1, "pre", "CREATE TABLE perdure.best (id text)"),
    ]
    session = PostgresSession(postgres_url)
    try:
        monkeypatch.setattr(migrate, "migrations", lambda: newer)
        await _opened_and_closed(postgres_url)
        assert session.execute("SELECT to_regclass('perdure.better')::text") == [("perdure.better",)]
        assert session.execute("SELECT to_regclass('perdure.best')::text") == [("perdure.best",)], "needed by the newer"
        await old.close()
        session.execute("UPDATE perdure.writer SET at = at - interval '10 min'")
        await _opened_and_closed(postgres_url)
        assert session.execute("SELECT to_regclass('perdure.better')::text") == [(None,)]
        monkeypatch.undo()
        with pytest.raises(StoreError, match=rf"schema version {number + 1}, this perdure knows up to {number - 1}"):
            await _opened_and_closed(postgres_url)
    finally:
        session.close()


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(
        latest() + 1, "pre", "CREATE TABLE perdure.better (id text); INSERT INTO perdure.nowhere SELECT 1"
    )
    monkeypatch.setattr(migrate, "migrations", lambda: [*migrations(), broken])
    with pytest.raises(StoreError, match="nowhere"):
        await _opened_and_closed(postgres_url)
    monkeypatch.undo()
    await _opened_and_closed(postgres_url)
    session = PostgresSession(postgres_url)
    assert session.execute("SELECT to_regclass('perdure.better')::text") == [(None,)]
    session.close()


async def _opened_and_closed(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://nobody:secret@127.0.0.1:1/none", r"cannot open postgresql://nobody:\*\*\*@127.0.0.1:1/none: "),
        ("postgresql://x/y?statement_cache_size=many", "statement_cache_size must be a whole number"),
    ],
)
async def test_a_database_that_is_not_there_is_named_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        await PostgresStore(url).open()
