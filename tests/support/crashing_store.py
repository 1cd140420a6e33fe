"""A store that dies before or after a commit, as a process does: nothing more is executed, no answer comes.

It is the SQLite store with its writer thread replaced by a task, so that a run of it repeats exactly: decisions
queue up, are committed in groups by the real `commit`, and are answered in order, some turns of the loop later. The
database outlives it: a new store over the same connection is the next process's.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from perdure.engine.turn import Decision
from perdure.model.json import Json
from perdure.store.sqlite import writer
from perdure.store.sqlite.driver import drive
from perdure.store.sqlite.migrate import migrate
from perdure.store.sqlite.session import PauseNames
from perdure.store.sqlite.writer import Change, commit

T = TypeVar("T")
When = Literal["before", "after"]


def new_database() -> sqlite3.Connection:
    """An empty perdure database in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    return connection


class CrashingStore:
    """One process's access to the database. `chance` decides how long commits and answers take."""

    exclusive = True

    def __init__(self, connection: sqlite3.Connection, chance: random.Random) -> None:
        self._connection = connection
        self._chance = chance
        self._queue: list[Change] = []
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._commits_left: int | None = None
        self._when: When = "before"
        self.crashed = asyncio.Event()
        self.submitted = 0

    def crash_at(self, commits: int, when: When) -> None:
        """Dies at the commit after this many others."""
        self._commits_left, self._when = commits, when

    def crash_now(self) -> None:
        self.crashed.set()

    async def open(self) -> None:
        # As the real one does: the nodes that the file names are dead.
        self._connection.execute("DELETE FROM node")
        self._worker = asyncio.get_running_loop().create_task(self._work(PauseNames(self._connection)))

    async def close(self) -> None:
        while self._queue:
            await asyncio.sleep(0)
        if self._worker is not None:
            self._worker.cancel()

    async def submit(self, begin: Callable[[], Decision[T]]) -> T:
        self.submitted += 1
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._queue.append(Change(begin, future))
        self._arrived.set()
        result: T = await future
        return result

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        result = drive(self._connection.cursor(), begin())
        await self._ticks()
        return result

    async def time(self) -> None:
        pass

    def listen(self, heard: Callable[[str], None], told: Callable[[Iterable[str]], None]) -> None:
        pass

    def tell(self, news: str) -> None:
        pass

    async def join_bus(self, node: str, bus: str | None) -> bool:
        return False

    async def identity(self) -> str:
        return ""

    async def _work(self, pauses: PauseNames) -> None:
        while not self.crashed.is_set():
            await self._arrived.wait()
            self._arrived.clear()
            await self._ticks()
            batch, self._queue = self._queue, []
            if not batch:
                continue
            if self._strikes("before"):
                return
            outcomes = commit(self._connection, pauses, batch)
            if self._strikes("after"):
                return
            await self._ticks()
            if not self.crashed.is_set():
                writer._resolve(outcomes)

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

    async def _ticks(self) -> None:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)
