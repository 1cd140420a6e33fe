"""Answers over HTTP: one JSON message, or, where something is told before, a stream of events with the answer last."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive, Scope, Send

from perdure.model.json import Json, encode
from perdure.server.bodies import header

PING: Final = 15.0
"""Seconds of silence after which a comment is sent, so that nobody between takes the connection for dead."""
STREAM: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
}


def accepts(scope: Scope, media: str) -> bool:
    """Whether a client reads this kind of answer.

    >>> accepts({"headers": [(b"accept", b"application/json, text/event-stream;q=0.9")]}, "text/event-stream")
    True
    """
    family = media.partition("/")[0]
    asked = header(scope, b"accept") or "*/*"
    kinds = {each.partition(";")[0].strip().lower() for each in asked.split(",")}
    return bool(kinds & {media, f"{family}/*", "*/*"})


def event(message: Json) -> bytes:
    """A message as an event of a stream."""
    return b"event: message\ndata: " + encode(message) + b"\n\n"


async def plain(send: Send, message: Json, status: int = 200, headers: dict[str, str] | None = None) -> None:
    """Answers with JSON."""
    body = encode(message)
    shown = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": raw(shown)})
    await send({"type": "http.response.body", "body": body})


async def empty(send: Send, status: int, headers: dict[str, str] | None = None) -> None:
    """Answers with nothing but a status."""
    shown = {"content-length": "0", **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": raw(shown)})
    await send({"type": "http.response.body", "body": b""})


async def problem(
    send: Send,
    status: int,
    code: int,
    message: str,
    headers: dict[str, str] | None = None,
    *,
    id: Json = None,
    data: Json = None,
) -> None:
    """Answers a request that is refused."""
    error: dict[str, Json] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    await plain(send, {"jsonrpc": "2.0", "id": id, "error": error}, status, headers)


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def left(receive: Receive) -> None:
    """Waits until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Telling:
    """The answer to one request. A client that cannot read a stream is told nothing but the answer."""

    def __init__(self, send: Send, *, can_stream: bool) -> None:
        self.can_stream = can_stream
        self.headers: dict[str, str] = {}
        self._send = send
        self._streams = False
        self._lock = asyncio.Lock()
        self._pinging: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(PING, self._ping_on) if can_stream else None

    async def tell(self, message: Json) -> None:
        """Tells something before the answer; from now on this is a stream."""
        if self.can_stream:
            await self._write(event(message))

    async def end(self, message: Json, status: int = 200) -> None:
        """Gives the answer; in a stream its status was told before."""
        self.rest()
        async with self._lock:
            if not self._streams:
                await plain(self._send, message, status, self.headers)
            else:
                await self._send({"type": "http.response.body", "body": event(message), "more_body": False})

    def rest(self) -> None:
        """Sends no more comments."""
        if self._timer is not None:
            self._timer.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    async def _write(self, content: bytes) -> None:
        async with self._lock:
            if not self._streams:
                headers = raw({**STREAM, **self.headers})
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
                self._streams = True
            await self._send({"type": "http.response.body", "body": content, "more_body": True})

    def _ping_on(self) -> None:
        self._pinging = asyncio.ensure_future(self._ping())

    async def _ping(self) -> None:
        while True:
            await self._write(b": ping\n\n")
            await asyncio.sleep(PING)
