"""Where the chunks of an app go: a `Channel`, and what is between it and those who push and who read.

What is pushed never waits; `drained` is for what can: it returns when there is room. Invariants:
- a step's chunks are committed only after the step is recorded, and rolled back when it failed or was not;
- memory is bounded: whoever does not read is waited for by those who can wait, and given up beyond a limit;
- a reader that is gone holds up nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, TypeVarTuple, Unpack
from urllib.parse import urlencode

from perdure.model.streams import Entry, StreamTooLargeError
from perdure.serving.outbound import Outbound, Reply, ServerError
from perdure.wire.streams import entry_bytes, metadata

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("perdure.serving")

ROOM: Final = 1024 * 1024
"""How many bytes may wait before whoever can wait does."""
MOST: Final = 64 * 1024 * 1024
"""How many may wait at all."""
_COMMENT: Final = b":\n\n"
_PIECE: Final = 64 * 1024
_FAREWELL: Final = 5.0
"""How long a server has for the end of what it is told (seconds)."""
_REFUSED: Final = frozenset({401, 403})
_UNKNOWN: Final = frozenset({404, 405})
"""What a server answers that takes no streams."""
_TOO_LARGE: Final = 413
_SHOWN: Final = 500


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

    @property
    def refusal(self) -> str | None:
        """Why no more is taken of this run, if that is for whoever pushes to know."""
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
        if self._channel.refusal is not None:
            raise StreamTooLargeError(self._channel.refusal)
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

    async def read(self, silence: float | None = None) -> AsyncIterator[bytes]:
        """What is written, in pieces, until the end; a comment where nothing is for `silence` seconds."""
        while not self.given_up:
            if self._parts:
                yield self._next()
            elif self.closed:
                return
            else:
                try:
                    async with asyncio.timeout(silence):
                        await self._wait()
                except TimeoutError:
                    yield _COMMENT

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


class Body:
    """What is read of a pipe, for a request that may have to be made again: what is sent is kept while it is little."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._sent: list[bytes] = []
        self._size = 0

    @property
    def is_whole(self) -> bool:
        """Whether all that was sent is still there."""
        return self._size <= ROOM

    async def read(self) -> AsyncIterator[bytes]:
        """From the beginning, to the end of the pipe."""
        for piece in self._sent:
            yield piece
        async for piece in self._pipe.read():
            self._size += len(piece)
            if self.is_whole:
                self._sent.append(piece)
            else:
                self._sent.clear()
            yield piece


class NoChannel:
    """For callers that take no stream."""

    refusal = None

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
        self.refusal: str | None = None

    def push(self, step: str | None, data: bytes) -> None:
        """See `Channel`."""
        if step is not None:
            self._open.add(step)
        self._tell(entry_bytes(Entry("data", step, data)))

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
            self._tell(entry_bytes(Entry("commit", step)))

    def rollback(self, step: str) -> None:
        """See `Channel`."""
        if step in self._open:
            self._open.discard(step)
            self._tell(entry_bytes(Entry("rollback", step)))

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
            self._pipe.write(metadata(self._run_id))
            self._sending = asyncio.create_task(self._send())
        self._pipe.write(event)

    async def _send(self) -> None:
        body, keys = Body(self._pipe), self._outbound.authorizations
        headers = {"content-type": "application/octet-stream", "x-request-id": self._request_id}
        path = tee_path(self._run_id)
        try:
            for key in keys:
                async with self._outbound.open("POST", path, {**key, **headers}, body.read()) as reply:
                    if reply.status not in _REFUSED or key is keys[-1] or not body.is_whole:
                        await self._heed(reply)
                        break
        except ServerError as error:
            _log.warning("run %s: its stream did not reach the server: %s", self._run_id, error)
        finally:
            self._pipe.give_up()

    async def _heed(self, reply: Reply) -> None:
        if reply.status in _UNKNOWN:
            _log.debug("run %s: the server takes no stream of it, it answered %d", self._run_id, reply.status)
        elif reply.status == _TOO_LARGE:
            said = b"".join([chunk async for chunk in reply.chunks])[:_SHOWN].decode("utf-8", "replace")
            self.refusal = f"the server takes no more of the stream of run {self._run_id}: {said}"
        elif reply.status // 100 != 2:
            _log.warning("run %s: the server took no stream, it answered %d", self._run_id, reply.status)


def tee_path(run_id: str) -> str:
    """Where a server takes what a run streams."""
    return f"/v1/realtime/publish/tee?{urlencode({'channel': run_id})}"
