"""The PostgreSQL store dying before or after a commit, as a process does: its connection is gone, no answer comes.

What a node held is ready for the next one at once, as if its lease had expired meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from perdure.model.json import Json
from perdure.store.postgres.link import Link
from perdure.store.postgres.plain import Plain
from perdure.store.postgres.store import PostgresStore
from tests.support.crashing_store import When
from tests.support.postgres import PostgresServer
from tests.support.postgres_session import PostgresSession

# What the queries of tests ask SQLite for.
_JSON = """CREATE FUNCTION perdure.json_extract(body bytea, path text) RETURNS text LANGUAGE sql AS
$$ SELECT convert_from(body, 'UTF8')::json #>> string_to_array(substr(path, 3), '.') $$"""


class PostgresDatabase:
    """A database of its own, which outlives the processes of a test."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self.url = server.copy_of(template)
        self._session = PostgresSession(self.url)
        self._session.execute("SET search_path = perdure")
        self._session.execute(_JSON)
        self._found: list[tuple[Json, ...]] = []

    def execute(self, query: str, params: tuple[Json, ...] = ()) -> PostgresDatabase:
        self._found = self._session.execute(query, tuple(params))
        return self

    def fetchall(self) -> list[tuple[Json, ...]]:
        return self._found

    def fetchone(self) -> tuple[Json, ...] | None:
        return self._found[0] if self._found else None

    def close(self) -> None:
        self._session.close()
        self._server.drop_database(self.url)


class _CrashingLink(Link):
    """A link that asks before and after each commit whether the process dies now."""

    dies: Callable[[When], bool]

    async def commit(self) -> None:
        await self._around(super().commit)

    async def commit_plain(self, plain: Plain) -> None:
        await self._around(lambda: Link.commit_plain(self, plain))

    async def _around(self, commit: Callable[[], Awaitable[None]]) -> None:
        if self.dies("before"):
            await self._die()
        await commit()
        if self.dies("after"):
            await self._die()

    async def _die(self) -> None:
        self.drop()
        await asyncio.get_running_loop().create_future()


class CrashingPostgres(PostgresStore):
    """One process's access to the database."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database.url)
        self._database = database
        self._commits_left: int | None = None
        self._when: When = "before"
        self.crashed = asyncio.Event()
        self._made: Link | None = None

    def crash_at(self, commits: int, when: When) -> None:
        """Dies at the commit after this many others."""
        self._commits_left, self._when = commits, when

    def crash_now(self) -> None:
        self.crashed.set()

    async def open(self) -> None:
        self._database.execute("DELETE FROM node")
        await super().open()

    def abandon(self) -> None:
        """What the operating system does with the connections of a process that is dead."""
        self._readers.forget()
        if self._made is not None:
            self._made.drop()

    def _link(self) -> Link:
        self._made = link = _CrashingLink(self._dsn, "writer")
        link.dies = self._strikes
        return link

    def _strikes(self, when: When) -> bool:
        if self.crashed.is_set():
            return True
        if self._commits_left is None or self._when != when:
            return False
        self._commits_left -= 1
        if self._commits_left >= 0:
            return False
        self.crashed.set()
        return True
