"""The caller of an endpoint, who may be gone at any time without anything else noticing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from perdure.serving.endpoints.requests import EVENT_STREAM
from perdure.serving.endpoints.responses import Captured
from perdure.serving.endpoints.streaming import CallerChannel

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

KEEPALIVE: Final = 15.0
"""How long a stream may be silent (seconds) before a comment tells that it goes on: what stands between gives up."""
_log = logging.getLogger("perdure.serving")


class AnswerBrokeOffError(Exception):
    """The answer could not be completed; whoever serves closes the connection, which tells the caller."""


class Caller:
    """Who made a request."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._stream: CallerChannel | None = None
        self._answered = asyncio.Event()
        self._gone = self._aborted = False

    @property
    def is_answered(self) -> bool:
        return self._answered.is_set()

    def follow(self, stream: CallerChannel) -> None:
        """The answer is this stream, once it is active."""
        self._stream = stream

    async def send(self, message: Message) -> None:
        """Sends a part of the answer, to whoever is still there."""
        if not self._gone:
            try:
                await self._send(message)
            except Exception:
                _log.debug("a caller hung up", exc_info=True)
                self._leave()

    async def answer(self, found: Captured) -> None:
        """Answers, whole."""
        headers = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in found.pairs]
        if found.status >= 200 and found.status not in (204, 304):
            headers.append((b"content-length", str(len(found.body)).encode()))
        await self.send({"type": "http.response.start", "status": found.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": found.body})
        self.answered()

    def answered(self) -> None:
        """The answer is complete."""
        self._answered.set()

    def abort(self) -> None:
        """The answer breaks off."""
        self._aborted = True
        self._answered.set()

    async def served_by(self, work: asyncio.Task[None]) -> None:
        """Returns when the work is done, at which the caller has been answered long since, or is gone.

        So whoever serves waits for the work before it stops. Being cancelled does not cancel the work.
        """
        watch = asyncio.ensure_future(self._watch())
        answered = asyncio.ensure_future(self._answered.wait())
        flowing = asyncio.ensure_future(self._flow())
        try:
            while not self._answered.is_set() and not watch.done():
                await asyncio.wait([watch, answered, work], return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    break
            if self._stream is not None and self._stream.active.is_set():
                await asyncio.wait([watch, flowing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave()
            for task in (watch, answered, flowing):
                task.cancel()
            await asyncio.wait([watch, answered, flowing])
        if self._aborted:
            raise AnswerBrokeOffError("the response of the endpoint broke off")
        await asyncio.shield(work)

    async def _flow(self) -> None:
        """Sends the stream, from when it is active."""
        if self._stream is None:
            return
        await self._stream.active.wait()
        headers = [
            (b"content-type", EVENT_STREAM.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self._stream.pipe.read(KEEPALIVE):
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def _watch(self) -> None:
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except Exception:
            # What stands between may refuse to be listened to: then nobody knows when the caller hangs up.
            _log.debug("cannot hear whether a caller hangs up", exc_info=True)
            await asyncio.get_running_loop().create_future()

    def _leave(self) -> None:
        self._gone = True
        if self._stream is not None:
            self._stream.pipe.give_up()
