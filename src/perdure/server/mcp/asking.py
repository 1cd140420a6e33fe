"""How tools ask the server: the operations of its API, by their requests, in this process or over HTTP.

Tools are the API under other names; so they ask what anybody asks, and get what anybody gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TypeAlias
from urllib.parse import urlencode

import msgspec
from starlette.types import ASGIApp, Message, Scope

from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.model.roles import Role
from perdure.server.mcp.offering import NoResourceError, ToolError
from perdure.server.permissions import forbidden, grant, role_for

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


class Asker(msgspec.Struct, frozen=True):
    """Who asks: the role of the key that was shown, None where the server asks for no keys; and the credentials."""

    role: Role | None = None
    authorization: str = ""


_NOBODY = Asker()
ASKER: ContextVar[Asker] = ContextVar("asker", default=_NOBODY)
"""Who asks just now."""


def inside(application: Callable[[], ASGIApp]) -> Ask:
    """Asks an application in this process, past whatever guards it; so what `ASKER` may not do is refused here."""

    async def ask(method: str, path: str, query: Mapping[str, Json], body: Json) -> tuple[int, bytes]:
        needed, asker = role_for(method, path), ASKER.get()
        if asker.role is not None and not asker.role.allows(needed):
            return 403, encode({"error": forbidden(needed, asker.role).message})
        content = b"" if body is None else encode(body)
        headers = [(b"host", b"localhost"), (b"content-length", str(len(content)).encode())]
        if body is not None:
            headers.append((b"content-type", b"application/json"))
        if asker.role is None and asker.authorization:
            # No key of the server: somebody whom an app knows, perhaps.
            headers.append((b"authorization", asker.authorization.encode("latin-1")))
        scope = _scope(method, path, query_text(query), headers)
        if asker.role is not None:
            grant(scope, asker.role)
        return await _answered(application(), scope, content)

    return ask


def _scope(method: str, path: str, query: str, headers: list[tuple[bytes, bytes]]) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "server": ("localhost", 80),
        "client": None,
    }


async def _answered(application: ASGIApp, scope: Scope, content: bytes) -> tuple[int, bytes]:
    """The status and body of an answer; whoever asks stays until it is complete."""
    status, chunks = 500, list[bytes]()
    asked = [{"type": "http.request", "body": content, "more_body": False}]
    complete = asyncio.Event()

    async def receive() -> Message:
        if asked:
            return asked.pop()
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                complete.set()

    await application(scope, receive, send)
    return status, b"".join(chunks)


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
