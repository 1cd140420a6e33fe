"""Request bodies: read whole, but never more than a limit, and never parsed before the limit is checked."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from perdure.model.json import InvalidJsonError, Json, decode
from perdure.server.envelope import ApiError

MAX_DEPTH = 256
"""How deep JSON may nest: far beyond use, and far from where encoding it somewhere else would overflow."""


def header(scope: Scope, name: bytes) -> str:
    """A request header (name in lower case), "" when it is missing."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return ""


def route_path(scope: Scope) -> str:
    """The path below the place where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body; raises `ApiError` (413) beyond `limit` bytes, `ClientDisconnect` when the client is gone."""
    length = header(scope, b"content-length")
    if length.isdecimal() and len(length) < 20 and int(length) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        # The usual case: the body came in one piece, and is not copied.
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


async def read_json(scope: Scope, receive: Receive, limit: int = 1024 * 1024) -> Json:
    """A body that must be JSON; an empty one is None. Raises `ApiError`."""
    body = (await read_body(scope, receive, limit)).strip()
    if not body:
        return None
    try:
        value = decode(body)
    except InvalidJsonError as error:
        raise ApiError(400, f"request body is not valid JSON: {error}") from error
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        check_depth(value, "request body")
    return value


async def read_object(scope: Scope, receive: Receive, limit: int = 1024 * 1024) -> dict[str, Json]:
    """A body that must be a JSON object; an empty one is an empty object. Raises `ApiError`."""
    value = await read_json(scope, receive, limit)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError(400, "request body must be a JSON object")
    return value


async def read_fields(scope: Scope, receive: Receive, *names: str) -> dict[str, Json]:
    """A body that must be a JSON object without other fields than these. Raises `ApiError`."""
    body = await read_object(scope, receive)
    check_fields(body, *names)
    return body


def text_field(body: dict[str, Json], name: str) -> str | None:
    """A field that is a text, or not there, or empty: None. Raises `ApiError`."""
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise ApiError(400, f"{name} must be a string")


def check_fields(value: dict[str, Json], *names: str, where: str = "") -> None:
    """Refuses fields that nobody would read: most likely their names are wrong. Raises `ApiError`."""
    unknown = sorted(value.keys() - set(names))
    if unknown:
        raise ApiError(400, f"unknown field {where + unknown[0]!r}; known are {', '.join(names) or 'none'}")


def check_depth(value: Json, what: str, around: int = 0) -> None:
    """Refuses JSON that nests too deeply; `around` levels do not count. Raises `ApiError`."""
    level: list[Json] = [value]
    depth = -around
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ApiError(400, f"{what} is nested deeper than {MAX_DEPTH} levels")
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(child, dict | list)
        ]


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"request body is larger than {limit} bytes")
