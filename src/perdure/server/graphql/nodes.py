"""Apps, functions, runs and events as GraphQL shows them: plain data, with something to call where asking costs a read.

One node serves both generations of a type (`Event` and `EventV2`, `FunctionRun` and `FunctionRunV2`): it has the
fields of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import TypeVar

from graphql import GraphQLError

from perdure.model.config import Cron, FunctionConfig, decode_config
from perdure.model.ids import is_ulid, ulid_millis
from perdure.model.json import Json, decode, encode
from perdure.model.records import AppRow, EventRow, FunctionRow, Run, RunStatus
from perdure.server import shapes_v1
from perdure.server.graphql import spans
from perdure.server.graphql.reader import Reader, begun
from perdure.server.identity import uuid_of
from perdure.server.shapes_v2 import STATUSES
from perdure.server.times import optional_rfc3339, rfc3339

T = TypeVar("T")


def lazy(make: Callable[[], T]) -> Callable[..., T]:
    """A field that is made when it is asked for; what it is asked with does not matter."""
    return lambda info, **arguments: make()


def asked(make: Callable[[], Coroutine[None, None, T]]) -> Callable[..., asyncio.Future[T]]:
    """The same for a field that has to be read."""
    return lambda info, **arguments: begun(make())


# Functions and apps.


def function(reader: Reader, row: FunctionRow) -> Json:
    """A function, in force or not."""
    config = decode_config(row.config)
    return {
        "id": uuid_of(row.id),
        "name": row.name,
        "slug": row.id,
        "config": lazy(lambda: encode(shapes_v1.function(row)["config"]).decode()),
        "concurrency": _concurrency(config),
        "triggers": [
            {"type": "CRON", "value": trigger.cron}
            if isinstance(trigger, Cron)
            else {"type": "EVENT", "value": trigger.event, "condition": trigger.expression}
            for trigger in config.triggers
        ],
        "url": config.url or "",
        "appID": uuid_of(row.app_id),
        "app": asked(lambda: app(reader, row.app_id)),
    }


def _concurrency(config: FunctionConfig) -> int:
    return next((rule.limit for rule in config.concurrency if rule.scope == "fn" and not rule.key), 0)


async def app(reader: Reader, app_id: str) -> Json:
    """An app of this process or on another server, or a URL at which one is awaited."""
    rows = [row for row in (await reader.functions()).values() if row.app_id == app_id and row.archived_at is None]
    known = reader.backend.registry.get(app_id)
    shown = _embedded_app() if known is None else _remote_app(known)
    return {
        "id": uuid_of(app_id),
        "externalID": app_id,
        "name": app_id,
        "autodiscovered": False,
        "functionCount": len(rows),
        "functions": lazy(lambda: [function(reader, row) for row in rows]),
        **shown,
    }


def _embedded_app() -> dict[str, Json]:
    shown = {"sdkLanguage": "python", "sdkVersion": version("perdure"), "framework": "perdure"}
    return {**shown, "connected": True, "method": "EMBEDDED"}


def _remote_app(row: AppRow) -> dict[str, Json]:
    language, _, sdk_version = row.sdk.partition(":")
    shown: dict[str, Json] = {
        "appVersion": row.version or None,
        "sdkLanguage": language,
        "sdkVersion": sdk_version,
        "framework": row.framework or None,
        "url": row.url or None,
        "checksum": row.checksum or None,
        "error": row.error,
        "connected": row.error is None and bool(row.sync_id),
        "method": row.method.upper(),
    }
    # One that has not answered yet has no name but its URL.
    return shown if row.sync_id else {**shown, "externalID": "", "name": ""}


async def apps(reader: Reader) -> list[Json]:
    """All apps, by their ids."""
    names = {row.app_id for row in (await reader.functions()).values() if row.archived_at is None}
    names.update(row.id for row in reader.backend.registry.apps())
    return [await app(reader, name) for name in sorted(names)]


# Runs.


class _RunReads:
    """What of a run has to be read."""

    def __init__(self, reader: Reader, row: Run) -> None:
        self._reader = reader
        self._row = row

    async def app(self) -> Json:
        return await app(self._reader, self._row.app_id)

    async def function(self) -> Json:
        found = (await self._reader.functions()).get(self._row.function_id)
        if found is None:
            raise GraphQLError(f"function {self._row.function_id} is not known any longer")
        return function(self._reader, found)

    async def event_ids(self) -> list[str]:
        return await self._reader.event_ids(self._row)

    async def event_name(self) -> str | None:
        found = await self._reader.event(self._row.event_id)
        return None if found is None else found.name

    async def event(self) -> Json:
        found = await self._reader.event(self._row.event_id)
        return None if found is None else event(self._reader, found)

    async def events(self) -> list[Json]:
        rows = [await self._reader.event(event_id) for event_id in await self.event_ids()]
        return [event(self._reader, row) for row in rows if row is not None]

    async def trace(self, preview: bool) -> Json:
        detail = await self._reader.detail(self._row.id)
        return None if detail is None else spans.span_tree(self._reader, detail, preview=preview)

    async def has_ai(self) -> bool:
        detail = await self._reader.detail(self._row.id)
        return detail is not None and spans.has_ai(detail)


def run(reader: Reader, row: Run) -> Json:
    """A run."""
    below = _RunReads(reader, row)
    batched_at = rfc3339(ulid_millis(row.batch_id)) if row.batch_id and is_ulid(row.batch_id) else None
    return {
        "id": row.id,
        "appID": uuid_of(row.app_id),
        "app": asked(below.app),
        "functionID": uuid_of(row.function_id),
        "function": asked(below.function),
        "traceID": spans.trace_id(row.id),
        "status": STATUSES[RunStatus(row.status)],
        "queuedAt": rfc3339(row.created_at),
        "startedAt": optional_rfc3339(row.started_at),
        "endedAt": optional_rfc3339(row.ended_at),
        "finishedAt": optional_rfc3339(row.ended_at),
        "sourceID": None if row.parent is None else row.parent.partition(".")[0],
        "eventID": row.event_id,
        "triggerIDs": asked(below.event_ids),
        "event": asked(below.event),
        "events": asked(below.events),
        "eventName": asked(below.event_name),
        "isBatch": row.batch_id is not None,
        "batchID": row.batch_id,
        "batchCreatedAt": batched_at,
        "cron": row.cron,
        "cronSchedule": row.cron,
        "output": lazy(lambda: reader.text(row.output)),
        "trace": lambda info, preview=False: begun(below.trace(bool(preview))),
        "hasAI": asked(below.has_ai),
    }


async def trigger(reader: Reader, row: Run) -> Json:
    """What started a run."""
    ids = await reader.event_ids(row)
    rows = [found for found in [await reader.event(event_id) for event_id in ids] if found is not None]
    bodies = [_whole(found) for found in rows]
    return {
        "eventName": rows[0].name if rows else None,
        "IDs": ids,
        "payloads": lazy(lambda: [reader.encoded(body) for body in bodies]),
        "timestamp": rfc3339(bodies[0]["ts"] if bodies else row.created_at),
        "isBatch": row.batch_id is not None,
        "batchID": row.batch_id,
        "cron": row.cron,
    }


# Events.


def event(reader: Reader, row: EventRow) -> Json:
    """An event. What sent it chose `externalID`; the events of one sender that are the same have the same."""
    body = _whole(row)

    async def runs() -> list[Json]:
        return [run(reader, each) for each in await reader.runs_of_event(row.internal_id)]

    async def counted(final: bool | None) -> int:
        found = await reader.runs_of_event(row.internal_id)
        return sum(final is None or RunStatus(each.status).final == final for each in found)

    async def status() -> str:
        found = await reader.runs_of_event(row.internal_id)
        return _event_status([RunStatus(each.status) for each in found])

    return {
        "id": row.internal_id,
        "externalID": body["id"],
        "idempotencyKey": body["id"],
        "name": row.name,
        "createdAt": rfc3339(row.received_at),
        "receivedAt": rfc3339(row.received_at),
        "occurredAt": rfc3339(body["ts"]),
        "payload": lazy(lambda: reader.encoded(body["data"])),
        "raw": lazy(lambda: reader.encoded(body)),
        "version": body.get("v") or "",
        "status": asked(status),
        "pendingRuns": asked(lambda: counted(False)),
        "totalRuns": asked(lambda: counted(None)),
        "functionRuns": asked(runs),
        "runs": asked(runs),
    }


def _whole(row: EventRow) -> dict[str, Json]:
    """An event as its sender could have sent it."""
    body: dict[str, Json] = decode(row.body)
    return {**body, "id": body.get("id") or row.internal_id}


def _event_status(statuses: list[RunStatus]) -> str:
    if not statuses:
        return "NO_FUNCTIONS"
    if any(not status.final for status in statuses):
        return "RUNNING"
    failed = statuses.count(RunStatus.FAILED)
    if failed == 0:
        return "COMPLETED"
    return "FAILED" if failed == len(statuses) else "PARTIALLY_FAILED"
