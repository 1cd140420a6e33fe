"""What runs put out, passed on from who records them: for `app.endpoint_proxy`, and by endpoints of an engine whose
server has no address of its own.

Whoever asks shows the token of the run, which the server checks. Answers are passed on as they come: status, headers,
bytes; a stream of events while it goes on, and from where its reader left off.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode

import msgspec

from perdure.model.errors import ConfigError
from perdure.model.json import Json, encode
from perdure.sdk.endpoint import Owner
from perdure.serving.endpoints.checkpoints import output_path, stream_path
from perdure.serving.endpoints.links import Link, link_of
from perdure.serving.endpoints.requests import EVENT_STREAM
from perdure.serving.outbound import ServerError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger("perdure.serving")
_RUN: Final = "perdure-run"
_TOKEN: Final = "perdure-token"
_STREAM: Final = "perdure-stream"
_OF_THE_CONNECTION: Final = frozenset({"connection", "date", "keep-alive", "server", "transfer-encoding", "vary"})

Headers = list[tuple[str, str]]


class Wanted(msgspec.Struct, frozen=True):
    """Which output is asked for: that of a run, or its stream, from after the event with the id `after`."""

    run_id: str
    token: str
    stream: bool
    after: str | None


def own_query(run_id: str, token: str, *, stream: bool) -> str:
    """The query by which an endpoint itself is asked for an output."""
    return urlencode([(_RUN, run_id), (_TOKEN, token), *([(_STREAM, "1")] if stream else [])])


def wanted_output(scope: Scope) -> Wanted | None:
    """What a request of such a query asks for, None for a request of the endpoint's own."""
    query = _query(scope)
    if _RUN not in query or _TOKEN not in query:
        return None
    return Wanted(query[_RUN], query[_TOKEN], _STREAM in query, _header(scope, b"last-event-id"))


async def answer_output(
    link: Link, wanted: Wanted, scope: Scope, receive: Receive, send: Send, cors: Headers | None = None
) -> None:
    """Passes an output on, as long as its reader is there: outputs may take long, and nobody else would let go."""
    passing = asyncio.ensure_future(_pass_on(link, wanted, scope, send, cors))
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait([passing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if passing.done():
            passing.result()
    finally:
        passing.cancel()
        leaving.cancel()
        await asyncio.wait([passing, leaving])


async def _left(receive: Receive) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except Exception:
        _log.debug("cannot hear whether a reader hangs up", exc_info=True)
        await asyncio.get_running_loop().create_future()


async def _pass_on(link: Link, wanted: Wanted, scope: Scope, send: Send, cors: Headers | None) -> None:
    method = "HEAD" if scope["method"] == "HEAD" else "GET"
    path = stream_path(wanted.token) if wanted.stream else output_path(wanted.run_id, wanted.token)
    headers = {"accept": EVENT_STREAM} if wanted.stream else {}
    if wanted.after:
        headers["last-event-id"] = wanted.after
    begun = False
    try:
        async with link.outbound.open(method, path, headers) as reply:
            found = [pair for pair in reply.headers if _is_passed_on(pair[0])]
            await _start(send, reply.status, [*found, *(cors or [])])
            begun = True
            async for chunk in reply.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except ServerError as error:
        _log.warning("run %s: its output could not be passed on: %s", wanted.run_id, error)
        if begun:
            raise
        await _json(send, 502, {"error": "the server of the run could not be reached"}, cors)


def _is_passed_on(name: str) -> bool:
    return name not in _OF_THE_CONNECTION and not name.startswith(("access-control-", "x-inngest-server-"))


class Proxy:
    """An ASGI application that passes on outputs. Made by `app.endpoint_proxy()`."""

    def __init__(self, app: Owner, allow_origin: str | None) -> None:
        self._app = app
        self._cors: Headers = []
        if allow_origin is not None:
            self._cors = [("access-control-allow-origin", allow_origin)]
            if allow_origin != "*":
                self._cors.append(("vary", "origin"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ConfigError("endpoint_proxy", [f"answers HTTP only, got {scope['type']}"])
        method: str = scope["method"]
        if method == "OPTIONS":
            allowed = [
                ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
                ("access-control-allow-headers", "Content-Type, Last-Event-ID"),
                ("access-control-max-age", "86400"),
            ]
            await _start(send, 204, [*self._cors, *(allowed if self._cors else [])])
            await send({"type": "http.response.body", "body": b""})
            return
        if method not in ("GET", "HEAD"):
            refused = [*self._cors, ("allow", "GET, HEAD, OPTIONS")]
            await _json(send, 405, {"error": "use GET"}, refused)
            return
        query = _query(scope)
        if not query.get("runId") or not query.get("token"):
            await _json(send, 400, {"error": "Missing runId or token query parameter"}, self._cors)
            return
        stream = EVENT_STREAM in (_header(scope, b"accept") or "")
        wanted = Wanted(query["runId"], query["token"], stream, _header(scope, b"last-event-id"))
        await answer_output(link_of(self._app), wanted, scope, receive, send, self._cors)


def proxy(app: Owner, allow_origin: str | None) -> ASGIApp:
    """The proxy of an app."""
    return Proxy(app, allow_origin)


def _query(scope: Scope) -> dict[str, str]:
    found = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    return {name: values[-1] for name, values in found.items()}


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), None)


async def _json(send: Send, status: int, told: Json, cors: Headers | None) -> None:
    body = encode(told)
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *(cors or [])]
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, headers: Headers) -> None:
    told = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
