"""Questions that people and programs ask of a server: lists, traces, health. They change nothing."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from perdure.engine import reads
from perdure.engine.cluster import Cluster, cluster
from perdure.engine.turn import Decision, Read
from perdure.model.event import Event
from perdure.model.ids import make_ulid
from perdure.model.json import encode
from perdure.model.limits import MINUTE
from perdure.model.records import Attempt, EventRow, Job, JobState, Pause, Run, RunMetadata, RunStatus, Step

_AFTER_ALL = "~"
"""Sorts after every id."""


class Span(msgspec.Struct, frozen=True):
    """A span of time, both ends included (ms, None is open), and the time of a run that must lie in it."""

    begin: int | None = None
    end: int | None = None
    field: Literal["queued", "started", "ended"] = "queued"


_ANY_TIME = Span()


class RunDetail(msgspec.Struct):
    """A run with everything that is recorded of it."""

    run: Run
    events: list[Event]
    event_ids: list[str]
    steps: list[Step]
    attempts: list[Attempt]
    metadata: list[RunMetadata] = []


class AgentHealth(msgspec.Struct):
    """Counts of the agents' tables. `stranded`: pending approvals (run, tool call) whose run is over or gone, which
    would be a defect."""

    threads: int
    pending_approvals: int
    stranded: list[tuple[str, str]]


class Health(msgspec.Struct):
    """Counts by run status and job state, and what should not be there."""

    runs: dict[RunStatus, int]
    jobs: dict[JobState, int]
    orphans: list[tuple[str, str]]
    leaked_slots: list[tuple[str, str]]
    unregistered: dict[str, int]
    paused: list[str]
    agents: AgentHealth
    cluster: Cluster = msgspec.field(default_factory=Cluster)


def list_events(
    limit: int,
    cursor: str | None = None,
    *,
    name: str | None = None,
    received_after: int | None = None,
    received_before: int | None = None,
    internal: bool = False,
) -> Decision[list[EventRow]]:
    """Events, newest first; `cursor` is the internal id of the last one seen."""
    params = (cursor or _AFTER_ALL, int(internal), name, received_after, received_before, limit)
    rows = yield Read("list_events", params)
    return [EventRow(*row) for row in rows]


def list_runs(
    limit: int,
    cursor: str | None = None,
    *,
    statuses: list[RunStatus] | None = None,
    function_ids: list[str] | None = None,
    app_ids: list[str] | None = None,
    span: Span = _ANY_TIME,
    oldest_first: bool = False,
    deferred: bool | None = None,
) -> Decision[list[Run]]:
    """Runs, newest first; `cursor` is the id of the last one seen. Given lists select, None selects all.

    `deferred` selects the runs that other runs deferred, or those that none did.
    """
    if oldest_first:
        chosen = _chosen(cursor or "", statuses, function_ids, app_ids, span, deferred, limit)
        rows = yield Read("list_runs_oldest_first", chosen)
        return [Run(*row) for row in rows]
    if app_ids is not None and function_ids is None:
        function_ids = [row.id for row in (yield from reads.functions()) if row.app_id in app_ids]
    chosen = _chosen(cursor or _AFTER_ALL, statuses, function_ids, app_ids, span, deferred, limit)
    found: list[Run] = []
    for read in _ways(chosen, statuses, function_ids):
        found += [Run(*row) for row in (yield read)]
    # Each way has its runs in order; together they are one list.
    found.sort(key=lambda run: run.id, reverse=True)
    return found[:limit]


_RARE = frozenset({RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED})
_MANY_FUNCTIONS = 50
_Chosen: TypeAlias = "tuple[str | int | None, ...]"


def _chosen(
    cursor: str,
    statuses: list[RunStatus] | None,
    function_ids: list[str] | None,
    app_ids: list[str] | None,
    span: Span,
    deferred: bool | None,
    limit: int,
) -> _Chosen:
    wanted = None if statuses is None else encode([int(status) for status in statuses]).decode()
    functions = None if function_ids is None else encode(function_ids).decode()
    apps = None if app_ids is None else encode(app_ids).decode()
    only = None if deferred is None else int(deferred)
    return cursor, wanted, functions, apps, span.field, span.begin, span.end, only, limit


def _ways(chosen: _Chosen, statuses: list[RunStatus] | None, function_ids: list[str] | None) -> list[Read]:
    """The questions whose answers together are the list: by the index that passes over the fewest other runs."""
    if statuses is not None and _RARE.issuperset(statuses):
        return [Read("list_runs_ended_badly", (*chosen, int(status))) for status in set(statuses)]
    if statuses is not None and not any(status.final for status in statuses):
        return [Read("list_open_runs", chosen)]
    if function_ids is not None and len(function_ids) <= _MANY_FUNCTIONS:
        return [Read("list_runs_of_function", (*chosen, function_id)) for function_id in set(function_ids)]
    return [Read("list_runs", chosen)]


def count_listed_runs(
    limit: int,
    *,
    statuses: list[RunStatus] | None = None,
    function_ids: list[str] | None = None,
    app_ids: list[str] | None = None,
    span: Span = _ANY_TIME,
) -> Decision[int]:
    """How many runs `list_runs` would list in all, counted up to a limit."""
    wanted = None if statuses is None else encode([int(status) for status in statuses]).decode()
    functions = None if function_ids is None else encode(function_ids).decode()
    apps = None if app_ids is None else encode(app_ids).decode()
    rows = yield Read("count_listed_runs", (wanted, functions, apps, span.field, span.begin, span.end, limit))
    count: int = rows[0][0]
    return count


def count_listed_events(
    limit: int,
    *,
    names: list[str] | None = None,
    received_after: int | None = None,
    received_before: int | None = None,
    internal: bool = False,
) -> Decision[int]:
    """How many events there are of some names, received between two times, counted up to a limit."""
    wanted = None if names is None else encode(names).decode()
    rows = yield Read("count_listed_events", (int(internal), wanted, received_after, received_before, limit))
    count: int = rows[0][0]
    return count


def invoked_run(run_id: str, step_id: str, invoked_at: int) -> Decision[Run | None]:
    """The run that a step started at a time (ms); None for one that began more than a minute before or after."""
    first = max(run_id, make_ulid(invoked_at - MINUTE, 0))
    rows = yield Read("invoked_run", (first, make_ulid(invoked_at + MINUTE, 0), f"{run_id}.{step_id}"))
    return Run(*rows[0]) if rows else None


def event_ids(run: Run) -> Decision[list[str]]:
    """The internal ids of a run's events, in order: one, or those of its batch."""
    if run.batch_id is None:
        return [run.event_id]
    return [run.event_id] + [row[0] for row in (yield Read("batch_event_ids", (run.id,)))]


def runs_of_event(internal_id: str) -> Decision[list[Run]]:
    """The runs that an event started, as first event or within a batch."""
    rows = yield Read("runs_of_event", (internal_id,))
    return [Run(*row) for row in rows]


def jobs_of_run(run_id: str, limit: int = 10) -> Decision[list[Job]]:
    """The driver job and the timers of a run that has not ended."""
    rows = yield Read("jobs_of_run", (run_id, run_id + "/", limit))
    return [Job(*row) for row in rows]


def pauses_of_run(run_id: str) -> Decision[list[Pause]]:
    """What a run waits for, and the rules that would cancel it."""
    rows = yield Read("pauses_of_run", (run_id, run_id + "/"))
    return [Pause(*row) for row in rows]


def run_detail(run_id: str) -> Decision[RunDetail | None]:
    """A run with its events, steps and failed attempts; None when there is no such run."""
    run = yield from reads.run_by_id(run_id)
    if run is None:
        return None
    ids = yield from event_ids(run)
    events = yield from reads.run_events(run)
    steps = yield from reads.steps_of(run_id)
    attempts = yield from reads.attempts_of(run_id)
    return RunDetail(run, events, ids, steps, attempts, (yield from metadata_of_run(run_id)))


def metadata_of_run(run_id: str) -> Decision[list[RunMetadata]]:
    """What programs noted about a run and its steps."""
    rows = yield Read("metadata_of_run", (run_id,))
    return [RunMetadata(*row) for row in rows]


def next_due_besides_cron() -> Decision[int | None]:
    """When something is due that is not a cron tick."""
    rows = yield Read("next_due_besides_cron", ())
    return rows[0][0] if rows else None


def health(limit: int = 20) -> Decision[Health]:
    """What an operator wants to know first. Orphans and leaked slots would be defects of perdure."""
    runs = {RunStatus(row[0]): row[1] for row in (yield Read("count_runs", ()))}
    jobs = {JobState(row[0]): row[1] for row in (yield Read("count_jobs", ()))}
    orphans = [(row[0], row[1]) for row in (yield Read("orphan_runs", (limit,)))]
    slots = [(row[0], row[1]) for row in (yield Read("leaked_slots", (limit,)))]
    unregistered = {row[0]: row[1] for row in (yield Read("unregistered_runs", ()))}
    paused = [row.id for row in (yield from reads.functions()) if row.paused_at is not None and row.archived_at is None]
    threads, pending = (yield Read("count_agent_tables", ()))[0]
    stranded = [(row[0], row[1]) for row in (yield Read("stranded_approvals", (limit,)))]
    agents = AgentHealth(threads, pending, stranded)
    return Health(runs, jobs, orphans, slots, unregistered, paused, agents, (yield from cluster(limit)))
