"""The SQL of the store agrees with itself and with the engine that asks for it."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

import perdure
from perdure.engine.agents import records as agent_records
from perdure.engine.kinds import KINDS
from perdure.engine.mutations import Mutation, PutSlot
from perdure.engine.turn import Decision
from perdure.model import records
from perdure.model.errors import StoreError
from perdure.store.sqlite import SqliteStore, migrate
from perdure.store.sqlite.driver import STATEMENTS
from perdure.store.sqlite.migrate import migrations, schema
from perdure.store.statements import statement_name
from tests.support.stores import opened

ROWS: dict[str, type[msgspec.Struct]] = {
    "run": records.Run,
    "step": records.Step,
    "attempt": records.Attempt,
    "job": records.Job,
    "pause": records.Pause,
    "function": records.FunctionRow,
    "event": records.EventRow,
    "app": records.AppRow,
    "cancellation": records.Cancellation,
    "replay": records.Replay,
    "run_metadata": records.RunMetadata,
    "thread": agent_records.ThreadRow,
    "message": agent_records.MessageRow,
    "resource": agent_records.ResourceRow,
    "embedding": agent_records.EmbeddingRow,
    "agent_run": agent_records.AgentRunRow,
    "approval": agent_records.ApprovalRow,
    "inbox": agent_records.InboxRow,
    "begun": agent_records.BegunRow,
    "task": agent_records.TaskRow,
}


def _described(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {(kind, name, re.sub(r"\s*([,()])\s*", r"\1", " ".join((sql or "").split()))) for kind, name, sql in rows}


@contextmanager
def _database(*scripts: str) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in scripts:
            connection.executescript(script)
        yield connection


def test_the_schema_is_what_all_migrations_make() -> None:
    with _database(schema()) as new, _database(*(sql for _, sql in migrations())) as migrated:
        assert _described(new) == _described(migrated)


def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


@pytest.mark.parametrize("table", ROWS)
def test_the_columns_of_a_table_are_the_fields_of_its_record(table: str) -> None:
    with _database(schema()) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    assert columns == list(ROWS[table].__struct_fields__)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_valid_in_the_schema(name: str) -> None:
    sql = STATEMENTS[name].sql
    with _database(schema()) as connection:
        connection.execute(f"EXPLAIN {sql}", (None,) * sql.count("?"))


@pytest.mark.parametrize("mutation", KINDS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_has_a_statement_with_its_parameters(mutation: type[Mutation]) -> None:
    statement = STATEMENTS[statement_name(mutation)]
    fields = mutation.__struct_fields__
    if statement.order is not None:
        assert set(statement.order) == set(range(len(fields)))
    # SQLite itself counts them: it refuses too few and too many.
    with _database(schema()) as connection:
        connection.execute(f"EXPLAIN {statement.sql}", statement.bind((None,) * len(fields)))


def _reads_of_the_engine() -> set[str]:
    """The names that `Read(...)` is called with anywhere in the package, as literals or as constants of reads.py."""
    found: set[str] = set()
    root = Path(perdure.__file__).parent
    constants: dict[str, str] = {}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in root.rglob("*.py")]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and len(node.targets) == 1:
                target = node.targets[0]
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    constants[target.id] = node.value.value
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Read":
                name = node.args[0]
                found.add(str(name.value) if isinstance(name, ast.Constant) else constants[getattr(name, "id", "?")])
    return found


def test_every_statement_is_used_and_every_read_has_one() -> None:
    written = {statement_name(mutation) for mutation in KINDS}
    assert set(STATEMENTS) == written | _reads_of_the_engine()


async def test_a_file_of_a_newer_perdure_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "new.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(StoreError, match=r"schema version 9999, this perdure knows up to \d+: install a newer"):
        await SqliteStore(tmp_path / "new.db").open()


@pytest.mark.parametrize("version", [0, 1, 9999])
async def test_a_file_of_another_program_is_refused(tmp_path: Path, version: int) -> None:
    connection = sqlite3.connect(tmp_path / "theirs.db")
    connection.execute("CREATE TABLE precious (data)")
    # Other programs number their schemas there too.
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        await SqliteStore(tmp_path / "theirs.db").open()
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]
    connection.close()


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but a text that is long enough to be read as one" * 20)
    with pytest.raises(StoreError, match=r"cannot open .*notes\.txt"):
        await SqliteStore(tmp_path / "notes.txt").open()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest, sql = migrations()[-1]
    async with opened(tmp_path / "db"):
        pass
    broken = [(latest, sql), (latest + 1, "CREATE TABLE better (id); INSERT INTO nowhere VALUES (1);")]
    monkeypatch.setattr(migrate, "migrations", lambda: broken)
    with pytest.raises(StoreError, match="no such table: nowhere"):
        await SqliteStore(tmp_path / "db").open()
    monkeypatch.undo()
    # Nor is the file left locked.
    async with opened(tmp_path / "db") as store:
        connection = store._require()
        assert connection.execute("PRAGMA user_version").fetchone() == (latest,)
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'better'").fetchall() == []


async def test_an_older_file_gets_the_migrations_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latest, sql = migrations()[-1]
    async with opened(tmp_path / "db") as store:
        await store.submit(lambda: _slot("kept"))
    newer = [*migrations()[:-1], (latest, sql), (latest + 1, "CREATE TABLE better (id TEXT) STRICT;")]
    monkeypatch.setattr(migrate, "migrations", lambda: newer)
    async with opened(tmp_path / "db") as store:
        connection = store._require()
        assert connection.execute("PRAGMA user_version").fetchone() == (latest + 1,)
        assert connection.execute("SELECT count(*) FROM better").fetchone() == (0,)
        assert connection.execute("SELECT key FROM slot").fetchall() == [("kept",)]


def _slot(key: str) -> Decision[None]:
    yield PutSlot(key, "owner")
