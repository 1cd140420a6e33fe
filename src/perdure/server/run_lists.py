"""Lists of runs as v2 answers them: the query parameters, checked, and one page with the cursor of the next.

Runs come in the order in which they were queued, whichever time is filtered by: that is what a cursor, the id of the
last run seen, can go on from.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from perdure.engine import views
from perdure.engine.turn import Decision
from perdure.engine.views import Span
from perdure.model.durations import InstantError, parse_instant
from perdure.model.ids import is_ulid
from perdure.model.json import Json
from perdure.model.records import Run, RunStatus
from perdure.server import search
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError, v2
from perdure.server.queries import flag, optional_flag, page_limit
from perdure.server.search import ConditionError, Conditions, RunFilter
from perdure.server.shapes_v2 import STATUSES, run_shape

_FIELDS: dict[str, Literal["queued", "started", "ended"]] = {
    "queuedat": "queued",
    "startedat": "started",
    "endedat": "ended",
}


class RunQuery(msgspec.Struct):
    """Which runs are asked for, and how they are to be shown. None selects all."""

    limit: int
    cursor: str | None
    statuses: list[RunStatus] | None
    span: Span
    oldest_first: bool
    output: bool
    deferred: bool | None
    conditions: Conditions


def run_query(request: Request) -> RunQuery:
    """The query of a request. Raises `ApiError`."""
    query = request.query_params
    cursor = query.get("cursor") or None
    if cursor is not None and not is_ulid(cursor):
        raise _invalid("Cursor is invalid")
    order = query.get("order", "").upper()
    if order not in ("", "ASC", "DESC"):
        raise _invalid("Order must be ASC or DESC")
    return RunQuery(
        page_limit(request),
        cursor,
        _statuses(query.getlist("status")),
        _span(request),
        order == "ASC",
        flag(request, "includeOutput"),
        optional_flag(request, "isDeferred"),
        _conditions(request),
    )


async def run_page(
    backend: Backend, query: RunQuery, functions: list[str] | None = None, apps: list[str] | None = None
) -> Response:
    """One page of the runs of some functions and apps."""
    found, page = await find_runs(backend, query, functions, apps)
    data = [shape(backend, run, ids, query.output) for run, ids in found]
    return v2(data, backend.clock.now(), page)


async def find_runs(
    backend: Backend, query: RunQuery, functions: list[str] | None = None, apps: list[str] | None = None
) -> tuple[list[tuple[Run, list[str]]], Json]:
    """One page of runs with the ids of their events, and the `page` of the answer."""
    if query.conditions:
        return await _searched(backend, query, functions, apps)
    # One more than asked for tells whether there are more.
    found = await backend.view(lambda: _page(query, functions, apps))
    return cut(found, query.limit)


async def _searched(
    backend: Backend, query: RunQuery, functions: list[str] | None, apps: list[str] | None
) -> tuple[list[tuple[Run, list[str]]], Json]:
    """The runs for which conditions hold. A page may have fewer than asked for, or none, and still lead on."""
    chosen = RunFilter(
        query.span, query.statuses, functions, apps, query.oldest_first, query.conditions, backend.clock.now(),
        query.deferred,
    )  # fmt: skip
    found = await backend.view(lambda: search.find_runs(chosen, query.limit, query.cursor))
    page: dict[str, Json] = {"limit": query.limit}
    if found.more and found.cursor is not None:
        page |= {"cursor": found.cursor, "hasMore": True}
    return await backend.view(lambda: with_events(found.items)), page


def cut(found: list[tuple[Run, list[str]]], limit: int) -> tuple[list[tuple[Run, list[str]]], Json]:
    """A page of what was found, and where the next begins."""
    if len(found) <= limit:
        return found, {"limit": limit}
    return found[:limit], {"cursor": found[limit - 1][0].id, "hasMore": True, "limit": limit}


def shape(backend: Backend, run: Run, event_ids: list[str], output: bool) -> Json:
    """A run under the name that its function has now."""
    function = backend.catalogue.get(run.function_id)
    return run_shape(run, event_ids, function.config.name if function else None, output=output)


def _page(
    query: RunQuery, functions: list[str] | None, apps: list[str] | None
) -> Decision[list[tuple[Run, list[str]]]]:
    runs = yield from views.list_runs(
        query.limit + 1,
        query.cursor,
        statuses=query.statuses,
        function_ids=functions,
        app_ids=apps,
        span=query.span,
        oldest_first=query.oldest_first,
        deferred=query.deferred,
    )
    return (yield from with_events(runs))


def with_events(runs: list[Run]) -> Decision[list[tuple[Run, list[str]]]]:
    """Runs, each with the ids of its events."""
    found: list[tuple[Run, list[str]]] = []
    for run in runs:
        found.append((run, (yield from views.event_ids(run))))
    return found


def _conditions(request: Request) -> Conditions:
    query = request.query_params
    try:
        return Conditions(query.get("query"), frozenset({"event", "output"}), query.get("text"))
    except ConditionError as error:
        raise _invalid(str(error)) from error


def _span(request: Request) -> Span:
    name = request.query_params.get("timeField", "queuedAt")
    field = _FIELDS.get(name.replace("_", "").lower())
    if field is None:
        raise _invalid("timeField must be queuedAt, startedAt or endedAt")
    span = Span(_time(request, "from"), _time(request, "until"), field)
    if span.begin is not None and span.end is not None and span.begin > span.end:
        raise _invalid("from must not be after until")
    return span


def _time(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        return parse_instant(text)
    except InstantError as error:
        raise _invalid(f"{name}: {error}") from error


def _statuses(names: list[str]) -> list[RunStatus] | None:
    if not names:
        return None
    words = {word: status for status, word in STATUSES.items()}
    if any(name.upper() not in words for name in names):
        raise _invalid("Status is invalid")
    return [words[name.upper()] for name in names]


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, "invalid_field_format")
