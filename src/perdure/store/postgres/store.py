"""`PostgresStore`: a database that several nodes share, one writer a node, and readers that see what is committed.

Decisions rest on what they have seen, so the transactions that write come one after the other, over all nodes, under
an advisory lock that lives as long as the transaction (`lock_1`). Reading needs none.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import asyncpg

from perdure.engine.turn import Decision, Read
from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.store.postgres.connections import FAILURES, Dsn, Readers, is_gone
from perdure.store.postgres.link import Link
from perdure.store.postgres.listener import Listener, Teller
from perdure.store.postgres.migrate import migrate
from perdure.store.postgres.session import drive, rows_of
from perdure.store.postgres.statements import QUERIES
from perdure.store.postgres.writer import Writer

T = TypeVar("T")
_READERS = 4


class PostgresStore:
    """A store in a PostgreSQL database (14 or later), in its schema "perdure".

    `dsn` is a URL as libpq has it ("postgresql://app@db/shop?sslmode=verify-full"), with `statement_cache_size=0` for a
    pooler that keeps no prepared statements. `patience`: how many seconds a decision waits for a database that is away.
    """

    exclusive = False

    def __init__(self, dsn: str, *, patience: float = 30.0) -> None:
        self._dsn = Dsn(dsn)
        self.path = self._dsn.shown
        self._patience = patience
        self._writer: Writer | None = None
        self._readers = Readers(self._dsn, _READERS)
        self._listener: Listener | None = None
        self._teller: Teller | None = None
        self._told: Callable[[Iterable[str]], None] = lambda _: None
        self.submitted = 0

    def _link(self) -> Link:
        return Link(self._dsn, uuid.uuid4().hex)

    async def open(self) -> None:
        link = self._link()
        try:
            connection = await self._dsn.connect()
            try:
                await migrate(connection)
                await connection.execute(QUERIES["tidy"].sql)
            finally:
                await connection.close(timeout=5)
            await link.join()
        except FAILURES as error:
            raise StoreError(f"cannot open {self.path}: {str(error) or type(error).__name__}") from error
        self._writer = Writer(link, self._patience, lambda news: self._told(news))
        self._readers = Readers(self._dsn, _READERS)

    def submit(self, begin: Callable[[], Decision[T]]) -> Awaitable[T]:
        self.submitted += 1
        return self._require().submit(begin)

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        self._require()
        for again in (True, False):
            connection = await self._reader()
            broken = True
            try:
                result: T = await self._read(connection, begin)
                broken = False
                return result
            except (*FAILURES, TypeError) as error:
                if not (again and is_gone(error, connection)):
                    raise StoreError(f"the database could not be read: {error}") from error
                self._readers.forget()
            finally:
                self._readers.give(connection, broken=broken)
        raise AssertionError("unreachable")

    async def _read(self, connection: asyncpg.Connection, begin: Callable[[], Decision[T]]) -> T:
        """Makes a decision that only reads. Of those that ask once, and most do, the question is all that is sent."""
        decision = begin()
        try:
            first = next(decision)
            if isinstance(first, Read):
                decision.send(await rows_of(connection, first))
                decision.close()
        except StopIteration as stop:
            result: T = stop.value
            return result
        # One snapshot, so that all reads of a decision see the same state.
        await connection.execute(QUERIES["begin_view"].sql)
        result = await drive(connection, begin())
        await connection.execute("COMMIT")
        return result

    def _require(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"the store {self.path} is not open")
        return self._writer

    async def time(self) -> int:
        found: int = await self._value("now")
        return found

    async def identity(self) -> str:
        found: str = await self._value("identity")
        return found

    async def _value(self, query: str) -> Json:
        connection = await self._reader()
        broken = True
        try:
            found: Json = await connection.fetchval(QUERIES[query].sql)
            broken = False
            return found
        except FAILURES as error:
            raise StoreError(f"the database could not be read: {error}") from error
        finally:
            self._readers.give(connection, broken=broken)

    async def _reader(self) -> asyncpg.Connection:
        try:
            return await self._readers.take()
        except FAILURES as error:
            raise StoreError(f"the database could not be read: {str(error) or type(error).__name__}") from error

    def listen(self, heard: Callable[[str], None], told: Callable[[Iterable[str]], None]) -> None:
        self._told = told
        self._listener = Listener(self._dsn, heard, self._is_own)

    async def join_bus(self, node: str, bus: str | None) -> bool:
        connection = await self._reader()
        broken = True
        try:
            noted = await connection.execute(QUERIES["join_bus"].sql, node, bus) == "UPDATE 1"
            shared: bool = await connection.fetchval(QUERIES["is_shared"].sql, bus)
            broken = False
            return noted and shared
        except FAILURES as error:
            raise StoreError(f"the database could not be asked: {error}") from error
        finally:
            self._readers.give(connection, broken=broken)

    def tell(self, news: str) -> None:
        if self._teller is None:
            self._teller = Teller(self._dsn)
        self._teller.tell(news)

    def _is_own(self, session: int) -> bool:
        return (self._teller is not None and session == self._teller.session) or (
            self._writer is not None and session in self._writer.sessions
        )

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None
        if self._teller is not None:
            await self._teller.stop()
            self._teller = None
        if self._writer is not None:
            await self._writer.stop()
            self._writer = None
        await self._readers.close()
        # The event loop puts away what was cut off in its next turn, which may be its last.
        await asyncio.sleep(0)
