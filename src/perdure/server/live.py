"""What a page needs to stay as things are: a stream that says when something has changed, and the stream of a run.

`GET /v2/changes` says so at most twice a second, however much happens, and nothing while nothing does: whoever hears it
asks again for what it shows. The event id is how far the server is, so a connection that comes back with the same
`Last-Event-ID` missed nothing, and is told nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perdure.model.ids import is_ulid
from perdure.server.backend import Backend
from perdure.server.bodies import header
from perdure.server.envelope import ApiError
from perdure.server.realtime.events import HEADERS, Timing
from perdure.server.realtime.relay import subscribe

_PAUSE: Final = 0.5
"""Seconds between two looks."""
_COMMENT: Final = b":\n\n"


def routes(backend: Backend, draining: Callable[[], bool], timing: Timing | None = None) -> list[Route]:
    """The routes; `draining` ends the streams of a server that is about to stop."""
    times = timing or Timing()

    async def changed(request: Request) -> Response:
        known = header(request.scope, b"last-event-id")
        return StreamingResponse(changes(backend, known, draining, times), headers=HEADERS)

    async def stream(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        if not is_ulid(run_id):
            raise ApiError(400, "Run ID must be a valid ULID", "invalid_field_format")
        return await subscribe(backend, request, run_id, times)

    return [
        Route(f"{mount}{path}", endpoint)
        for mount in ("/v2", "/api/v2")
        for path, endpoint in (("/changes", changed), ("/runs/{run_id}/stream", stream))
    ]


async def changes(backend: Backend, known: str, draining: Callable[[], bool], timing: Timing) -> AsyncGenerator[bytes]:
    """The body of the stream, for somebody who knows how things stood at `known`."""
    yield _COMMENT
    silent, lasted = 0.0, 0.0
    while lasted < timing.longest and not draining():
        at = backend.changes
        if at != known:
            known, silent = at, 0.0
            yield f"id: {at}\ndata: {at}\n\n".encode()
        elif silent >= timing.keepalive:
            silent = 0.0
            yield _COMMENT
        await asyncio.sleep(_PAUSE)
        silent, lasted = silent + _PAUSE, lasted + _PAUSE
