"""A request to an endpoint: read once, kept as the event of its run, and given to the handler as often as it is asked.

Invariant: what a handler sees of the body is the same in the first call and in every later one, byte by byte.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from perdure.model.json import Json
from perdure.serving.asgi import url_of
from perdure.wire import headers as names

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope

EVENT_STREAM: Final = "text/event-stream"
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/\\?#@:\[\]]+)(:\d{1,5})?", re.ASCII)


class CallerGoneError(Exception):
    """The caller hung up before its request was complete."""


class BodyTooLargeError(Exception):
    """The body is larger than the endpoint takes."""


class EndpointRequest(msgspec.Struct):
    """A request as it came."""

    scope: dict[str, Json]
    body: bytes

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    def header(self, name: str) -> str | None:
        """The value of a header, by its name in lower case."""
        wanted = name.encode("latin-1")
        found = [value.decode("latin-1") for key, value in self.scope["headers"] if key.lower() == wanted]
        return found[0] if found else None

    def _whole(self, name: str) -> str | None:
        """The value of a header that may come in several lines."""
        wanted = name.encode("latin-1")
        found = [value.decode("latin-1") for key, value in self.scope["headers"] if key.lower() == wanted]
        return ("; " if name == "cookie" else ", ").join(found) if found else None

    def as_recorded(self, data: dict[str, Json]) -> EndpointRequest:
        """The request with those headers of the first one that its event has: on the way here they may have changed."""
        if not data.get("body_encoding"):
            return self
        kept = {str(name): str(value) for name, value in (data.get("headers") or {}).items()}
        if data.get("content_type"):
            kept["content-type"] = data["content_type"]
        replaced = {name.encode("latin-1") for name in (*kept, "content-type")}
        headers = [pair for pair in self.scope["headers"] if pair[0].lower() not in replaced]
        headers += [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in kept.items()]
        return EndpointRequest({**self.scope, "headers": headers}, self.body)

    @property
    def url(self) -> str:
        """The URL as the caller wrote it, without its query."""
        return url_of(self.scope, self.header("host"))

    @property
    def has_host(self) -> bool:
        """Whether its URL has a host, and not something that would make it another URL."""
        host = self.header("host")
        return host is None or _HOST.fullmatch(host) is not None

    @property
    def query(self) -> str:
        query: bytes = self.scope.get("query_string", b"")
        return query.decode("latin-1")

    @property
    def reentered_run(self) -> str | None:
        """The run that a server calls again by this request, None for one of somebody else.

        The signature may be empty, but it is there.
        """
        run_id = self.header(names.RUN_ID)
        return run_id if run_id and self.header(names.SIGNATURE) is not None else None

    @property
    def takes_stream(self) -> bool:
        """Whether the caller takes a stream of events for an answer."""
        return EVENT_STREAM in (self.header("accept") or "")

    def replayed(self, run_id: str) -> Request:
        """The request for the handler, with its whole body."""
        # Without extensions: an answer that the server of the app would make of a file could not be kept.
        from starlette.requests import Request

        return Request({**self.scope, "perdure.run_id": run_id, "extensions": {}}, _receiver(self.body))

    def event_data(self, function_id: str, kept: tuple[str, ...], origin: str | None, path: str | None) -> Json:
        """The request as an event's data. `kept` names the headers to be kept; `origin`, `path` replace its own."""
        parts, own = urlsplit(self.url), urlsplit(origin or self.url)
        data: dict[str, Json] = {
            "domain": f"{own.scheme}://{own.netloc}",
            # What is asked for by HEAD is answered without a body, so a later call could not say what it did.
            "method": "GET" if self.method == "HEAD" else self.method,
            "path": path or parts.path,
            "query_params": self.query,
            "body": base64.b64encode(self.body).decode("ascii"),
            "body_encoding": "base64",
            "content_type": self.header("content-type") or "",
            "ip": (self.header("x-forwarded-for") or "").partition(",")[0].strip() or self.header("x-real-ip") or "",
            "fn": function_id,
        }
        headers = {name: value for name in kept if (value := self._whole(name)) is not None}
        if headers:
            data["headers"] = headers
        if self.takes_stream:
            data["stream"] = True
        return data


async def read_given(request: Request, most: int) -> EndpointRequest:
    """What `read` gives, of a request that a framework made, and may have read. Raises `BodyTooLargeError`,
    `CallerGoneError`, and `RuntimeError` where its body was read and not kept."""
    from starlette.requests import ClientDisconnect

    _check_declared(request.scope, most)
    if not hasattr(request, "_body"):
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise BodyTooLargeError()
        except ClientDisconnect as error:
            raise CallerGoneError() from error
        # As `Request.body` keeps it: whoever else has the request may ask for it, too.
        request._body = bytes(body)  # pyright: ignore[reportPrivateUsage]
    found = await request.body()
    if len(found) > most:
        raise BodyTooLargeError()
    return EndpointRequest(dict(request.scope), found)


def _check_declared(scope: Mapping[str, Json], most: int) -> None:
    declared = [value for key, value in scope["headers"] if key.lower() == b"content-length"]
    if declared and declared[0].isdigit() and int(declared[0]) > most:
        raise BodyTooLargeError()


async def read(scope: Scope, receive: Receive, most: int) -> EndpointRequest:
    """Reads a request. Raises `BodyTooLargeError`, `CallerGoneError`."""
    _check_declared(scope, most)
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGoneError()
        body += message.get("body", b"")
        if len(body) > most:
            raise BodyTooLargeError()
        more = message.get("more_body", False)
    return EndpointRequest(dict(scope), bytes(body))


def _receiver(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        # What listens for the end of the connection hears of one that never ends: steps outlive it.
        return messages.pop() if messages else await _never()

    return receive


async def _never() -> Message:
    import asyncio

    forever: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await forever
