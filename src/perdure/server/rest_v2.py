"""The v2 REST API: runs, their traces, and the runs of events (part F.3 of the protocol), under `/v2` and `/api/v2`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.engine import reads, views
from perdure.engine.turn import Decision
from perdure.model.errors import NotFoundError
from perdure.model.ids import is_ulid
from perdure.model.json import Json
from perdure.model.records import Run, RunStatus
from perdure.server import account, apps_v2, operations, overview, routing, run_steps
from perdure.server.backend import Backend
from perdure.server.bodies import read_fields
from perdure.server.catalogue import V2, Operation, hints, tool_schema
from perdure.server.envelope import ApiError, v2
from perdure.server.identity import slugs_of
from perdure.server.notes import attach_scores
from perdure.server.queries import flag, page_limit, ulid
from perdure.server.routing import Handler
from perdure.server.run_lists import cut, run_page, run_query, shape, with_events
from perdure.server.trace import trace

_MAX_RUNS_OF_EVENT = 40


def routes(backend: Backend, environments: account.Environments | None = None) -> list[Route]:
    """The routes of the API."""
    api = _Api(backend)
    own: dict[str, Handler] = {
        "Health": api.health,
        "ListOperations": api.operations,
        "ListRuns": api.runs,
        "GetFunctionRun": api.run,
        "GetFunctionTrace": api.trace,
        "GetEventRuns": api.runs_of_event,
        "CancelRun": api.cancel,
        "CreateScores": api.scores,
    }
    found = {
        **own,
        **apps_v2.handlers(backend),
        **operations.handlers(backend),
        **account.handlers(backend, environments),
        **run_steps.handlers(backend),
        **overview.handlers(backend),
    }
    return [*routing.routes(V2, found, ("/v2", "/api/v2")), *account.hosted_only()]


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _answer(self, data: Json, page: Json = None) -> Response:
        return v2(data, self._backend.clock.now(), page)

    async def health(self, request: Request) -> Response:
        return self._answer({"status": "ok"})

    async def operations(self, request: Request) -> Response:
        return self._answer({"operations": [_told(operation) for operation in V2]})

    async def scores(self, request: Request) -> Response:
        missing = ApiError(404, "Run not found")
        return self._answer(await attach_scores(self._backend, ulid(request, "Run"), request, missing))

    async def runs(self, request: Request) -> Response:
        query = run_query(request)
        apps, named = request.query_params.getlist("appId") or None, request.query_params.getlist("functionId")
        functions = slugs_of(self._backend.catalogue, named, apps or []) if named else None
        return await run_page(self._backend, query, functions, apps)

    async def runs_of_event(self, request: Request) -> Response:
        event_id, cursor = ulid(request, "Event"), request.query_params.get("cursor") or ""
        if cursor and not is_ulid(cursor):
            raise ApiError(400, "Cursor is invalid", "invalid_field_format")
        limit, output = page_limit(request, _MAX_RUNS_OF_EVENT), flag(request, "includeOutput")
        found, page = cut(await self._backend.view(lambda: _of_event(event_id, cursor, limit + 1)), limit)
        return self._answer([shape(self._backend, run, ids, output) for run, ids in found], page)

    async def run(self, request: Request) -> Response:
        run_id = ulid(request, "Run")
        output = flag(request, "includeOutput")
        found = await self._backend.view(lambda: _one(run_id))
        if found is None:
            raise ApiError(404, "Run not found")
        return self._answer(shape(self._backend, *found, output))

    async def trace(self, request: Request) -> Response:
        run_id = ulid(request, "Run")
        output = flag(request, "includeOutput")
        detail = await self._backend.view(lambda: views.run_detail(run_id))
        if detail is None:
            raise ApiError(404, "Trace not found")
        return self._answer(trace(detail, output=output))

    async def cancel(self, request: Request) -> Response:
        run_id = ulid(request, "Run")
        await read_fields(request.scope, request.receive)
        try:
            had = await self._backend.cancel(run_id)
        except NotFoundError as error:
            raise ApiError(404, "Run not found") from error
        if had == RunStatus.CANCELLED:
            raise ApiError(409, "Run is already cancelled", "run_already_cancelled")
        if had.final:
            raise ApiError(409, "Cannot cancel an ended run", "run_already_ended")
        return self._answer({"runId": run_id})


def _one(run_id: str) -> Decision[tuple[Run, list[str]] | None]:
    run = yield from reads.run_by_id(run_id)
    return None if run is None else (run, (yield from views.event_ids(run)))


def _of_event(event_id: str, cursor: str, limit: int) -> Decision[list[tuple[Run, list[str]]]]:
    runs = yield from views.runs_of_event(event_id)
    return (yield from with_events([run for run in runs if run.id > cursor][:limit]))


def _told(operation: Operation) -> Json:
    """An operation as the API tells it."""
    path = operation.path
    shown: dict[str, Json] = {"id": operation.id, "summary": operation.summary, "description": operation.about}
    shown |= {"http": {"method": operation.method, "path": path}, "cli": {"command": operation.command}}
    if operation.tool:
        shown["mcp"] = {
            "name": operation.tool,
            "title": operation.summary,
            "description": operation.about,
            "inputSchema": tool_schema(operation),
            "annotations": hints(operation),
        }
    return shown
