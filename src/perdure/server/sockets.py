"""WebSockets at the door: a handshake passes the same guard as a request, and no error leaves it untold.

A handshake that is refused gets a real HTTP answer. After it was accepted, an unexpected error closes the socket
with 1011 and is logged here; what the socket says meanwhile is its route's business.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a handshake that was not accepted; where the HTTP server cannot send an answer, it is a bare 403."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})


class Handshake:
    """Sends what a route says, adds the headers of the server to its first message, and knows how far it came."""

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0
        """What the handshake was answered with: 101 when it was accepted, 0 while it is open."""
        self.closed = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.status = 101
            message["headers"] = [*message.get("headers", ()), *self._headers]
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        elif kind == "websocket.close":
            self.status = self.status or 403
            self.closed = True
        await self._send(message)

    async def fail(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Ends it after an unexpected error: with the response if it can still be sent."""
        if not self.status:
            await refuse(response, scope, receive, self.send)
        elif self.status == 101 and not self.closed:
            await self.send({"type": "websocket.close", "code": INTERNAL_ERROR, "reason": "internal server error"})
