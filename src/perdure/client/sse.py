"""Server-sent events out of bytes, however they are cut: the framing, and nothing of what the events mean.

Reads every framing that the HTML standard allows: LF, CRLF or CR, several `data` lines, comments, a byte order mark.
An event counts only once its blank line is there, so what a broken connection cut off is dropped, never guessed.
The cost is linear in the bytes, and what one event may hold in memory is bounded.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from perdure.client.errors import StreamError

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
"""The size of an event, in bytes, beyond which a stream is given up."""


class ServerSentEvent(NamedTuple):
    """One event as it was sent: `id` is None where the event itself carried none."""

    event: str
    data: str
    id: str | None = None


class SseParser:
    r"""Parses one stream. `last_id` is what `Last-Event-ID` would say, `retry` the wished pause in milliseconds.

    >>> SseParser().feed(b"event: a\r\ndata: 1\r\ndata: 2\r\n\r\ndata: cut o")
    [ServerSentEvent(event='a', data='1\n2', id=None)]
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry: int | None = None
        self._tail = bytearray()
        self._after_cr = False
        self._begun = False
        self._event = b""
        self._data: list[bytes] = []
        self._id: bytes | None = None
        self._size = 0

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete. Raises `StreamError` if one is larger than `MAX_EVENT_BYTES`."""
        if self._after_cr and data:
            # The CR has ended the line; this is the rest of the same line end.
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._tail += data
            self._check_size()
            return []
        first, *lines = data.split(b"\n")
        lines.insert(0, bytes(self._tail) + first)
        self._tail = bytearray(lines.pop())
        events: list[ServerSentEvent] = []
        for line in lines:
            if line:
                self._line(line)
            elif (event := self._complete()) is not None:
                events.append(event)
        self._check_size()
        return events

    def _check_size(self) -> None:
        if self._size + len(self._tail) > MAX_EVENT_BYTES:
            raise StreamError(f"an event of the stream is larger than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: bytes) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and value.isdigit():
            self.retry = int(value)

    def _complete(self) -> ServerSentEvent | None:
        self._begun = True
        name, data, raw_id = self._event or b"message", self._data, self._id
        self._event, self._data, self._id, self._size = b"", [], None, 0
        own_id = None if raw_id is None else raw_id.decode(errors="replace")
        if own_id is not None:
            self.last_id = own_id
        if not data:
            return None
        return ServerSentEvent(name.decode(errors="replace"), b"\n".join(data).decode(errors="replace"), own_id)
