"""The root fields: what a query may begin with. Each gets the `Reader` of its request and its arguments as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, Literal

from graphql import GraphQLError

from perdure.engine.views import Span
from perdure.model.durations import InstantError, parse_instant
from perdure.model.ids import is_ulid
from perdure.model.json import Json
from perdure.model.records import EventRow, Run
from perdure.server import search
from perdure.server.graphql import mutations, nodes, spans
from perdure.server.graphql.reader import Reader, begun
from perdure.server.identity import uuid_of
from perdure.server.search import ConditionError, Conditions, EventFilter, Page, RunFilter
from perdure.server.shapes_v2 import STATUSES

_STATUSES: Final = {word: status for status, word in STATUSES.items()}
_FIELDS: Final[dict[str, Literal["queued", "started", "ended"]]] = {
    "QUEUED_AT": "queued",
    "STARTED_AT": "started",
    "ENDED_AT": "ended",
}

Resolver = Callable[..., Coroutine[None, None, Json]]


def root(reader: Reader) -> dict[str, Callable[..., Awaitable[Json]]]:
    """What queries and mutations begin with, bound to a request."""
    return {name: _bound(resolver, reader) for name, resolver in _RESOLVERS.items()}


def _bound(resolver: Resolver, reader: Reader) -> Callable[..., Awaitable[Json]]:
    return lambda info, **arguments: begun(resolver(reader, **arguments))


# Apps and functions.


async def _apps(reader: Reader, filter: dict[str, Json] | None = None) -> list[Json]:
    method = (filter or {}).get("method")
    return [app for app in await nodes.apps(reader) if method is None or app["method"] == method]


async def _app(reader: Reader, id: str) -> Json:
    return next((app for app in await nodes.apps(reader) if app["id"] == id), None)


async def _functions(reader: Reader) -> list[Json]:
    rows = (await reader.functions()).values()
    return [nodes.function(reader, row) for row in rows if row.archived_at is None]


async def _function_by_slug(reader: Reader, query: dict[str, Json]) -> Json:
    row = (await reader.functions()).get(query["functionSlug"])
    return None if row is None or row.archived_at is not None else nodes.function(reader, row)


# Events.


async def _event(reader: Reader, query: dict[str, Json]) -> Json:
    return await _event_v2(reader, query["eventId"])


async def _event_v2(reader: Reader, id: str) -> Json:
    row = await reader.event(_ulid(id, "event ID"))
    if row is None:
        raise GraphQLError(f"there is no event {id}")
    return nodes.event(reader, row)


async def _events_v2(reader: Reader, first: int, filter: dict[str, Json], after: str | None = None) -> Json:
    names: list[str] | None = filter.get("eventNames")
    if names is not None and len(names) > search.MAX_NAMES:
        raise GraphQLError(f"filter.eventNames: at most {search.MAX_NAMES} names can be given")
    chosen = EventFilter(
        begin=_time(filter["from"], "filter.from"),
        end=_optional_time(filter, "until"),
        names=None if names is None else sorted(set(names)),
        internal=filter["includeInternalEvents"],
        conditions=_conditions(filter.get("query"), frozenset({"event"})),
        now=reader.backend.clock.now(),
    )
    limit, cursor = _limit(first), _cursor(after)
    page: Page[EventRow] = await reader.view(lambda: search.find_events(chosen, limit, cursor))
    edges = [{"node": nodes.event(reader, row), "cursor": row.internal_id} for row in page.items]
    return _connection(edges, page.more, page.cursor, cursor) | {
        "totalCount": nodes.asked(lambda: reader.view(lambda: search.count_events(chosen)))
    }


# Runs.


async def _run(reader: Reader, runID: str) -> Json:
    return nodes.run(reader, await _run_row(reader, runID))


async def _function_run(reader: Reader, query: dict[str, Json]) -> Json:
    return await _run(reader, query["functionRunId"])


async def _run_trigger(reader: Reader, runID: str) -> Json:
    return await nodes.trigger(reader, await _run_row(reader, runID))


async def _run_trace(reader: Reader, runID: str) -> Json:
    detail = await reader.detail(_ulid(runID, "run ID"))
    if detail is None:
        raise GraphQLError(f"there is no run {runID}")
    return spans.span_tree(reader, detail, preview=True)


async def _span_output(reader: Reader, outputID: str) -> Json:
    return await spans.span_output(reader, outputID)


async def _run_row(reader: Reader, run_id: str) -> Run:
    row = await reader.run(_ulid(run_id, "run ID"))
    if row is None:
        raise GraphQLError(f"there is no run {run_id}")
    return row


async def _runs(
    reader: Reader,
    first: int,
    orderBy: list[dict[str, Json]],
    filter: dict[str, Json],
    after: str | None = None,
    preview: bool | None = None,
) -> Json:
    begin, end = _time(filter["from"], "filter.from"), _optional_time(filter, "until")
    statuses: list[str] | None = filter.get("status")
    slugs, apps = await _chosen(reader, filter.get("functionIDs"), filter.get("appIDs"))
    chosen = RunFilter(
        span=Span(begin, end, _FIELDS[filter.get("timeField") or "QUEUED_AT"]),
        statuses=[_STATUSES[status] for status in statuses] if statuses else None,
        function_ids=slugs,
        app_ids=apps,
        oldest_first=bool(orderBy) and orderBy[0]["direction"] == "ASC",
        conditions=_conditions(filter.get("query"), frozenset({"event", "output"})),
        now=reader.backend.clock.now(),
    )
    limit, cursor = _limit(first), _cursor(after)
    page: Page[Run] = await reader.view(lambda: search.find_runs(chosen, limit, cursor))
    edges = [{"node": nodes.run(reader, row), "cursor": row.id} for row in page.items]
    return _connection(edges, page.more, page.cursor, cursor) | {
        "totalCount": nodes.asked(lambda: reader.view(lambda: search.count_runs(chosen)))
    }


async def _chosen(
    reader: Reader, function_ids: list[str] | None, app_ids: list[str] | None
) -> tuple[list[str] | None, list[str] | None]:
    """The slugs and app ids that UUIDs stand for; those that nothing has choose nothing."""
    if not function_ids and not app_ids:
        return None, None
    rows = (await reader.functions()).values()
    slugs = [row.id for row in rows if uuid_of(row.id) in function_ids] if function_ids else None
    return slugs, sorted({row.app_id for row in rows if uuid_of(row.app_id) in app_ids}) if app_ids else None


# What arguments have in common.


def _connection(edges: list[Json], more: bool, end: str | None, after: str | None) -> dict[str, Json]:
    return {
        "edges": edges,
        "pageInfo": {
            "hasNextPage": more,
            "hasPreviousPage": after is not None,
            "startCursor": edges[0]["cursor"] if edges else None,
            "endCursor": end,
        },
    }


def _conditions(text: str | None, variables: frozenset[str]) -> Conditions:
    try:
        return Conditions(text, variables)
    except ConditionError as error:
        raise GraphQLError(str(error)) from error


def _limit(first: int) -> int:
    if first < 1:
        raise GraphQLError("first must be at least 1")
    return min(first, search.MAX_PAGE)


def _cursor(after: str | None) -> str | None:
    if after and not is_ulid(after):
        raise GraphQLError("after is not valid: give the cursor of an edge, or endCursor")
    return after or None


def _ulid(value: object, what: str) -> str:
    if not isinstance(value, str) or not is_ulid(value):
        raise GraphQLError(f"the {what} is not valid: it must be a ULID")
    return value


def _time(value: object, what: str) -> int:
    if not isinstance(value, str):
        raise GraphQLError(f"{what} must be a time as RFC 3339 has it")
    try:
        return parse_instant(value)
    except InstantError as error:
        raise GraphQLError(f"{what}: {error}") from error


def _optional_time(filter: dict[str, Json], name: str) -> int | None:
    return None if filter.get(name) is None else _time(filter[name], f"filter.{name}")


_RESOLVERS: Final[dict[str, Resolver]] = {
    "apps": _apps,
    "app": _app,
    "functions": _functions,
    "functionBySlug": _function_by_slug,
    "event": _event,
    "eventV2": _event_v2,
    "eventsV2": _events_v2,
    "functionRun": _function_run,
    "runs": _runs,
    "run": _run,
    "runTrigger": _run_trigger,
    "runTrace": _run_trace,
    "runTraceSpanOutputByID": _span_output,
    "createApp": mutations.create_app,
    "deleteApp": mutations.delete_app,
    "deleteAppByName": mutations.delete_app_by_name,
    "cancelRun": mutations.cancel_run,
    "rerun": mutations.rerun,
    "invokeFunction": mutations.invoke_function,
}
