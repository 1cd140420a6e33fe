"""Request bodies: read whole, but never more than a limit, and never parsed before the limit is checked."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from perdure.model.json import InvalidJsonError, Json, decode
from perdure.server.envelope import ApiError


def header(scope: Scope, name: bytes) -> str:
    """A request header (name in lower case), "" when it is missing."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return ""


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


async def read_object(scope: Scope, receive: Receive, limit: int = 1024 * 1024) -> dict[str, Json]:
    """A body that must be a JSON object; an empty one is an empty object. Raises `ApiError`."""
    body = await read_body(scope, receive, limit)
    if not body.strip():
        return {}
    try:
        value = decode(body)
    except InvalidJsonError as error:
        raise ApiError(400, f"request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, "request body must be a JSON object")
    return value


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"request body is larger than {limit} bytes")
