"""Redis or Valkey as a bus: one channel that all nodes of an installation publish to and hear.

It promises as little as every bus: a message may be lost, and whoever loses the connection is told so, since it has
missed what was said meanwhile. That the bus works is not believed but seen: a node publishes a beat every second, and
the bus is up from the first beat that it hears of its own until none has come for a while.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

_log = logging.getLogger("perdure.bus")

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
_BEAT: Final = 1.0
"""Seconds between the beats of a node."""
_SILENCE: Final = 3.0
"""Seconds without a beat of its own after which a node takes the bus for lost."""
_BACKLOG: Final = 50_000
"""Messages that may wait to be published: a bus that is slower than that helps nobody."""
_AT_ONCE: Final = 500
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class RedisBus:
    """A bus on a Redis or Valkey server, by URL: "redis://:password@host:6379/0", or with TLS "rediss://...".

    Raises `ValueError` for what is no such URL, and where the package for it is not installed.

    >>> RedisBus("redis://:secret@cache:6379").shown
    'redis://***@cache:6379'
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not (parts.netloc or parts.path):
            raise ValueError(f"must be a URL of Redis or Valkey, such as redis://host:6379, got {_shown(url)!r}")
        if find_spec("redis") is None:
            raise ValueError('Redis and Valkey need redis-py: install it with `pip install "perdure[redis]"`')
        self.shown = _shown(url)
        self._url = urlunsplit(parts._replace(scheme=_SCHEMES[parts.scheme]))
        self._client: Redis = self._connect()
        self._name = uuid.uuid4().hex
        self._queue: list[str] = []
        self._arrived = asyncio.Event()
        self._echoed = 0.0
        self._task: asyncio.Task[None] | None = None
        self._heard: Callable[[str], None] = lambda _: None
        self._changed: Callable[[], None] = lambda: None
        self._channel = ""
        self.identity: str | None = None
        """What tells this bus from others, the same for all who are on it; None while it is down."""

    def _connect(self) -> Redis:
        from redis.asyncio import Redis

        try:
            return Redis.from_url(self._url, socket_connect_timeout=_SILENCE, socket_timeout=_SILENCE)
        except ValueError:
            # What it says may quote a part of the password.
            told = "a password has / ? # and @ percent-encoded, and a port is a number"
            raise ValueError(f"must be a URL of Redis or Valkey, got {self.shown!r}: {told}") from None

    @property
    def up(self) -> bool:
        """Whether what is published is heard by all who are on it."""
        return self.identity is not None

    def start(self, channel: str, heard: Callable[[str], None], changed: Callable[[], None]) -> None:
        """Begins to hear what others publish; `changed` is called whenever it has come up, or is lost."""
        self._channel, self._heard, self._changed = f"perdure:{channel}", heard, changed
        self._task = asyncio.get_running_loop().create_task(self._run())

    def publish(self, messages: Iterable[str]) -> None:
        """Publishes soon, in this order. While the bus is down nothing is published."""
        if self.up:
            self._queue += messages
            self._arrived.set()

    async def stop(self) -> None:
        self._changed = lambda: None
        if self._task is not None:
            await _end([self._task])
        await self._client.aclose()

    async def _run(self) -> None:
        from redis.exceptions import RedisError

        pause = 0.0
        while True:
            try:
                await self._follow()
            except (RedisError, OSError, TimeoutError) as error:
                if self.up or not pause:
                    _log.warning("the bus %s is away, and is tried again: %s", self.shown, error)
                pause = _FIRST_PAUSE if self.up or not pause else min(2 * pause, _LONGEST_PAUSE)
            finally:
                self._down()
            await asyncio.sleep(pause)

    def _down(self) -> None:
        was_up, self.identity = self.up, None
        self._queue.clear()
        if was_up:
            self._changed()

    async def _follow(self) -> None:
        """Hears and publishes until the connection is lost."""
        loop = asyncio.get_running_loop()
        async with self._client.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            self._echoed = loop.time()
            parts = [loop.create_task(part) for part in (self._hear(subscription), self._beat(), self._publish())]
            try:
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _end(parts)
            for failure in [part.exception() for part in parts if not part.cancelled()]:
                if failure is not None:
                    raise failure

    async def _hear(self, subscription: PubSub) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message: dict[str, Any] | None = await subscription.get_message(
                ignore_subscribe_messages=True, timeout=_BEAT
            )
            if message is not None:
                # Whoever reaches the server may publish: what is no text is no news, and ends nothing.
                sender, _, text = message["data"].decode(errors="replace").partition(" ")
                if sender != self._name:
                    if text:
                        self._take(text)
                elif not text:
                    self._echoed = loop.time()
            if loop.time() - self._echoed > _SILENCE:
                raise TimeoutError("nothing comes through")

    def _take(self, text: str) -> None:
        try:
            self._heard(text)
        except Exception:
            _log.exception("news on the bus %s could not be taken in", self.shown)

    async def _beat(self) -> None:
        key = f"{self._channel}:identity"
        while True:
            pipeline = self._client.pipeline(transaction=False)
            # Two servers behind one name, or one that has forgotten everything, must not pass for the same bus.
            pipeline.set(key, self._name, nx=True)
            pipeline.get(key)
            before = self._echoed
            pipeline.publish(self._channel, f"{self._name} ")
            _, found, _ = await pipeline.execute()
            identity = found.decode(errors="replace")
            if self.identity not in (None, identity):
                raise ConnectionError("another server answers")
            while self.identity is None and self._echoed == before:
                await asyncio.sleep(0.005)
            if self.identity is None:
                self.identity = identity
                _log.info("the bus %s is up", self.shown)
                self._changed()
            await asyncio.sleep(_BEAT)

    async def _publish(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                if len(self._queue) > _BACKLOG:
                    raise TimeoutError(f"{len(self._queue)} messages wait to be published")
                batch, self._queue = self._queue[:_AT_ONCE], self._queue[_AT_ONCE:]
                pipeline = self._client.pipeline(transaction=False)
                for text in batch:
                    pipeline.publish(self._channel, f"{self._name} {text}")
                await pipeline.execute()


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks until they have ended: the client forgets a cancellation that meets the end of a connection."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_BEAT)


def _shown(url: str) -> str:
    """A URL without its password, even where that is not encoded, and ends for parsers what it is in."""
    scheme, apart, rest = url.partition("://")
    if not apart:
        scheme, rest = "", url
    _, at, hosts = rest.rpartition("@")
    return f"{scheme}{apart}{'***@' if at else ''}{hosts.partition('?')[0]}"
