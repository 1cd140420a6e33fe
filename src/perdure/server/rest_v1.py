"""The v1 REST API: events, runs, their jobs, functions, cancellation, signals (part F.2 of the protocol).

Errors carry their real HTTP status in the v1 envelope; outputs are the JSON that the handler returned.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.engine import reads, views
from perdure.model.errors import NotFoundError
from perdure.model.ids import is_ulid
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.server import cancellations, routing
from perdure.server import shapes_v1 as shapes
from perdure.server.backend import Backend
from perdure.server.bodies import read_body, text_field
from perdure.server.catalogue import V1
from perdure.server.envelope import ApiError, reply, v1
from perdure.server.events import read_event
from perdure.server.identity import slugs_of
from perdure.server.notes import attach_metadata
from perdure.server.queries import instant, number
from perdure.server.routing import Handler
from perdure.server.run_lists import find_runs, run_query

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100
_MAX_JOBS = 10
_MAX_TRACES = 8 * 1024 * 1024


def routes(backend: Backend) -> list[Route]:
    """The routes of the API."""
    api = _Api(backend)
    handlers: dict[str, Handler] = {
        "V1ListEvents": api.events,
        "V1GetEvent": api.event,
        "V1GetEventRuns": api.runs_of_event,
        "V1ListRuns": api.runs,
        "V1GetRun": api.run,
        "V1DeleteRun": api.delete_run,
        "V1CancelRun": api.cancel_run,
        "V1GetRunJobs": api.jobs,
        "V1AddRunMetadata": api.metadata,
        "V1ListFunctions": api.functions,
        "V1GetAppFunctions": api.functions_of_app,
        "V1SendSignal": api.signal,
        "V1TakeUserTraces": api.user_traces,
        "V1GetPrometheusMetrics": api.prometheus,
        "V1GetDoctor": api.doctor,
    }
    return routing.routes(V1, {**handlers, **cancellations.handlers(backend)})


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _answer(self, data: Json) -> Response:
        return v1(data, self._backend.clock.now())

    async def events(self, request: Request) -> Response:
        query = request.query_params
        limit = min(number(query.get("limit")) or _DEFAULT_LIMIT, _MAX_LIMIT)
        cursor = query.get("cursor") or None
        if cursor is not None and not is_ulid(cursor):
            raise ApiError(400, "Invalid cursor query parameter")
        after, before = instant(request, "received_after"), instant(request, "received_before")
        name = query.get("name") or None
        rows = await self._backend.view(
            lambda: views.list_events(limit, cursor, name=name, received_after=after, received_before=before)
        )
        return self._answer([shapes.event(row) for row in rows])

    async def event(self, request: Request) -> Response:
        event_id = _id(request, "event")
        row = await self._backend.view(lambda: reads.event_by_id(event_id))
        if row is None:
            raise ApiError(404, "Event not found")
        return self._answer(shapes.event(row))

    async def runs_of_event(self, request: Request) -> Response:
        event_id = _id(request, "event")
        runs = await self._backend.view(lambda: views.runs_of_event(event_id))
        return self._answer([shapes.run(run, self._backend.environment_id) for run in runs])

    async def runs(self, request: Request) -> Response:
        query, params = run_query(request), request.query_params
        apps, named = params.getlist("app_id") or None, params.getlist("function_id")
        functions = slugs_of(self._backend.catalogue, named, apps or []) if named else None
        found, page = await find_runs(self._backend, query, functions, apps)
        return v1([shapes.run(run, self._backend.environment_id) for run, _ in found], self._backend.clock.now(), page)

    async def delete_run(self, request: Request) -> Response:
        await self._cancel(_id(request, "run"))
        return Response(status_code=200, media_type="application/json")

    async def run(self, request: Request) -> Response:
        run_id = _id(request, "run")
        run = await self._backend.view(lambda: reads.run_by_id(run_id))
        if run is None:
            raise _no_run(run_id)
        return self._answer(shapes.run(run, self._backend.environment_id))

    async def jobs(self, request: Request) -> Response:
        run_id = _id(request, "run")
        jobs = await self._backend.view(lambda: views.jobs_of_run(run_id, _MAX_JOBS))
        return self._answer([shapes.job(position, job) for position, job in enumerate(jobs)])

    async def cancel_run(self, request: Request) -> Response:
        run_id = _id(request, "run")
        had = await self._cancel(run_id)
        status = had if had.final else RunStatus.CANCELLED
        return self._answer({"run_id": run_id, "status": shapes.STATUS_WORDS[status]})

    async def _cancel(self, run_id: str) -> RunStatus:
        try:
            return await self._backend.cancel(run_id)
        except NotFoundError as error:
            raise _no_run(run_id) from error

    async def functions(self, request: Request) -> Response:
        rows = await self._backend.view(reads.functions)
        return self._answer([shapes.function(row) for row in rows if row.archived_at is None])

    async def functions_of_app(self, request: Request) -> Response:
        app_id = request.path_params["id"]
        rows = await self._backend.view(reads.functions)
        # The protocol has a bare array here.
        return reply([shapes.function(row) for row in rows if row.archived_at is None and row.app_id == app_id])

    async def signal(self, request: Request) -> Response:
        body = await read_event(request.scope, request.receive)
        name = text_field(body, "signal")
        if name is None:
            raise ApiError(400, "signal is required: the name that a run waits for")
        run_id = await self._backend.signal(name, body.get("data"))
        if run_id is None:
            raise ApiError(404, "No signal found")
        return self._answer({"run_id": run_id})

    async def metadata(self, request: Request) -> Response:
        run_id = _id(request, "run")
        await attach_metadata(self._backend, run_id, request, _no_run(run_id))
        return Response(status_code=200, media_type="application/json")

    async def user_traces(self, request: Request) -> Response:
        # Read, so that the app that sends it sees no broken connection.
        await read_body(request.scope, request.receive, _MAX_TRACES)
        return reply({})

    async def prometheus(self, request: Request) -> Response:
        raise ApiError(501, "not implemented: this server's metrics are at /metrics")

    async def doctor(self, request: Request) -> Response:
        health, backend = await self._backend.health(), self._backend
        return self._answer(shapes.health(health, backend.load, len(backend.catalogue.functions), backend.clock.now()))


def _id(request: Request, what: str) -> str:
    value: str = request.path_params["id"]
    if not is_ulid(value):
        raise ApiError(400, f"Invalid {what} ID: {value}")
    return value


def _no_run(run_id: str) -> ApiError:
    return ApiError(404, f"Unable to load function run: {run_id}")
