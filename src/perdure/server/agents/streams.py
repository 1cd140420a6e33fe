"""Streams of chunks over HTTP, framed as clients of the agents protocol read them.

Each frame is `data: <json>`, a space behind the colon and an empty line behind it: they read nothing else, and end at
`data: [DONE]`. Comments keep silent connections open. Invariant: however a connection ends, what fed it is closed, and
told whether the end was reached.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perdure.model.json import Json, encode

HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
}
HEARTBEAT: Final = b": heartbeat\n\n"
DONE: Final = b"data: [DONE]\n\n"
SILENCE: Final = 15.0
"""Seconds after which a comment is said."""
_log = logging.getLogger("perdure.server")


class CutOffError(OSError):
    """There is no more of a run here, and it is not over: the server stops. No client may take that for its end."""


def frame(content: Json, id: int | None = None) -> bytes:
    """One frame; with an id, browsers come back to the place behind it.

    >>> frame({"type": "start"})
    b'data: {"type":"start"}\\n\\n'
    """
    told = b"data: " + encode(content) + b"\n\n"
    return told if id is None else b"id: %d\n" % id + told


class EventStream(Response):
    """A response whose body is what `frames` gives, then `[DONE]`.

    `close` is called once at the end, with whether the end was reached; not so when the client has left, or something
    failed.
    """

    def __init__(
        self, frames: AsyncIterator[bytes], close: Callable[[bool], Awaitable[None]], silence: float = SILENCE
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._frames = frames
        self._close = close
        self._silence = silence
        self._said_at = 0.0
        self._is_saying = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        telling = asyncio.ensure_future(self._tell(send))
        leaving = asyncio.ensure_future(_left(receive))
        reached = False
        try:
            await asyncio.wait([telling, leaving], return_when=asyncio.FIRST_COMPLETED)
            reached = telling.done() and not telling.cancelled() and telling.exception() is None
        finally:
            for task in (telling, leaving):
                task.cancel()
            found, _ = await asyncio.gather(telling, leaving, return_exceptions=True)
            await self._close(reached)
        if isinstance(found, Exception) and not isinstance(found, OSError):
            raise found

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # One task for all comments, not a timer for each frame: frames are many, and silence is rare.
        beating = asyncio.ensure_future(self._beat(send))
        try:
            async for said in self._frames:
                await self._say(send, said)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        await send({"type": "http.response.body", "body": DONE, "more_body": False})

    async def _say(self, send: Send, said: bytes) -> None:
        self._is_saying = True
        await send({"type": "http.response.body", "body": said, "more_body": True})
        self._is_saying, self._said_at = False, asyncio.get_running_loop().time()

    async def _beat(self, send: Send) -> None:
        """Says a comment after each silence."""
        now = asyncio.get_running_loop().time
        self._said_at = now()
        while True:
            quiet = now() - self._said_at
            if quiet < self._silence:
                await asyncio.sleep(self._silence - quiet)
            elif self._is_saying:
                # Somebody who reads slowly is not silent: what waits for them is said first.
                await asyncio.sleep(self._silence)
            else:
                await self._say(send, HEARTBEAT)


async def _left(receive: Receive) -> None:
    """Waits until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
