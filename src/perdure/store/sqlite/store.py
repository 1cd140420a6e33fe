"""`SqliteStore`: a file, its lock, its writer, and readers that see what is committed.

Exactly one connection writes; readers are separate and `query_only`, and checkpoints come only from the writer:
with that, the corruption that SQLite versions before 3.51.3 risk when two connections write and checkpoint at
once cannot arise. `:memory:` keeps everything in one connection and commits inline, for tests.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from perdure.engine.turn import Decision
from perdure.model.errors import StoreError
from perdure.store.sqlite.driver import drive
from perdure.store.sqlite.lock import FileLock
from perdure.store.sqlite.migrate import migrate
from perdure.store.sqlite.session import PauseNames
from perdure.store.sqlite.writer import Change, Writer, commit

T = TypeVar("T")

MEMORY = ":memory:"
_READERS = 2


class SqliteStore:
    """A store in one file (or in memory). `synchronous` "FULL" (default) survives power loss; "NORMAL" may not."""

    exclusive = True

    def __init__(self, path: str | Path, *, synchronous: str = "FULL") -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f'synchronous must be "FULL" or "NORMAL", got {synchronous!r}')
        self.path = str(path)
        self._synchronous = synchronous
        self._lock = None if self.path == MEMORY else FileLock(Path(path))
        self._connection: sqlite3.Connection | None = None
        self._pauses: PauseNames | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self.submitted = 0

    async def open(self) -> None:
        if self._lock is not None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        try:
            self._connection = await asyncio.to_thread(self._connect)
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise
        if self._lock is not None:
            self._writer = Writer(self._connection)
            self._readers = ThreadPoolExecutor(_READERS, "perdure-reader")

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            try:
                self._prepare(connection)
            except BaseException:
                # A migration that failed has a transaction open, which would keep the file locked.
                connection.close()
                raise
        except sqlite3.Error as error:
            raise StoreError(f"cannot open {self.path}: {error}") from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        migrate(connection)
        # The lock is ours: whatever nodes the file names are dead, and their leases with them.
        connection.execute("DELETE FROM node")

    def submit(self, begin: Callable[[], Decision[T]]) -> Awaitable[T]:
        self.submitted += 1
        # The writer's own future: a coroutine around it would be a good part of what a commit costs the loop.
        return self._inline(begin) if self._writer is None else self._writer.submit(begin)

    async def _inline(self, begin: Callable[[], Decision[T]]) -> T:
        connection = self._require()
        change = Change(begin, asyncio.get_running_loop().create_future())
        self._pauses = self._pauses or PauseNames(connection)
        (outcome,) = commit(connection, self._pauses, [change])
        if outcome.error is not None:
            raise outcome.error
        result: T = outcome.result  # type: ignore[assignment]
        return result

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        if self._readers is None:
            return drive(self._require().cursor(), begin())
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, begin)

    def _read(self, begin: Callable[[], Decision[T]]) -> T:
        # Connections are pooled by hand: the executor's threads take turns, and closing happens in another thread.
        reader = self._idle_readers.pop() if self._idle_readers else self._open_reader()
        try:
            cursor = reader.cursor()
            # One transaction, so that all reads of a decision see the same state.
            cursor.execute("BEGIN")
            try:
                return drive(cursor, begin())
            finally:
                cursor.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreError(f"the database could not be read: {error}") from error
        finally:
            self._idle_readers.append(reader)

    def _open_reader(self) -> sqlite3.Connection:
        reader = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=128)
        reader.execute("PRAGMA query_only = ON")
        return reader

    async def time(self) -> None:
        """There is only one clock."""

    def listen(self, heard: Callable[[str], None], told: Callable[[Iterable[str]], None]) -> None:
        """There is nobody else."""

    def tell(self, news: str) -> None:
        """There is nobody else."""

    async def join_bus(self, node: str, bus: str | None) -> bool:
        """There is nobody else."""
        return False

    async def identity(self) -> str:
        """There is nobody else."""
        return ""

    def _require(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"the store {self.path} is not open")
        return self._connection

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.stop()
            self._writer = None
        if self._readers is not None:
            await asyncio.to_thread(self._readers.shutdown)
            self._readers = None
        for reader in self._idle_readers:
            reader.close()
        self._idle_readers.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = self._pauses = None
        if self._lock is not None:
            self._lock.release()
