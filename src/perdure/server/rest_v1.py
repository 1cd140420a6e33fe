"""The v1 REST API: events, runs, their jobs, functions, cancellation, signals (part F.2 of the protocol).

Errors carry their real HTTP status in the v1 envelope; outputs are the JSON that the handler returned.
"""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.engine import reads, views
from perdure.expressions import ExpressionError
from perdure.model.durations import InstantError, parse_instant
from perdure.model.errors import NotFoundError
from perdure.model.ids import is_ulid, make_ulid
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.server import shapes_v1 as shapes
from perdure.server.backend import Backend
from perdure.server.bodies import read_object
from perdure.server.envelope import ApiError, reply, v1
from perdure.server.events import read_event
from perdure.server.identity import ENVIRONMENT_ID, slugs_of, uuid_of
from perdure.server.queries import instant, number
from perdure.server.times import optional_rfc3339, rfc3339

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100
_MAX_JOBS = 10


def routes(backend: Backend) -> list[Route]:
    """The routes of the API."""
    api = _Api(backend)
    return [
        Route("/v1/events", api.events),
        Route("/v1/events/{id}", api.event),
        Route("/v1/events/{id}/runs", api.runs_of_event),
        Route("/v1/runs/{id}", api.run, methods=["GET", "DELETE"]),
        Route("/v1/runs/{id}/cancel", api.cancel_run, methods=["POST"]),
        Route("/v1/runs/{id}/jobs", api.jobs),
        Route("/v1/functions", api.functions),
        Route("/v1/apps/{id}/functions", api.functions_of_app),
        Route("/v1/cancellations", api.cancel_many, methods=["POST"]),
        Route("/v1/signals", api.signal, methods=["POST"]),
        Route("/v1/doctor", api.doctor),
    ]


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
        return self._answer([shapes.run(run) for run in runs])

    async def run(self, request: Request) -> Response:
        run_id = _id(request, "run")
        if request.method == "DELETE":
            await self._cancel(run_id)
            return Response(status_code=200, media_type="application/json")
        run = await self._backend.view(lambda: reads.run_by_id(run_id))
        if run is None:
            raise _no_run(run_id)
        return self._answer(shapes.run(run))

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

    async def cancel_many(self, request: Request) -> Response:
        body = await read_object(request.scope, request.receive)
        now = self._backend.clock.now()
        slug = self._function(_text(body, "function_id"), _text(body, "app_id"))
        after, before = _time(body, "started_after"), _time(body, "started_before")
        if before is not None and before > now:
            raise ApiError(400, "started_before must be in the past")
        condition = _text(body, "if")
        try:
            cancelled = await self._backend.cancel_many(
                slug, started_after=after, started_before=now if before is None else before, if_=condition
            )
        except ExpressionError as error:
            raise ApiError(400, f"if: {error}") from error
        answer = {
            "id": make_ulid(now, secrets.randbits(80)),
            "environment_id": ENVIRONMENT_ID,
            "function_id": slug,
            "function_internal_id": uuid_of(slug),
            "started_after": optional_rfc3339(after),
            "started_before": rfc3339(now if before is None else before),
            "if": condition,
            "cancelled": cancelled,
        }
        return self._answer(answer)

    async def signal(self, request: Request) -> Response:
        body = await read_event(request.scope, request.receive)
        name = _text(body, "signal")
        if name is None:
            raise ApiError(400, "signal is required: the name that a run waits for")
        run_id = await self._backend.signal(name, body.get("data"))
        if run_id is None:
            raise ApiError(404, "No signal found")
        return self._answer({"run_id": run_id})

    def _function(self, name: str | None, app_id: str | None) -> str:
        if not name:
            raise ApiError(400, "function_id is required")
        catalogue = self._backend.catalogue
        found = [slug for slug in slugs_of(catalogue, [name], [app_id] if app_id else []) if catalogue.get(slug)]
        if not found:
            raise ApiError(404, f"Function not found: {name}")
        if len(found) > 1:
            raise ApiError(400, f"function_id: {name} is in several apps; give app_id, or one of {', '.join(found)}")
        return found[0]

    async def doctor(self, request: Request) -> Response:
        health = await self._backend.health()
        return self._answer(shapes.health(health, self._backend.load, len(self._backend.catalogue.functions)))


def _id(request: Request, what: str) -> str:
    value: str = request.path_params["id"]
    if not is_ulid(value):
        raise ApiError(400, f"Invalid {what} ID: {value}")
    return value


def _no_run(run_id: str) -> ApiError:
    return ApiError(404, f"Unable to load function run: {run_id}")


def _text(body: dict[str, Json], name: str) -> str | None:
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise ApiError(400, f"{name} must be a string")


def _time(body: dict[str, Json], name: str) -> int | None:
    text = _text(body, name)
    if text is None:
        return None
    try:
        return parse_instant(text)
    except InstantError as error:
        raise ApiError(400, f"{name}: {error}") from error
