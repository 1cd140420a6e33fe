"""A served app as an ASGI application: to be mounted in another one, or run as it is."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Unpack
from urllib.parse import parse_qsl, quote

from perdure.model.limits import MAX_REQUEST_BYTES
from perdure.sdk.app import App
from perdure.serving.endpoint import Endpoint
from perdure.serving.exchange import Answer, Request, problem
from perdure.serving.settings import ServeOptions, resolve

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_FRAMEWORK = "asgi"
_log = logging.getLogger("perdure.serving")


def serve(app: App, **options: Unpack[ServeOptions]) -> ServedApp:
    """An ASGI application by which a server of the protocol calls the functions of an app.

    >>> served = serve(App("shop"), is_dev=True)

    Mount it in Starlette, FastAPI or Litestar, or run it with an ASGI server: see docs/serving.md. Options: see
    `ServeOptions`. `app.send` goes to that server from then on, unless an engine of this process runs the app.
    Raises `ConfigError`.
    """
    return ServedApp(make_endpoint(app, options))


def make_endpoint(app: App, options: ServeOptions) -> Endpoint:
    """The endpoint of an app under the wall clock. Raises `ConfigError`."""
    return Endpoint(app, resolve(options), wall_clock)


def wall_clock() -> int:
    """The time in ms since the epoch."""
    return time.time_ns() // 1_000_000


class ServedApp:
    """An ASGI application. Made by `serve`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        if len(body) > MAX_REQUEST_BYTES:
            message = f"the body has more than {MAX_REQUEST_BYTES} bytes"
            await _send(send, problem(413, "body_too_large", "BodyTooLargeError", message, retry=False))
            return
        request = _request(scope, body)
        request.gone = asyncio.Event()
        watch = asyncio.create_task(_hear(receive, request.gone))
        watch.add_done_callback(_forget)
        try:
            found = await self._endpoint.answer(request)
        finally:
            watch.cancel()
        if not request.gone.is_set():
            await _send(send, found, head=scope["method"] == "HEAD")


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _read(receive: Receive) -> bytes | None:
    """The body, None when the caller hung up before its end. Of one that is too large, no more than shows it."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > MAX_REQUEST_BYTES:
            return bytes(body)


async def _hear(receive: Receive, gone: asyncio.Event) -> None:
    message = await receive()
    if message["type"] == "http.disconnect":
        gone.set()


def _forget(watch: asyncio.Task[None]) -> None:
    # What stands between may refuse to be listened to: then nobody knows when the caller hangs up.
    if not watch.cancelled() and watch.exception() is not None:
        _log.debug("cannot hear whether a caller hangs up", exc_info=watch.exception())


def _request(scope: Scope, body: bytes) -> Request:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(
        method=scope["method"],
        url=url_of(scope, headers.get("host")),
        query=dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)),
        headers=headers,
        body=body,
        framework=_FRAMEWORK,
    )


def url_of(scope: Scope, host: str | None) -> str:
    """The URL of a request as its caller wrote it, without its query."""
    if host is None:
        name, port = scope.get("server") or ("localhost", None)
        host = name if port is None else f"{name}:{port}"
    # What mounts an app may leave in `path` only the rest of it; the raw path stays what the caller wrote.
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")
    root = quote(scope.get("root_path", ""))
    whole = path if path.startswith(root) else f"{root.rstrip('/')}/{path.lstrip('/')}"
    return f"{scope.get('scheme', 'http')}://{host}{whole}"


async def _send(send: Send, found: Answer, *, head: bool = False) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found.headers.items()]
    headers.append((b"content-length", str(len(found.body)).encode()))
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else found.body})
