"""The stream of a run over HTTP: what apps elsewhere say is taken in (tee), and given out as an event stream.

Only whole events go into the log, so that bodies which come at once never tear each other's events apart. A subscriber
gets the log from where it wants, `id` being the offset, and its connection ends after the response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from perdure.engine.streams import Overview, overview
from perdure.model.streams import StreamTooLargeError
from perdure.runner.streams import Reader, last_offset
from perdure.runner.tee import Tee
from perdure.server.backend import Backend
from perdure.server.bodies import header
from perdure.server.envelope import ApiError
from perdure.server.realtime.events import HEADERS, Timing
from perdure.wire.streams import METADATA, EventParser, MalformedStreamError, entry_of, event_bytes, metadata

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_COMMENT: Final = b":\n\n"
_LAST_WORDS: Final = 1.0
"""How long (seconds) a body may go on after the end of its run: the response comes on a way of its own."""


async def subscribe(backend: Backend, request: Request, run_id: str, timing: Timing) -> Response:
    """The stream of a run, from after `Last-Event-ID`; 204, on which browsers stop asking, if nothing is left."""
    after = _last_event_id(request)
    last = last_offset(await _existing(backend, run_id))
    if last is not None and after >= last:
        return Response(status_code=204)
    headers = dict(HEADERS)
    if not header(request.scope, b"origin"):
        headers["access-control-allow-origin"] = "*"
    return StreamingResponse(_events(backend, run_id, after, timing), headers=headers)


async def _events(backend: Backend, run_id: str, after: int, timing: Timing) -> AsyncGenerator[bytes]:
    yield _COMMENT + metadata(run_id)
    with backend.streams.following(run_id, after) as reader:
        async for piece in relay(reader, timing, metadata(run_id)):
            yield piece


async def relay(reader: Reader, timing: Timing, part: bytes = b"") -> AsyncGenerator[bytes]:
    """What a reader gets, as the body of a response; comments where there is nothing for a while.

    `part` has been told, and is told again where another request of the app begins to speak, as the protocol has it.
    """
    told = 1
    loop = asyncio.get_running_loop()
    until = loop.time() + timing.longest
    while (left := until - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, timing.keepalive)):
                events = await reader.next()
        except TimeoutError:
            yield _COMMENT
            continue
        if not events:
            return
        pieces: list[bytes] = []
        for event in events:
            if begun := reader.parts_before(event.offset) if part else 0:
                pieces.append(part * (begun - told))
            told = 0
            pieces.append(event_bytes(event))
        yield b"".join(pieces)


def _last_event_id(request: Request) -> int:
    text = header(request.scope, b"last-event-id").strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ApiError(400, f"header Last-Event-ID must be the id of an event of this stream, got {text[:50]!r}")
    return int(text)


async def _existing(backend: Backend, run_id: str) -> Overview:
    found = await backend.view(partial(overview, run_id))
    if found is None:
        raise ApiError(404, f"there is no run {run_id[:50]!r}")
    return found


async def publish_tee(backend: Backend, request: Request) -> Response:
    """`POST /v1/realtime/publish/tee?channel=<run id>`: the events of a body go into the run's stream as they come.

    A body need not end: it is let go once the run is over.
    """
    run_id = request.query_params.get("channel")
    if not run_id:
        raise ApiError(400, "channel query parameter required")
    found = await _existing(backend, run_id)
    # An app elsewhere tells of a step before the answer that has its result.
    function = backend.catalogue.get(found.function_id)
    with backend.streams.teeing(run_id, early=function is not None and function.config.url is not None) as tee:
        if found.over:
            tee.over.set()
        taking = asyncio.create_task(_take(backend, request, run_id, tee))
        ending = asyncio.create_task(tee.over.wait())
        try:
            await asyncio.wait([taking, ending], return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                await asyncio.wait([taking], timeout=_LAST_WORDS)
            if taking.done():
                taking.result()
        finally:
            for task in (taking, ending):
                task.cancel()
            await asyncio.gather(taking, ending, return_exceptions=True)
    return Response()


async def _take(backend: Backend, request: Request, run_id: str, tee: Tee) -> None:
    parser = EventParser(MAX_EVENT_BYTES)
    try:
        async for piece in request.stream():
            for name, data in parser.feed(piece):
                if name == METADATA:
                    await tee.begin()
                entry = entry_of(name, data)
                # Who follows on a WebSocket hears what apps send as it is.
                backend.realtime.tee(run_id, b"event: " + name + b"\ndata: " + data + b"\n\n")
                if entry is not None:
                    await tee.add(entry)
    except ClientDisconnect:
        await tee.broke_off()
        raise ClientDisconnect(f"the app left in the middle of the stream of run {run_id}") from None
    except MalformedStreamError as error:
        await tee.broke_off()
        raise ApiError(400, str(error)) from error
    except StreamTooLargeError as error:
        await tee.broke_off()
        raise ApiError(413, str(error)) from error
