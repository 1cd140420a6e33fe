"""What operators see of a server while it works: flow control and activity of functions, failures, the whole.

Handlers of v2; the questions are those of `engine.observe`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from perdure.engine import observe, reads
from perdure.engine.agents import runs as agent_runs
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.observe import Bucket, FailureGroup, FlowKey
from perdure.engine.retention import Retention
from perdure.engine.views import Health
from perdure.model.config import Cron
from perdure.model.cron import parse_cron
from perdure.model.ids import is_ulid
from perdure.model.json import Json
from perdure.model.limits import DAY, HOUR, MINUTE
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError, v2
from perdure.server.identity import short_id
from perdure.server.queries import number
from perdure.server.routing import Handler
from perdure.server.shapes_v2 import STATUSES
from perdure.server.times import rfc3339

_TICKS = 5
_EXAMINED = 500
_MAX_HOURS = 24 * 7
_BUCKETS = 60
_REST = 10
"""How many times as long as counting took its numbers are good for."""


def handlers(backend: Backend) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""
    api = _Api(backend)
    return {
        "GetFunctionFlow": api.flow,
        "GetFunctionActivity": api.activity,
        "GetActivity": api.activity_of_all,
        "ListFailures": api.failures,
        "GetSystem": api.system,
        "GetAgentRun": api.agent_run,
    }


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._counting = asyncio.Lock()
        self._counted: Health | None = None
        self._counted_until = 0

    async def _health(self) -> Health:
        """What is counted over all runs: however many pages are open, that keeps the store busy a tenth of the time."""
        async with self._counting:
            begun = self._backend.clock.now()
            if self._counted is None or begun >= self._counted_until:
                self._counted = await self._backend.health()
                ended = self._backend.clock.now()
                self._counted_until = ended + _REST * (ended - begun)
            return self._counted

    def _answer(self, data: Json, page: Json = None) -> Response:
        return v2(data, self._backend.clock.now(), page)

    async def flow(self, request: Request) -> Response:
        function = self._function(request)
        keys = await self._backend.view(partial(observe.flow, function))
        return self._answer({"keys": [_key(key) for key in keys], "nextTicks": await self._ticks(function)})

    async def activity(self, request: Request) -> Response:
        return await self._activity(request, self._function(request).id)

    async def activity_of_all(self, request: Request) -> Response:
        return await self._activity(request, None)

    async def failures(self, request: Request) -> Response:
        cursor = request.query_params.get("cursor") or None
        if cursor is not None and not is_ulid(cursor):
            raise ApiError(400, "Cursor is invalid", "invalid_field_format")
        groups, following = await self._backend.view(partial(observe.failures, _EXAMINED, cursor))
        page: dict[str, Json] = {"limit": _EXAMINED}
        if following is not None:
            page |= {"cursor": following, "hasMore": True}
        return self._answer([self._group(group) for group in groups], page)

    async def system(self, request: Request) -> Response:
        health, whole = await self._health(), await self._backend.view(observe.whole)
        executing, parked = self._backend.load
        now = self._backend.clock.now()
        nodes = [_node(id, until, now) for id, until in whole.nodes]
        shown: dict[str, Json] = {
            "version": version("perdure"),
            "python": ".".join(map(str, sys.version_info[:3])),
            "nodes": nodes,
            "runs": {str(status): count for status, count in health.runs.items()},
            "jobs": {state.name.lower(): count for state, count in health.jobs.items()},
            "executing": executing,
            "parked": parked,
            "functions": len(self._backend.catalogue.functions),
            "paused": health.paused,
            "unregistered": health.unregistered,
            "orphans": len(health.orphans),
            "leakedSlots": len(health.leaked_slots),
            "storeBytes": whole.size,
            "retention": _retention(self._backend.retention),
        }
        if whole.oldest_ready is not None:
            shown["oldestReadyAt"] = rfc3339(whole.oldest_ready)
        return self._answer(shown)

    async def agent_run(self, request: Request) -> Response:
        asked = request.path_params["agent_run_id"]
        found = await self._backend.view(partial(agent_runs.run_by_id, asked))
        if found is None:
            # Runs of agents that are not durable are carried out by no run: that is an answer, and no mistake.
            return self._answer({"id": asked})
        shown: dict[str, Json] = {"id": found.run_id, "agentId": found.agent_id, "status": found.status}
        return self._answer(shown if found.engine_run_id is None else {**shown, "runId": found.engine_run_id})

    async def _activity(self, request: Request, function_id: str | None) -> Response:
        text = request.query_params.get("hours")
        hours = number(text) if text else 1
        if not hours or hours > _MAX_HOURS:
            raise ApiError(400, f"hours must be a whole number from 1 to {_MAX_HOURS}", "invalid_field_format")
        width = max(hours * HOUR // _BUCKETS, MINUTE)
        since = (self._backend.clock.now() - hours * HOUR) // width * width
        buckets = await self._backend.view(partial(observe.series, since, width, function_id))
        return self._answer({"from": rfc3339(since), "widthMs": width, "buckets": [_bucket(each) for each in buckets]})

    async def _ticks(self, function: CompiledFunction) -> list[Json]:
        """The next ticks of each schedule: that which its job holds, and those that follow."""
        held = {job.id: job.due_at for job in await self._backend.view(partial(reads.cron_jobs, function.id))}
        now = self._backend.clock.now()
        shown: list[Json] = []
        for trigger in function.config.triggers:
            if not isinstance(trigger, Cron):
                continue
            spec, at = parse_cron(trigger.cron), now
            due = next((due for id, due in held.items() if id.endswith(f":{trigger.cron}")), None)
            ticks: list[int] = []
            for _ in range(_TICKS):
                at = spec.next(at, due or now)
                ticks.append(at)
            shown.append({"cron": trigger.cron, "at": [rfc3339(tick) for tick in ticks]})
        return shown

    def _group(self, group: FailureGroup) -> Json:
        function = self._backend.catalogue.get(group.function_id)
        short = short_id(group.function_id, group.app_id)
        return {
            "function": {"id": short, "name": function.config.name if function else short},
            "app": {"id": group.app_id},
            "error": {"name": group.name, "message": group.message},
            "count": group.count,
            "firstAt": rfc3339(group.first_at),
            "lastAt": rfc3339(group.last_at),
            "runIds": group.run_ids,
        }

    def _function(self, request: Request) -> CompiledFunction:
        app, name = request.path_params["app_id"], request.path_params["function_id"]
        for function in self._backend.catalogue.functions.values():
            if function.app_id == app and name in (function.id, short_id(function.id, app)):
                return function
        raise ApiError(404, "Function not found")


def _node(node_id: str, alive_until: int, now: int) -> Json:
    shown = {"id": node_id, "alive": alive_until > now}
    # A node that has the store to itself lives as long as its process, which is no date.
    return {**shown, "aliveUntil": rfc3339(alive_until)} if alive_until < now + DAY else shown


def _key(key: FlowKey) -> Json:
    shown: dict[str, Json] = {
        "key": key.key,
        "kind": key.kind.upper(),
        "holders": [
            {"runId": each.run_id, "slug": each.function_id, "since": rfc3339(each.since)} for each in key.holders
        ],
        "waiting": key.waiting,
        "first": [{"runId": each.run_id, "since": rfc3339(each.since)} for each in key.first],
    }
    return shown if key.limit is None else {**shown, "limit": key.limit}


def _bucket(bucket: Bucket) -> Json:
    shown: dict[str, Json] = {"at": rfc3339(bucket.at), "status": STATUSES[bucket.status], "count": bucket.count}
    times = {"queueMs": bucket.queue_avg, "durationMs": bucket.duration_avg, "longestMs": bucket.duration_max}
    return shown | {name: round(value) for name, value in times.items() if value is not None}


def _retention(kept: Retention) -> Json:
    return {name: None if (value := getattr(kept, name)) is None else str(value) for name in kept.__struct_fields__}
