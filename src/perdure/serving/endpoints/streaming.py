"""Where the chunks of an endpoint go: to the caller of the first request, or to the server that passes them on.

Both are `Channel`s. What is pushed never waits; `drained` is for what can: it returns when there is room. Invariants:
- a step's chunks are committed only after the step is recorded, and rolled back when it failed or was not;
- memory is bounded: whoever does not read is waited for by those who can wait, and given up beyond a limit;
- a caller that is gone holds up nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, TypeVarTuple, Unpack

from perdure.serving.endpoints import events
from perdure.serving.endpoints.checkpoints import tee_path
from perdure.serving.outbound import Outbound, ServerError

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("perdure.serving")

ROOM: Final = 1024 * 1024
"""How many bytes may wait before whoever can wait does."""
MOST: Final = 64 * 1024 * 1024
"""How many may wait at all."""
_PIECE: Final = 64 * 1024
_FAREWELL: Final = 5.0
"""How long a server has for the end of what it is told (seconds)."""


class Channel(Protocol):
    """Takes what is streamed. `step` is the hash of a step, None for what the handler itself streams."""

    def push(self, step: str | None, data: bytes) -> None:
        """Takes a chunk (JSON)."""
        ...

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        ...

    async def drained(self) -> None:
        """Returns when there is room for more."""
        ...

    def commit(self, step: str) -> None:
        """The step is recorded."""
        ...

    def rollback(self, step: str) -> None:
        """The step failed, or was not recorded; said twice, it is told once."""
        ...


class ChannelSink:
    """A channel as the sink of an execution: from any thread, in the event loop that the channel lives in.

    The host of the execution says what is recorded, for it knows before the handler does.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()

    def push(self, step_id: str | None, chunk: bytes) -> None:
        """See `StreamSink`."""
        self._do(self._channel.push, step_id, chunk)

    @property
    def full(self) -> bool:
        """See `StreamSink`."""
        return self._channel.full

    async def drained(self) -> None:
        """See `StreamSink`."""
        await self._channel.drained()

    async def finish(self, step_id: str) -> None:
        """See `StreamSink`. Chunks and results go different ways."""

    def commit(self, step_id: str) -> None:
        """See `StreamSink`."""

    def rollback(self, step_id: str) -> None:
        """See `StreamSink`."""
        self._do(self._channel.rollback, step_id)

    def _do(self, call: Callable[[Unpack[Ts]], None], *args: *Ts) -> None:
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            call(*args)
        else:
            self._loop.call_soon_threadsafe(call, *args)


class Pipe:
    """Bytes on their way from what streams to what reads. Once it is `given_up` it takes nothing."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._moved = asyncio.Event()
        self.closed = False
        self.given_up = False

    def write(self, data: bytes) -> None:
        if self.closed or self.given_up:
            return
        if self._size + len(data) > MOST:
            _log.warning("a caller reads its stream too slowly: %d bytes wait for it, it is given up", self._size)
            self.give_up()
            return
        self._parts.append(data)
        self._size += len(data)
        self._move()

    def close(self) -> None:
        """Nothing more comes; what waits is still read."""
        self.closed = True
        self._move()

    def give_up(self) -> None:
        """Nobody reads any more."""
        self.given_up = True
        self._parts.clear()
        self._size = 0
        self._move()

    @property
    def full(self) -> bool:
        return self._size > ROOM and not self.given_up

    async def drained(self) -> None:
        while self.full:
            await self._wait()

    async def read(self) -> AsyncIterator[bytes]:
        """What is written, in pieces, until the end."""
        while not self.given_up:
            if self._parts:
                yield self._next()
            elif self.closed:
                return
            else:
                await self._wait()

    def _next(self) -> bytes:
        piece = bytearray(self._parts.popleft())
        while self._parts and len(piece) + len(self._parts[0]) <= _PIECE:
            piece += self._parts.popleft()
        self._size -= len(piece)
        self._move()
        return bytes(piece)

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _wait(self) -> None:
        await self._moved.wait()


class CallerChannel:
    """The stream of the first request. Until something is pushed the answer may still be of another kind."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.pipe = Pipe()
        self.active = asyncio.Event()
        self._held = [events.metadata(run_id)]
        self._redirect: bytes | None = None
        self._open: set[str] = set()

    def push(self, step: str | None, data: bytes) -> None:
        """See `Channel`."""
        if step is not None:
            self._open.add(step)
        self._activate()
        self.pipe.write(events.chunk(step, data))

    @property
    def full(self) -> bool:
        """See `Channel`."""
        return self.pipe.full

    async def drained(self) -> None:
        """See `Channel`."""
        await self.pipe.drained()

    def commit(self, step: str) -> None:
        """See `Channel`. Told of every step, whether it streamed or not."""
        self._open.discard(step)
        self._tell(events.commit(step))

    def rollback(self, step: str) -> None:
        """See `Channel`."""
        if step in self._open:
            self._open.discard(step)
            self._tell(events.rollback(step))

    def redirect(self, url: str) -> None:
        """Tells, once, where the stream goes on if it ends without an answer."""
        if self._redirect is None:
            self._redirect = events.redirect_info(self.run_id, url)
            self._tell(self._redirect)

    def end(self, last: bytes = b"") -> None:
        """The stream is over, with its last event if there is one."""
        self._activate()
        if last:
            self.pipe.write(last)
        self.pipe.close()

    def _tell(self, event: bytes) -> None:
        if self.active.is_set():
            self.pipe.write(event)
        else:
            self._held.append(event)

    def _activate(self) -> None:
        if not self.active.is_set():
            self.active.set()
            self.pipe.write(b"".join(self._held))
            self._held.clear()


class NoChannel:
    """For callers that take no stream."""

    def push(self, step: str | None, data: bytes) -> None:
        """See `Channel`."""

    @property
    def full(self) -> bool:
        """See `Channel`."""
        return False

    async def drained(self) -> None:
        """See `Channel`."""

    def commit(self, step: str) -> None:
        """See `Channel`."""

    def rollback(self, step: str) -> None:
        """See `Channel`."""


class ServerChannel:
    """The stream of a later call, told to the server while it comes: one request, opened when there is something."""

    def __init__(self, outbound: Outbound, run_id: str, request_id: str) -> None:
        self._outbound = outbound
        self._run_id = run_id
        self._request_id = request_id
        self._pipe = Pipe()
        self._sending: asyncio.Task[None] | None = None
        self._open: set[str] = set()

    def push(self, step: str | None, data: bytes) -> None:
        """See `Channel`."""
        if step is not None:
            self._open.add(step)
        self._tell(events.chunk(step, data))

    @property
    def full(self) -> bool:
        """See `Channel`."""
        return self._pipe.full

    async def drained(self) -> None:
        """See `Channel`."""
        await self._pipe.drained()

    def commit(self, step: str) -> None:
        """See `Channel`. Of a step that streamed nothing, nothing is told: a request would be made for it."""
        if step in self._open:
            self._open.discard(step)
            self._tell(events.commit(step))

    def rollback(self, step: str) -> None:
        """See `Channel`."""
        if step in self._open:
            self._open.discard(step)
            self._tell(events.rollback(step))

    async def close(self, last: bytes = b"") -> None:
        """Tells the last event, and waits until the server has it all."""
        if last:
            self._tell(last)
        self._pipe.close()
        if self._sending is not None:
            done, _ = await asyncio.wait([self._sending], timeout=_FAREWELL)
            if not done:
                self._sending.cancel()

    def _tell(self, event: bytes) -> None:
        if self._sending is None:
            self._pipe.write(events.metadata(self._run_id))
            self._sending = asyncio.create_task(self._send())
        self._pipe.write(event)

    async def _send(self) -> None:
        headers = {
            **self._outbound.authorization,
            "content-type": "application/octet-stream",
            "x-request-id": self._request_id,
        }
        try:
            async with self._outbound.open("POST", tee_path(self._run_id), headers, self._pipe.read()) as reply:
                if reply.status // 100 != 2:
                    _log.warning("run %s: the server took no stream, it answered %d", self._run_id, reply.status)
        except ServerError as error:
            _log.warning("run %s: its stream did not reach the server: %s", self._run_id, error)
        finally:
            self._pipe.give_up()
