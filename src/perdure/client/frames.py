"""The frames of a stream of JSON: each `data:` of an event, up to `[DONE]`.

Invariant: a stream that ends without saying that it is done was broken off, and that is an error; so nobody takes the
half of an answer for all of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

import aiohttp

from perdure.client.errors import ApiError, ServerUnreachableError, StreamError, reason_of
from perdure.client.sse import SseParser
from perdure.model.json import InvalidJsonError, Json, decode, encode

_DONE: Final = "[DONE]"
# A server says at least a comment every 15 to 25 seconds: one that is silent for four of them is gone.
_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=100)


async def json_frames(
    session: aiohttp.ClientSession,
    base_url: str,
    method: str,
    path: str,
    *,
    params: Sequence[tuple[str, str]] = (),
    body: Json = None,
    after: str = "",
) -> AsyncGenerator[tuple[str | None, Json]]:
    """The frames of one request, each with its id. Raises `ServerUnreachableError`, `ApiError`, `StreamError`."""
    headers = {"accept": "text/event-stream"}
    if body is not None:
        headers["content-type"] = "application/json"
    if after:
        headers["last-event-id"] = after
    data = None if body is None else encode(body)
    try:
        response = await session.request(
            method, base_url + path, params=params, data=data, headers=headers, timeout=_LIMIT
        )
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServerUnreachableError(base_url, reason_of(error)) from error
    try:
        if response.status >= 300:
            raise refused(response.status, await response.read())
        async for frame in _read(response, after):
            yield frame
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StreamError(f"the stream broke off: {reason_of(error)}") from error
    finally:
        response.close()


async def _read(response: aiohttp.ClientResponse, after: str) -> AsyncGenerator[tuple[str | None, Json]]:
    parser = SseParser(after)
    async for data in response.content.iter_any():
        for event in parser.feed(data):
            if event.data == _DONE:
                return
            try:
                content: Json = decode(event.data.encode())
            except InvalidJsonError as error:
                raise StreamError(f"a frame of the stream is not JSON: {error}") from error
            yield event.id, content
    raise StreamError("the stream ended before it was done")


def refused(status: int, content: bytes) -> ApiError:
    """The error that an answer tells of."""
    try:
        body: Json = decode(content)
    except InvalidJsonError:
        return ApiError(status, content.decode(errors="replace").strip() or "the request was refused")
    message = None
    if isinstance(body, Mapping):
        errors: Json = body.get("errors")
        message = errors[0]["message"] if errors else body.get("error")
    return ApiError(status, str(message or "the request was refused"), body)
