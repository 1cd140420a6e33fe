"""The v2 REST API: runs and their traces (part F.3 of the protocol), under `/v2` and `/api/v2`."""

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
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError, v2
from perdure.server.identity import slugs_of
from perdure.server.queries import flag, number
from perdure.server.shapes_v2 import STATUSES, run_shape
from perdure.server.trace import trace

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100


def routes(backend: Backend) -> list[Route]:
    """The routes of the API."""
    api = _Api(backend)
    return [
        route
        for prefix in ("/v2", "/api/v2")
        for route in (
            Route(f"{prefix}/health", api.health),
            Route(f"{prefix}/runs", api.runs),
            Route(f"{prefix}/runs/{{id}}", api.run),
            Route(f"{prefix}/runs/{{id}}/trace", api.trace),
            Route(f"{prefix}/runs/{{id}}/cancel", api.cancel, methods=["POST"]),
        )
    ]


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _answer(self, data: Json, page: Json = None) -> Response:
        return v2(data, self._backend.clock.now(), page)

    def _shape(self, run: Run, event_ids: list[str], output: bool) -> Json:
        function = self._backend.catalogue.get(run.function_id)
        return run_shape(run, event_ids, function.config.name if function else None, output=output)

    async def health(self, request: Request) -> Response:
        return self._answer({"status": "ok"})

    async def runs(self, request: Request) -> Response:
        query = request.query_params
        limit = _limit(query.get("limit"))
        cursor = query.get("cursor") or None
        if cursor is not None and not is_ulid(cursor):
            raise ApiError(400, "Cursor is invalid", "invalid_field_format")
        statuses = _statuses(query.getlist("status"))
        apps, named = query.getlist("appId") or None, query.getlist("functionId")
        functions = slugs_of(self._backend.catalogue, named, apps or []) if named else None
        output = flag(request, "includeOutput")
        # One more than asked for tells whether there are more.
        found = await self._backend.view(lambda: _page(limit + 1, cursor, statuses, functions, apps))
        shown = found[:limit]
        page: Json = {"limit": limit}
        if len(found) > limit:
            page = {"cursor": shown[-1][0].id, "hasMore": True, "limit": limit}
        return self._answer([self._shape(run, ids, output) for run, ids in shown], page)

    async def run(self, request: Request) -> Response:
        run_id = _run_id(request)
        output = flag(request, "includeOutput")
        found = await self._backend.view(lambda: _one(run_id))
        if found is None:
            raise ApiError(404, "Run not found")
        return self._answer(self._shape(*found, output))

    async def trace(self, request: Request) -> Response:
        run_id = _run_id(request)
        output = flag(request, "includeOutput")
        detail = await self._backend.view(lambda: views.run_detail(run_id))
        if detail is None:
            raise ApiError(404, "Trace not found")
        return self._answer(trace(detail, output=output))

    async def cancel(self, request: Request) -> Response:
        run_id = _run_id(request)
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


def _page(
    limit: int,
    cursor: str | None,
    statuses: list[RunStatus] | None,
    functions: list[str] | None,
    apps: list[str] | None,
) -> Decision[list[tuple[Run, list[str]]]]:
    runs = yield from views.list_runs(limit, cursor, statuses=statuses, function_ids=functions, app_ids=apps)
    found: list[tuple[Run, list[str]]] = []
    for run in runs:
        found.append((run, (yield from views.event_ids(run))))
    return found


def _run_id(request: Request) -> str:
    value: str = request.path_params["id"]
    if not is_ulid(value):
        raise ApiError(400, "Run ID must be a valid ULID", "invalid_field_format")
    return value


def _limit(text: str | None) -> int:
    if not text:
        return _DEFAULT_LIMIT
    limit = number(text)
    if limit is None:
        raise ApiError(400, "Limit must be a whole number", "invalid_field_format")
    if limit > _MAX_LIMIT:
        raise ApiError(400, f"Limit cannot exceed {_MAX_LIMIT}", "invalid_field_format")
    return limit or _DEFAULT_LIMIT


def _statuses(names: list[str]) -> list[RunStatus] | None:
    if not names:
        return None
    words = {word: status for status, word in STATUSES.items()}
    if any(name.upper() not in words for name in names):
        raise ApiError(400, "Status is invalid", "invalid_field_format")
    return [words[name.upper()] for name in names]
