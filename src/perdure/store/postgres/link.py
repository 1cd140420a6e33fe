"""The connection that writes, and the count of its transactions by which none is lost or done twice.

Every transaction raises the number of its writer's row from `seq` to `seq + 1`, under its `fence`. If the connection
breaks, nobody knows whether the last one was committed. Joining again tells: the number says it, and the new
fence refuses the old transaction should it still be on its way.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from perdure.store.postgres.connections import FAILURES, Dsn
from perdure.store.postgres.migrate import latest
from perdure.store.postgres.plain import SQL as COMMIT_PLAIN
from perdure.store.postgres.plain import Plain
from perdure.store.postgres.session import PauseNames
from perdure.store.postgres.statements import QUERIES

if TYPE_CHECKING:
    from asyncpg import Connection

NOT_PLAIN = "PD001"
"""The state with which the server refuses a plain transaction: its assumptions do not hold."""
FENCED = "PD002"
"""The state with which it refuses a writer whose row is gone, or has another fence."""


class Link:
    """One writer's way to the database. `connection` is None while there is none.

    `sent`: the last transaction was sent to its end, so it may be committed though nobody has heard of it.
    """

    def __init__(self, dsn: Dsn, writer: str) -> None:
        self.names = PauseNames()
        self.connection: Connection[Any] | None = None
        self.seq = 0
        self.sent = False
        self.sessions: set[int] = set()
        """The process ids of the sessions that it has had."""
        self._dsn = dsn
        self._writer = writer
        self._fence = 0

    async def join(self) -> None:
        """Connects, and learns which transactions were committed (`seq`)."""
        connection = self.connection or await self._dsn.connect()
        try:
            row = await connection.fetchrow(QUERIES["join"].sql, self._writer, latest())
        except BaseException:
            connection.terminate()
            self.connection = None
            raise
        assert row is not None
        self.seq, self._fence = row
        self.connection = connection
        self.sessions = {connection.get_server_pid()}

    def drop(self) -> None:
        """Gives the connection up."""
        if self.connection is not None:
            self.connection.terminate()
            self.connection = None

    async def begin(self) -> Connection[Any]:
        """Begins a transaction: the connection on which the decisions' statements go."""
        self.sent = False
        connection = self._connected()
        await connection.execute(QUERIES["begin"].sql)
        enter = QUERIES["enter"].sql
        self.names.learn(await connection.fetch(enter, self._writer, self.seq, self._fence, self.names.seq))
        return connection

    async def commit(self) -> None:
        connection = self._connected()
        self.sent = True
        await connection.execute("COMMIT")
        self.seq += 1

    async def rollback(self) -> None:
        """Ends a transaction that failed, if there is one."""
        if self.connection is not None and self.connection.is_in_transaction():
            try:
                await self.connection.execute("ROLLBACK")
            except FAILURES:
                self.drop()

    async def commit_plain(self, plain: Plain) -> None:
        """A whole transaction in one round trip; one refused with `NOT_PLAIN` has to be done at length."""
        self.sent = False
        connection, parameters = self._connected(), plain.parameters()
        self.sent = True
        await connection.fetch(COMMIT_PLAIN, self._writer, self.seq, self._fence, self.names.seq, *parameters)
        self.seq += 1

    def _connected(self) -> Connection[Any]:
        if self.connection is None or self.connection.is_closed():
            raise ConnectionError("the connection to the database is closed")
        return self.connection

    async def close(self) -> None:
        if self.connection is not None:
            with contextlib.suppress(*FAILURES):
                await self.connection.close(timeout=5)
            self.drop()
