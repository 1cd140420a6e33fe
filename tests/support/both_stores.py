"""Which tests run on both stores, and how those that know only files get PostgreSQL instead.

`ON_BOTH` names what runs on both always. With PERDURE_TEST_STORE=postgres everything whose engines come from
`perdure.embedding` runs on PostgreSQL alone.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Final

from perdure.model.json import Json
from perdure.store.naming import is_postgres
from perdure.store.postgres import PostgresStore
from perdure.store.protocol import Store
from tests.support.postgres import PostgresServer
from tests.support.postgres_session import PostgresSession, literal

ON_BOTH: Final = (
    "tests/property/test_streams.py",
    "tests/unit/agents/test_approvals_on_a_node.py",
    "tests/unit/agents/test_storage",
    "tests/wire/test_agents_approvals.py",
    "tests/wire/test_agents_children.py",
    "tests/wire/test_agents_durable.py",
    "tests/unit/apps/test_endpoint",
    "tests/unit/engine/",
    "tests/unit/runner/",
    "tests/unit/sdk/test_endpoint",
    "tests/unit/store/test_retention.py",
    "tests/unit/test_embedding.py",
    "tests/wire/test_endpoint",
    "tests/wire/test_environments.py",
    "tests/wire/test_replays.py",
    "tests/wire/test_rest_v1.py",
    "tests/wire/test_stored_agents.py",
    "tests/wire/test_stream_relay.py",
)
_ONLY: Final = os.environ.get("PERDURE_TEST_STORE")
STORES: Final = [_ONLY] if _ONLY else ["sqlite", "postgres"]


_NAMES_ITS_OWN: Final = (
    "tests/unit/runner/test_neighbours.py",
    "tests/unit/runner/test_relay.py",
    "tests/wire/test_endpoint_reports_elsewhere.py",
)
_TABLES: Final = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'perdure'::regnamespace"
_END_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def is_on_both(nodeid: str) -> bool:
    """Whether a test is one of those."""
    return (bool(_ONLY) or nodeid.startswith(ON_BOTH)) and not nodeid.startswith(_NAMES_ITS_OWN)


def rows(path: Path, query: str) -> list[tuple[Json, ...]]:
    """What a query finds in the database that a test knows by the name of a file; or a statement, once it is done."""
    if Databases.current is not None:
        with closing(Databases.current.session(path)) as session:
            # What SQLite calls a blob.
            return session.execute(query.replace("AS blob", "AS bytea"))
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query).fetchall()


def migrated(server: PostgresServer) -> str:
    """The URL of a new database that has perdure's schema."""
    url = server.new_database()

    async def open_once() -> None:
        store = PostgresStore(url)
        await store.open()
        await store.close()

    asyncio.run(open_once())
    return url


class Databases:
    """A database for each name, as files are: the same name is the same database, but each ":memory:" is a new one."""

    current: ClassVar[Databases | None] = None
    """Those of the test that runs, if it runs on PostgreSQL."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._named: dict[str, str] = {}
        self._urls: list[str] = []

    def make_store(self, db: str | Path) -> Store:
        if is_postgres(db):
            return PostgresStore(str(db))
        name = str(db)
        if name == ":memory:":
            return PostgresStore(self._new())
        if name not in self._named:
            self._named[name] = self._new()
        return PostgresStore(self._named[name])

    def _new(self) -> str:
        url = self._server.free.pop() if self._server.free else self._server.copy_of(self._template)
        self._urls.append(url)
        return url

    def crashed(self, name: str | Path) -> Path:
        """The name of a copy, as its nodes leave it when they die now."""
        copy = Path(f"{name}.crashed")
        self._named[str(copy)] = self._new()
        with closing(self.session(name)) as old, closing(self.session(copy)) as new:
            for (table,) in old.execute(_TABLES):
                if table not in ("node", "writer", "schema_version"):
                    for row in old.execute(f"SELECT * FROM {table}"):
                        values = ", ".join(literal(value) for value in row)
                        new.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE VALUES ({values})")
        return copy

    def session(self, name: str | Path) -> PostgresSession:
        session = PostgresSession(self._named[str(name)])
        session.execute("SET search_path = perdure")
        return session

    def give_back(self) -> None:
        """Leaves the databases empty for the next test, which is faster than making new ones."""
        for url in self._urls:
            with closing(PostgresSession(url)) as session:
                session.execute(_END_OTHERS)
                tables = [
                    f"DELETE FROM perdure.{table}" for (table,) in session.execute(_TABLES) if table != "schema_version"
                ]
                session.execute("; ".join(tables))
            self._server.free.append(url)
