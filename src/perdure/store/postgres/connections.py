"""Connections to the database: made from the DSN, told apart when broken, and a few kept for reading.

Nothing is left in a session: no setting, no listening, nothing prepared that would have to be there later, if
`statement_cache_size=0` is in the DSN. So a pooler that gives out sessions by the transaction may stand between.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from perdure.model.errors import StoreError

if TYPE_CHECKING:
    from asyncpg import Connection

_CONNECT_TIMEOUT: Final = 10.0
_COMMAND_TIMEOUT: Final = 90.0
"""Longer than what the server itself lets statements take: beyond it, it is the network that is silent (seconds)."""
_STATEMENTS: Final = 256
_HOST: Final = r"(?:\[[^\]]*\]|[^:,\[\]]*)(?::\d*)?"
_HOSTS: Final = re.compile(f"{_HOST}(?:,{_HOST})*")

FAILURES: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that a connection, or what is asked through it, can fail with."""
_GONE: Final = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    # The driver was interrupted by the end of the session and does not know where it stands.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    # A server that was the primary and is not.
    asyncpg.ReadOnlySQLTransactionError,
)
_AGAIN: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
)


def is_gone(error: BaseException, connection: Connection[Any] | None) -> bool:
    """Whether the connection, not what was asked of it, is the problem."""
    return isinstance(error, _GONE) or (
        connection is not None and connection.is_closed() and isinstance(error, asyncpg.InterfaceError)
    )


def is_passing(error: BaseException) -> bool:
    """Whether the same transaction may succeed when it is tried again."""
    return isinstance(error, _AGAIN)


def shown(dsn: str) -> str:
    """The DSN without the password; no more than its kind where that is not encoded, and breaks it.

    >>> shown("postgresql://app:secret@db/shop?sslmode=require"), shown("postgresql://app:sec/ret@db/shop")
    ('postgresql://app:***@db/shop?sslmode=require', 'postgresql://***')
    """
    parts = urlsplit(dsn)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    if _is_broken(parts):
        return f"{parts.scheme}://***"
    user, colon, _ = userinfo.partition(":")
    query = urlencode([(name, "***" if "password" in name else value) for name, value in parse_qsl(parts.query)])
    return urlunsplit(parts._replace(netloc=f"{user}:***@{hosts}" if colon else f"{userinfo}{at}{hosts}", query=query))


def _is_broken(parts: SplitResult) -> bool:
    """Whether something in a DSN ends for parsers what it is in, so that its parts are not what they seem."""
    return "@" in parts.path + parts.fragment or not _HOSTS.fullmatch(parts.netloc.rpartition("@")[2])


class Dsn:
    """A connection string: libpq's URL, and `statement_cache_size` besides. Raises `StoreError` for what is none."""

    def __init__(self, text: str) -> None:
        self.shown = shown(text)
        parts = urlsplit(text)
        if _is_broken(parts):
            raise StoreError(f"{self.shown}: in a password / ? # and @ are percent-encoded, and a port is a number")
        query = parse_qsl(parts.query, keep_blank_values=True)
        sizes = [value for name, value in query if name == "statement_cache_size"]
        if any(not size.isdecimal() for size in sizes):
            raise StoreError(f"{self.shown}: statement_cache_size must be a whole number; 0 for a transaction pooler")
        self._statements = int(sizes[-1]) if sizes else _STATEMENTS
        self.pooled = self._statements == 0
        """Whether sessions are given out by the transaction."""
        rest = [(name, value) for name, value in query if name != "statement_cache_size"]
        self._dsn = urlunsplit(parts._replace(query=urlencode(rest)))

    async def connect(self) -> Connection[Any]:
        connecting = asyncio.ensure_future(self._connect())
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # Half a connection cannot be put away: it is made to its end first.
            await asyncio.wait([connecting], timeout=_CONNECT_TIMEOUT)
            if connecting.done() and not connecting.cancelled() and connecting.exception() is None:
                connecting.result().terminate()
            raise

    async def _connect(self) -> Connection[Any]:
        return await asyncpg.connect(
            self._dsn,
            timeout=_CONNECT_TIMEOUT,
            command_timeout=_COMMAND_TIMEOUT,
            statement_cache_size=self._statements,
            max_cached_statement_lifetime=0,
        )


class Readers:
    """A few connections for reading, made as needed. Use: `connection = await take()`, then `give(connection)`."""

    def __init__(self, dsn: Dsn, most: int) -> None:
        self._dsn = dsn
        self._idle: list[Connection[Any]] = []
        self._room = asyncio.Semaphore(most)

    async def take(self) -> Connection[Any]:
        await self._room.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._dsn.connect()
        except BaseException:
            self._room.release()
            raise

    def give(self, connection: Connection[Any], *, broken: bool = False) -> None:
        self._room.release()
        if broken or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    def forget(self) -> None:
        """The server has gone: none of the idle connections is worth trying."""
        while self._idle:
            self._idle.pop().terminate()

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close(timeout=5)
