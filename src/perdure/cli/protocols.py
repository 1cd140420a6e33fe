"""How connections are read and answered: as uvicorn does it, with a bound on what one of them makes the server keep.

Neither uvicorn nor its parser limits the first line of a request, headers, trailers and the lines between chunks, which
are all kept until the body begins or ends: one connection could take all memory. Bodies are bounded where they are
read, since each route has its own limit. So do the answers to pings that a client does not take pile up.
"""

from __future__ import annotations

from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11

MAX_HEAD: Final = 512 * 1024
"""Bytes of a request besides its body; a token for a thousand topics, in a URL, is under half of it."""
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 30\r\nconnection: close\r\n\r\n"
    b"the request's head is too big\n"
)

# A WebSocket's head was bounded here before it comes there. Those limits are far below ours (a token for sixty topics
# is over them), and beyond them uvicorn gives no answer at all.
http11.MAX_LINE_LENGTH = MAX_HEAD
http11.MAX_NUM_HEADERS = MAX_HEAD


class BoundedHttp(HttpToolsProtocol):
    """One connection, until it becomes a WebSocket."""

    _unread = 0
    """Bytes since the last piece of a body, or the last end of a request."""

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD and not self.transport.is_closing():
            # Before the first request there is none, whatever its type says.
            cycle = cast("RequestResponseCycle | None", self.cycle)
            if cycle is None or cycle.response_complete:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket."""

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            # Only the last ping needs an answer, and this client does not take what it gets.
            self.conn.data_to_send()
