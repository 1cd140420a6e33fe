"""What other nodes tell (`tell_2`): a connection of its own that listens, and comes back when it breaks.

What is told while nobody listens is not repeated: after every beginning, `EVERYTHING` is heard. Behind a pooler that
gives out sessions by the transaction nothing can be heard; then `EVERYTHING` is heard now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from perdure.store.postgres.connections import FAILURES, Dsn
from perdure.store.postgres.statements import QUERIES
from perdure.store.protocol import EVERYTHING

if TYPE_CHECKING:
    from asyncpg import Connection

_log = logging.getLogger("perdure.store")

_CHANNEL: Final = "perdure"
_ALIVE: Final = 5.0
"""Seconds after which a silent connection is asked whether it is one."""
_POLL: Final = 0.5
"""Seconds between looks of a node that cannot listen."""
_PIECE: Final = 7000
"""Characters of news that are told at once; the server takes 8,000 bytes."""
_PART: Final = "part"
_UNFINISHED: Final = 100
"""Of so many news that are told in parts the beginnings are kept."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Listener:
    """Passes on the news of other nodes; `is_own` says of a session whether this node writes through it."""

    def __init__(self, dsn: Dsn, heard: Callable[[str], None], is_own: Callable[[int], bool]) -> None:
        self._dsn = dsn
        self._heard = heard
        self._is_own = is_own
        self._parts: dict[str, list[str]] = {}
        self._task = asyncio.get_running_loop().create_task(self._polling() if dsn.pooled else self._listening())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _polling(self) -> None:
        while True:
            self._heard(EVERYTHING)
            await asyncio.sleep(_POLL)

    async def _listening(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                connection = await self._dsn.connect()
                try:
                    await connection.add_listener(_CHANNEL, self._on_news)
                    pause = _FIRST_PAUSE
                    self._heard(EVERYTHING)
                    await self._until_broken(connection)
                finally:
                    with contextlib.suppress(asyncpg.InterfaceError):
                        connection.terminate()
            except FAILURES as error:
                _log.warning("cannot hear of other nodes, trying again in %s s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _until_broken(self, connection: Connection[Any]) -> None:
        while True:
            await asyncio.sleep(_ALIVE)
            await connection.execute("SELECT 1", timeout=_ALIVE)

    def _on_news(self, _: object, session: int, __: str, news: object) -> None:
        if self._is_own(session):
            return
        text = str(news)
        if text.startswith(f"{_PART} "):
            _, name, left, piece = text.split(" ", 3)
            self._parts.setdefault(name, []).append(piece)
            if left != "0":
                return
            text = "".join(self._parts.pop(name))
            while len(self._parts) > _UNFINISHED:
                del self._parts[next(iter(self._parts))]
        self._heard(text)


class Teller:
    """Tells the others what is in no transaction, in the order in which it was said, as much as there is at once."""

    def __init__(self, dsn: Dsn) -> None:
        self._dsn = dsn
        self._queue: list[str] = []
        self._arrived = asyncio.Event()
        self._name = uuid.uuid4().hex[:8]
        self._count = itertools.count()
        self.session = 0
        self._task = asyncio.get_running_loop().create_task(self._telling())

    def tell(self, news: str) -> None:
        self._queue += _in_parts(news, f"{self._name}-{next(self._count)}")
        self._arrived.set()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _telling(self) -> None:
        while True:
            await self._arrived.wait()
            try:
                connection = await self._dsn.connect()
                self.session = connection.get_server_pid()
                try:
                    await self._tell_all(connection)
                finally:
                    connection.terminate()
            except FAILURES as error:
                _log.warning("other nodes do not hear what was said: %s", error)
                self._queue.clear()

    async def _tell_all(self, connection: Connection[Any]) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            news, self._queue = self._queue, []
            await connection.execute(QUERIES["tell_all"].sql, news)


def _in_parts(news: str, name: str) -> list[str]:
    """News of any length as what can be told at once; the last part is number 0.

    >>> _in_parts("ready", "n")
    ['ready']
    """
    # Characters may take four bytes each.
    if len(news.encode()) <= _PIECE:
        return [news]
    pieces = [news[start : start + _PIECE // 4] for start in range(0, len(news), _PIECE // 4)]
    return [f"{_PART} {name} {left} {piece}" for left, piece in zip(reversed(range(len(pieces))), pieces, strict=True)]
