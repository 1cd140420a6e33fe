"""Publishing over HTTP: a message, or a text piece by piece (`text/stream`).

Nothing is cut short and sent nevertheless: what is too large is refused (413), and a stream that turns out to be
too large, or whose publisher leaves, ends with the error in the metadata of its end.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from perdure.bus import Hub
from perdure.bus.realtime import MessageTooLargeError
from perdure.model.ids import is_ulid
from perdure.model.json import InvalidJsonError
from perdure.server.bodies import header, read_body
from perdure.server.envelope import ApiError
from perdure.wire.realtime import MAX_MESSAGE_BYTES, MAX_STREAM_BYTES, one_line, text_or_json


async def publish(hub: Hub, request: Request) -> Response:
    """`POST /v1/realtime/publish?channel=&topic=`: to each topic that is named."""
    channel, topics, run_id = _required(request, "channel"), _topics(request), _run_id(request)
    metadata = _metadata(request)
    if header(request.scope, b"content-type").partition(";")[0].strip().lower() == "text/stream":
        await _publish_stream(hub, request, channel, topics, run_id)
        return Response()
    body = await read_body(request.scope, request.receive, MAX_MESSAGE_BYTES)
    try:
        data = text_or_json(body)
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the message is neither JSON nor text in UTF-8: {error}") from error
    for topic in topics:
        try:
            hub.publish_json(channel, topic, data, run_id=run_id, metadata=metadata)
        except MessageTooLargeError as error:
            # A text grows when its quotes are escaped.
            raise ApiError(413, str(error)) from error
    return Response()


async def _publish_stream(hub: Hub, request: Request, channel: str, topics: list[str], run_id: str | None) -> None:
    if len(topics) > 1:
        raise ApiError(400, "a stream has one topic, name it once")
    length = header(request.scope, b"content-length")
    if length.isdecimal() and len(length) < 20 and int(length) > MAX_STREAM_BYTES:
        raise ApiError(413, f"a stream is at most {MAX_STREAM_BYTES} bytes")
    try:
        with hub.stream(channel, topics[0], run_id) as stream:
            async for text in _texts(request):
                stream.write(text)
    except MessageTooLargeError as error:
        raise ApiError(413, str(error)) from error
    except UnicodeDecodeError as error:
        raise ApiError(400, f"a stream is text in UTF-8: {error}") from error


async def _texts(request: Request) -> AsyncIterator[str]:
    # A character may come in two pieces.
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async for piece in request.stream():
            text = decoder.decode(piece)
            if text:
                yield text
    except ClientDisconnect:
        raise ClientDisconnect("the publisher left before its end") from None
    decoder.decode(b"", final=True)


def _required(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise ApiError(400, f"query parameter {name!r} is missing: it says where the message goes")
    return value


def _topics(request: Request) -> list[str]:
    _required(request, "topic")
    return list(dict.fromkeys(filter(None, request.query_params.getlist("topic"))))


def _run_id(request: Request) -> str | None:
    run_id = request.query_params.get("run_id") or None
    if run_id is not None and not is_ulid(run_id):
        raise ApiError(400, f"query parameter 'run_id' must be the id of a run, got {run_id[:50]!r}")
    return run_id


def _metadata(request: Request) -> msgspec.Raw | None:
    text = request.query_params.get("metadata")
    if not text:
        return None
    try:
        return one_line(text.encode())
    except InvalidJsonError as error:
        raise ApiError(400, f"query parameter 'metadata' is not valid JSON: {error}") from error
