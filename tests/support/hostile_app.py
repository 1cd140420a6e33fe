"""An app as it should not be: a raw TCP server that treats each request in the way that a test chooses.

`async with hostile("silent") as app:` listens on a free port of this machine; `app.url` is where to call it, and
`app.mode` may be changed between requests. Whatever it holds is closed when the block ends, so nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias

Mode: TypeAlias = Literal[
    "answers", "silent", "slow_answer", "drip", "drips_headers", "closes_at_once", "closes_in_headers",
    "closes_in_body", "closes_in_chunks", "resets", "half_closed", "garbage", "garbage_status", "empty",
    "not_json", "no_sdk", "long_length", "short_length", "negative_length", "two_lengths", "oversized",
    "oversized_until_closed", "oversized_chunks", "endless_chunks", "endless_body", "endless_headers",
    "huge_header", "many_headers", "endless_line", "gzip_bomb", "bad_gzip", "bad_chunks", "not_utf8",
    "redirects_for_ever", "redirects_nowhere", "redirects_to_file", "continues", "switches", "early_answer",
    "answers_twice", "closes_after",
]  # fmt: skip
"""How a request is treated:

answers                 as it should be: `status`, `headers` and `body` of the app
silent                  reads the request, and never answers
slow_answer             answers after `delay` seconds
drip                    an announced body, one byte each `delay` seconds
drips_headers           a header, one byte each `delay` seconds
closes_at_once          closes without reading
closes_in_headers       closes in the middle of a header
closes_in_body          announces more than it sends, and closes
closes_in_chunks        closes in the middle of a chunk
resets                  closes so that the other side sees a reset, in the middle of the body
half_closed             ends its side before it answered, and goes on to read
garbage                 bytes that are no HTTP
garbage_status          a status line with a status that is none
empty                   200 and no body
not_json                200 and a body that is no JSON, as an SDK
no_sdk                  200 and a page, without the header of an SDK
long_length             a content-length larger than the body, without closing
short_length            a content-length smaller than the body
negative_length         a content-length below nought
two_lengths             two content-lengths that disagree
oversized               an announced body of more than 8 MiB
oversized_until_closed  the same without a length; it ends as the connection does
oversized_chunks        the same in chunks
endless_chunks          chunks until somebody stops it
endless_body            a body without a length until somebody stops it
endless_headers         headers until somebody stops it
huge_header             one header of a MiB
many_headers            50,000 headers
endless_line            a status line that does not end
gzip_bomb               64 KiB that unpack to 64 MiB
bad_gzip                a body that says it is gzip, and is not
bad_chunks              chunks whose sizes are no numbers
not_utf8                a body that is not UTF-8, but says so
redirects_for_ever      307 to itself
redirects_nowhere       307 to a port where nobody listens
redirects_to_file       302 to a file: URL
continues               100 Continue for ever
switches                101 Switching Protocols, unasked
early_answer            answers before the request has been read, and closes
answers_twice           two answers to one request
closes_after            answers, says keep-alive, and closes the connection
"""

_PIECE: Final = b"x" * 65536
_OVERSIZED: Final = 8 * 1024 * 1024 + 65536
_BOMB: Final = 64 * 1024 * 1024


class HostileApp:
    """The server. `requests` are the bodies that arrived, `hung_up` counts the callers that left before the end."""

    def __init__(self, mode: Mode) -> None:
        self.mode: Mode = mode
        self.delay = 1.0
        self.status = 200
        self.headers: dict[str, str] = {"content-type": "application/json", "x-inngest-sdk": "inngest-py:v0.5.0"}
        self.body = b'{"ok":true}'
        self.requests: list[bytes] = []
        self.heads: list[str] = []
        self.connections = 0
        self.hung_up = 0
        self.port = 0
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/inngest?fnId=app-fn&stepId=step"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up += 1
        except asyncio.CancelledError:
            # The test is over, and what the caller did not read is nobody's any more.
            writer.transport.abort()
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Treats one request; whether the connection goes on."""
        if self.mode == "closes_at_once":
            return False
        if self.mode != "early_answer":
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            self.requests.append(await reader.readexactly(_length(head)))
        return await MODES[self.mode](self, reader, writer)

    async def close(self) -> None:
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@asynccontextmanager
async def hostile(mode: Mode = "answers") -> AsyncGenerator[HostileApp]:
    """A hostile app that listens for as long as the block lasts."""
    app = HostileApp(mode)
    server = await asyncio.start_server(app._serve, "127.0.0.1", 0)
    app.port = server.sockets[0].getsockname()[1]
    try:
        yield app
    finally:
        server.close()
        await app.close()
        await server.wait_closed()


def _length(head: str) -> int:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0


def _head(app: HostileApp, *more: str, status: str | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status or app.status} Whatever", *(f"{name}: {value}" for name, value in app.headers.items())]
    return ("\r\n".join([*lines, *more]) + "\r\n\r\n").encode("latin-1")


_Serve: TypeAlias = Callable[[HostileApp, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


def _sends(
    make: Callable[[HostileApp], Iterator[bytes]], *, then: Literal["close", "go_on", "wait"] = "close"
) -> _Serve:
    """Sends what `make` gives; then closes, takes the next request, or waits until the caller is gone."""

    async def serve(app: HostileApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for piece in make(app):
            writer.write(piece)
            await writer.drain()
        if then == "wait":
            await _until_gone(app, reader)
        return then == "go_on"

    return serve


def _drips(make: Callable[[HostileApp], tuple[bytes, bytes]]) -> _Serve:
    """Sends the first part at once, and the second a byte at a time."""

    async def serve(app: HostileApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        at_once, slowly = make(app)
        writer.write(at_once)
        gone = asyncio.ensure_future(_until_gone(app, reader))
        try:
            for byte in slowly:
                writer.write(bytes([byte]))
                await asyncio.wait([gone], timeout=app.delay)
                if gone.done():
                    return False
        finally:
            gone.cancel()
            # It has to be gone before anything else reads.
            await asyncio.wait([gone])
        return True

    return serve


async def _until_gone(app: HostileApp, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass
    app.hung_up += 1


async def _resets(app: HostileApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(_head(app, "content-length: 1000") + b"{")
    await writer.drain()
    # With this option a socket is closed by a reset.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def _half_closed(app: HostileApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write_eof()
    await _until_gone(app, reader)
    return False


async def _slow_answer(app: HostileApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    gone = asyncio.ensure_future(_until_gone(app, reader))
    try:
        await asyncio.wait([gone], timeout=app.delay)
    finally:
        gone.cancel()
    writer.write(b"".join(_answer(app)))
    return False


def _answer(app: HostileApp) -> Iterator[bytes]:
    yield _head(app, f"content-length: {len(app.body)}") + app.body


def _of(*pieces: bytes) -> Callable[[HostileApp], Iterator[bytes]]:
    return lambda app: iter(pieces)


def _with_head(body: bytes, *headers: str, status: str | None = None) -> Callable[[HostileApp], Iterator[bytes]]:
    return lambda app: iter([_head(app, *headers, status=status), body])


def _for_ever(first: Callable[[HostileApp], bytes], piece: bytes) -> Callable[[HostileApp], Iterator[bytes]]:
    def pieces(app: HostileApp) -> Iterator[bytes]:
        yield first(app)
        while True:
            yield piece

    return pieces


def _oversized(*headers: str, before: bytes = b"", after: bytes = b"") -> Callable[[HostileApp], Iterator[bytes]]:
    def pieces(app: HostileApp) -> Iterator[bytes]:
        yield _head(app, *headers)
        for _ in range(0, _OVERSIZED, len(_PIECE)):
            yield before + _PIECE + after
        if before:
            yield b"0\r\n\r\n"

    return pieces


def _bomb(app: HostileApp) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(_PIECE) for _ in range(0, _BOMB, len(_PIECE))) + packer.flush()
    yield _head(app, "content-encoding: gzip", f"content-length: {len(packed)}") + packed


def _redirect(to: Callable[[HostileApp], str], status: str = "307") -> Callable[[HostileApp], Iterator[bytes]]:
    return lambda app: iter([_head(app, f"location: {to(app)}", "content-length: 0", status=status)])


def _names(count: int) -> bytes:
    return b"".join(b"x-header-%d: y\r\n" % number for number in range(count))


def _line(app: HostileApp) -> bytes:
    return f"HTTP/1.1 {app.status} OK\r\n".encode()


_CHUNKED: Final = "transfer-encoding: chunked"
_CHUNK: Final = b"10000\r\n" + _PIECE + b"\r\n"

MODES: Final[dict[Mode, _Serve]] = {
    "answers": _sends(_answer, then="go_on"),
    "silent": _sends(_of(), then="wait"),
    "slow_answer": _slow_answer,
    "drip": _drips(lambda app: (_head(app, f"content-length: {len(app.body)}"), app.body)),
    "drips_headers": _drips(lambda app: (_line(app), b"x-header: " + b"y" * 4000)),
    "closes_at_once": _sends(_of()),
    "closes_in_headers": _sends(lambda app: iter([_line(app) + b"content-type: applica"])),
    "closes_in_body": _sends(_with_head(b'{"ok":', "content-length: 1000")),
    "closes_in_chunks": _sends(_with_head(b'5\r\n{"ok"\r\n100\r\n:tr', _CHUNKED)),
    "resets": _resets,
    "half_closed": _half_closed,
    "garbage": _sends(_of(bytes(range(256)) * 16, b"\r\n\r\n")),
    "garbage_status": _sends(_with_head(b"{}", "content-length: 2", status="two hundred")),
    "empty": _sends(_with_head(b"", "content-length: 0"), then="go_on"),
    "not_json": _sends(_with_head(b"<html>", "content-length: 6"), then="go_on"),
    "no_sdk": _sends(lambda app: iter([_line(app) + b"content-length: 6\r\n\r\n<html>"]), then="go_on"),
    "long_length": _sends(_with_head(b"{}", "content-length: 1000"), then="wait"),
    "short_length": _sends(_with_head(b'{"ok":true,"more":1}', "content-length: 11"), then="wait"),
    "negative_length": _sends(_with_head(b"{}", "content-length: -2")),
    "two_lengths": _sends(_with_head(b'{"a":1}', "content-length: 7", "content-length: 2")),
    "oversized": _sends(_oversized(f"content-length: {_OVERSIZED}")),
    "oversized_until_closed": _sends(_oversized("connection: close")),
    "oversized_chunks": _sends(_oversized(_CHUNKED, before=b"10000\r\n", after=b"\r\n")),
    "endless_chunks": _sends(_for_ever(lambda app: _head(app, _CHUNKED), _CHUNK)),
    "endless_body": _sends(_for_ever(lambda app: _head(app, "connection: close"), _PIECE)),
    "endless_headers": _sends(_for_ever(_line, _names(100))),
    "huge_header": _sends(_with_head(b"{}", "content-length: 2", "x-huge: " + "y" * 1024 * 1024)),
    "many_headers": _sends(lambda app: iter([_line(app), _names(50_000), b"content-length: 2\r\n\r\n{}"])),
    "endless_line": _sends(_for_ever(lambda app: b"HTTP/1.1 200 ", _PIECE)),
    "gzip_bomb": _sends(_bomb),
    "bad_gzip": _sends(_with_head(b"\x1f\x8b\x08 no gzip", "content-encoding: gzip", "content-length: 11")),
    "bad_chunks": _sends(_with_head(b"what\r\n{}\r\n", _CHUNKED)),
    "not_utf8": _sends(_with_head(b'{"a":"\xff\xfe"}', "content-length: 10"), then="go_on"),
    "redirects_for_ever": _sends(_redirect(lambda app: app.url), then="go_on"),
    "redirects_nowhere": _sends(_redirect(lambda app: "http://127.0.0.1:9/"), then="go_on"),
    "redirects_to_file": _sends(_redirect(lambda app: "file:///etc/hosts", "302"), then="go_on"),
    "continues": _sends(_for_ever(lambda app: b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "switches": _sends(_of(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: chess\r\nconnection: upgrade\r\n\r\n")),
    "early_answer": _sends(_answer),
    "answers_twice": _sends(lambda app: iter([*_answer(app), *_answer(app)]), then="go_on"),
    "closes_after": _sends(_answer),
}  # fmt: skip
"""How each mode serves a request that was read: it writes, and says whether the connection goes on."""
