"""How tools ask the server: the operations of its API, by their requests, in this process or over HTTP.

Tools are the API under other names; so they ask what anybody asks, and get what anybody gets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.server.mcp.offering import NoResourceError, ToolError

Ask: TypeAlias = Callable[[str, str, Mapping[str, Json], Json], Awaitable[tuple[int, bytes]]]
"""Method, path, query and body of a request; the status and body of its answer."""


def query_text(query: Mapping[str, Json]) -> str:
    """A query as it is written: lists are repeated, booleans are words.

    >>> query_text({"status": ["A", "B"], "includeOutput": True})
    'status=A&status=B&includeOutput=true'
    """
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        for each in value if isinstance(value, list) else [value]:
            pairs.append((name, str(each).lower() if isinstance(each, bool) else str(each)))
    return urlencode(pairs)


def inside(application: Callable[[], ASGIApp]) -> Ask:
    """Asks an application in this process, past whatever guards it: whoever may use tools came past that."""

    async def ask(method: str, path: str, query: Mapping[str, Json], body: Json) -> tuple[int, bytes]:
        content = b"" if body is None else encode(body)
        headers = [(b"host", b"localhost"), (b"content-length", str(len(content)).encode())]
        if body is not None:
            headers.append((b"content-type", b"application/json"))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query_text(query).encode(),
            "root_path": "",
            "headers": headers,
            "server": ("localhost", 80),
            "client": None,
        }
        status, chunks = 500, list[bytes]()

        async def receive() -> Message:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))

        await application()(scope, receive, send)
        return status, b"".join(chunks)

    return ask


async def read(ask: Ask, path: str, query: Mapping[str, Json] | None = None) -> Json:
    """The JSON at a path; raises `ToolError`, for what there is not `NoResourceError`."""
    status, body = await ask("GET", path, query or {}, None)
    if status == 404:
        raise NoResourceError(told(status, body))
    if status >= 400:
        raise ToolError(told(status, body))
    return decode(body)


def told(status: int, body: bytes) -> str:
    """A refusal, for an agent to read."""
    return f"HTTP {status}: {body.decode('utf-8', 'replace')}"


def parsed(body: bytes) -> Json:
    """An answer as JSON; None where it is none."""
    try:
        return decode(body) if body else None
    except InvalidJsonError:
        return None
