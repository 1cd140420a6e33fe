"""What operators see of a server while it works: who holds and who waits for what, runs over time, failures, the whole.

Questions only, each bounded: a page that is open all day asks them again and again.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.engine import reads, views
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.turn import Decision, Read
from perdure.model.ids import make_ulid
from perdure.model.json import Json, decode
from perdure.model.limits import MINUTE
from perdure.model.records import Run, RunStatus

_SHOWN = 50
"""Holders, and keys with waiters, that are told at most."""
_FIRST = 5
"""Waiters of a key that are told, those first in line."""


class Holder(msgspec.Struct, frozen=True):
    """A run that holds a slot under a key. `since`: when it started (ms)."""

    run_id: str
    function_id: str
    since: int


class Waiter(msgspec.Struct, frozen=True):
    """A run that waits for a key. `since`: when it was queued (ms)."""

    run_id: str
    since: int


class FlowKey(msgspec.Struct):
    """A flow-control key: who holds it, how many runs of the function wait for it, and the first of them."""

    key: str
    kind: Literal["concurrency", "throttle", "paused", "app"]
    limit: int | None
    holders: list[Holder] = []
    waiting: int = 0
    first: list[Waiter] = []


class Bucket(msgspec.Struct, frozen=True):
    """Runs that were queued in a span of time and have one status. Times in ms; None where there is none yet."""

    at: int
    status: RunStatus
    count: int
    queue_avg: float | None
    duration_avg: float | None
    duration_max: int | None


class FailureGroup(msgspec.Struct):
    """Failed runs of one function with the same error, the newest first."""

    function_id: str
    app_id: str
    name: str
    message: str
    count: int
    first_at: int
    last_at: int
    run_ids: list[str]


class Whole(msgspec.Struct):
    """Nodes and until when each is alive (ms), how old the oldest ready job is (due at, ms), bytes of the store."""

    nodes: list[tuple[str, int]]
    oldest_ready: int | None
    size: int


def flow(function: CompiledFunction) -> Decision[list[FlowKey]]:
    """The flow-control keys of a function that somebody holds or waits for, those most waited for first."""
    found: dict[str, FlowKey] = {}
    for index, rule in enumerate(function.config.concurrency):
        prefix = f"fn:{function.id}:{index}:" if rule.scope == "fn" else f"{rule.scope}:"
        rows = yield Read("slots_between", (prefix, prefix[:-1] + ";", _SHOWN))
        for key, owner in rows:
            run = yield from reads.run_by_id(owner.partition(".")[0])
            if run is not None:
                shown = found.setdefault(key, FlowKey(key, "concurrency", rule.limit, [], 0, []))
                shown.holders.append(Holder(run.id, run.function_id, run.started_at or run.created_at))
    for blocked_on, count in (yield Read("blocked_counts", (function.id, _SHOWN))):
        # Runs wait for a shared key apart by their limits: "<key>|<function>:<rule>".
        key, _, rest = (blocked_on or "").partition("|")
        shown = found.setdefault(key, _queue(function, key, rest))
        shown.waiting += count
        shown.first += yield from _first_in_line(blocked_on)
    return sorted(found.values(), key=lambda each: (-each.waiting, each.key))


def _queue(function: CompiledFunction, key: str, rest: str) -> FlowKey:
    kind: Literal["concurrency", "throttle", "paused", "app"] = "concurrency"
    limit: int | None = None
    if key.startswith("throttle:"):
        kind, limit = "throttle", function.config.throttle.limit if function.config.throttle else None
    elif key.startswith("@"):
        kind = "paused"
    elif key.startswith(("fn:", "env:", "account:")):
        rule = rest.rpartition(":")[2] if rest else key.removeprefix(f"fn:{function.id}:").partition(":")[0]
        rules = function.config.concurrency
        limit = rules[int(rule)].limit if rule.isdecimal() and int(rule) < len(rules) else None
    else:
        kind = "app"
    return FlowKey(key, kind, limit, [], 0, [])


def _first_in_line(blocked_on: str) -> Decision[list[Waiter]]:
    waiters: list[Waiter] = []
    for job_id in (yield from reads.blocked_jobs(blocked_on, _FIRST)):
        run = yield from reads.run_by_id(job_id)
        if run is not None:
            waiters.append(Waiter(run.id, run.created_at))
    return waiters


def series(since: int, width: int, function_id: str | None = None) -> Decision[list[Bucket]]:
    """The runs of a function, or all, that were queued since a time, counted in spans of `width` ms."""
    # Ids begin with the time at which they were made, which is that of the queueing, or just before.
    first = make_ulid(max(0, since - MINUTE), 0)
    if function_id is None:
        rows = yield Read("run_series", (first, width))
    else:
        rows = yield Read("run_series_of_function", (function_id, first, width))
    buckets = [Bucket(row[0] * width, RunStatus(row[1]), *row[2:]) for row in rows]
    return [bucket for bucket in buckets if bucket.at + width > since]


def failures(limit: int, cursor: str | None = None) -> Decision[tuple[list[FailureGroup], str | None]]:
    """The newest `limit` failed runs after the cursor, grouped by function and error; the cursor of the next."""
    runs = yield from views.list_runs(limit, cursor, statuses=[RunStatus.FAILED])
    groups: dict[tuple[str, str, str], FailureGroup] = {}
    for run in runs:
        at = run.ended_at or run.created_at
        name, message = _error(run)
        key = (run.function_id, name, message)
        group = groups.setdefault(key, FailureGroup(run.function_id, run.app_id, name, message, 0, at, at, []))
        group.count += 1
        group.first_at, group.last_at = min(group.first_at, at), max(group.last_at, at)
        if len(group.run_ids) < 100:
            group.run_ids.append(run.id)
    ordered = sorted(groups.values(), key=lambda group: group.last_at, reverse=True)
    return ordered, runs[-1].id if len(runs) == limit else None


def _error(run: Run) -> tuple[str, str]:
    told: Json = None if run.output is None else decode(run.output)
    if not isinstance(told, dict):
        return "Error", str(told or "")[:300]
    return str(told.get("name") or "Error")[:100], str(told.get("message") or told.get("error") or "")[:300]


def whole() -> Decision[Whole]:
    """What is asked of the installation besides its counts."""
    nodes = [(row[0], row[1]) for row in (yield Read("nodes", (100,)))]
    ready = yield Read("oldest_ready", ())
    size = yield Read("store_size", ())
    return Whole(nodes, ready[0][0] if ready else None, size[0][0])
