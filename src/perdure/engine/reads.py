"""Typed questions to the store: each function asks one named query and gives its rows a shape.

Used with `yield from` inside decisions. The names are those of the statements in the stores' .sql files.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.engine.turn import Decision, Lease, Read
from perdure.model.event import Event
from perdure.model.json import Json, decode
from perdure.model.records import AppRow, Attempt, EventRow, FunctionRow, Job, Pause, Run, Step

PAUSE_PATHS = "pause_paths"
_NAMES_AT_ONCE = 3
"""Names per statement; most events have no more, wildcards included."""


def holds_lease(lease: Lease) -> Decision[bool]:
    """Whether the lease still is the job's. False for an answer from a node that was given up."""
    rows = yield Read("job_lease", (lease.job_id,))
    return bool(rows) and rows[0][0] == lease.node and rows[0][1] == lease.token


def leased_job(lease: Lease) -> Decision[Job | None]:
    """The job, if the lease still holds."""
    job = yield from job_by_id(lease.job_id)
    if job is None or job.node != lease.node or job.token != lease.token:
        return None
    return job


def job_by_id(job_id: str) -> Decision[Job | None]:
    rows = yield Read("job_by_id", (job_id,))
    return Job(*rows[0]) if rows else None


def due_jobs(now: int, limit: int) -> Decision[list[Job]]:
    rows = yield Read("due_jobs", (now, limit))
    return [Job(*row) for row in rows]


def next_due() -> Decision[int | None]:
    """When the next scheduled job is due."""
    rows = yield Read("next_due", ())
    due: int | None = rows[0][0] if rows else None
    return due


def ready_jobs(limit: int) -> Decision[list[Job]]:
    """Jobs to claim, those of highest priority and longest wait first."""
    rows = yield Read("ready_jobs", (limit,))
    return [Job(*row) for row in rows]


def blocked_jobs(key: str, limit: int) -> Decision[list[str]]:
    """The ids of the jobs that wait for a flow-control key, in the order in which they get it."""
    rows = yield Read("blocked_jobs", (key, limit))
    return [row[0] for row in rows]


def run_by_id(run_id: str) -> Decision[Run | None]:
    rows = yield Read("run_by_id", (run_id,))
    return Run(*rows[0]) if rows else None


def active_runs(function_id: str, after_id: str, limit: int) -> Decision[list[Run]]:
    """Runs of a function that have not ended, in order of their ids."""
    rows = yield Read("active_runs", (function_id, after_id, limit))
    return [Run(*row) for row in rows]


def run_events(run: Run) -> Decision[list[Event]]:
    """The events of a run: one, or those of its batch in order."""
    rows = yield Read("event_by_id", (run.event_id,))
    if run.batch_id is not None:
        rows = rows + (yield Read("batch_events", (run.id,)))
    return [_event(EventRow(*row)) for row in rows]


def event_by_id(internal_id: str) -> Decision[EventRow | None]:
    rows = yield Read("event_by_id", (internal_id,))
    return EventRow(*rows[0]) if rows else None


def _event(row: EventRow) -> Event:
    return stored_event(row.body)


def stored_event(body: bytes) -> Event:
    """An event from the body it was stored as."""
    fields = decode(body)
    return Event(
        name=fields["name"],
        data=fields["data"],
        id=fields["id"],
        ts=fields["ts"],
        user=fields.get("user"),
        v=fields.get("v"),
        meta=fields.get("meta"),
    )


def steps_of(run_id: str) -> Decision[list[Step]]:
    """All steps of a run, in the order in which they were begun."""
    rows = yield Read("steps_of", (run_id,))
    return [Step(*row) for row in rows]


def step_by_id(run_id: str, step_id: str) -> Decision[Step | None]:
    rows = yield Read("step_by_id", (run_id, step_id))
    return Step(*rows[0]) if rows else None


def defers_of(run_id: str) -> Decision[list[Step]]:
    """The rows of a run's defers (see `engine.defers`)."""
    rows = yield Read("defers_of", (run_id,))
    return [Step(*row) for row in rows]


def attempts_of(run_id: str) -> Decision[list[Attempt]]:
    rows = yield Read("attempts_of", (run_id,))
    return [Attempt(*row) for row in rows]


def pauses_on(names: Sequence[str]) -> Decision[list[tuple[str, str | None]]]:
    """The (name, path) pairs under which pauses wait for any of the event names."""
    found: list[tuple[str, str | None]] = []
    for first in range(0, len(names), _NAMES_AT_ONCE):
        some = tuple(names[first : first + _NAMES_AT_ONCE])
        found += yield Read(PAUSE_PATHS, some + (None,) * (_NAMES_AT_ONCE - len(some)))
    return found


def pauses_at(name: str, path: str | None, value: str | None) -> Decision[list[Pause]]:
    """The pauses on a name: those indexed under the path with this value, or those without an index."""
    rows = yield Read("pauses_unindexed", (name,)) if path is None else Read("pauses_indexed", (name, path, value))
    return [Pause(*row) for row in rows]


def pause_by_id(pause_id: str) -> Decision[Pause | None]:
    rows = yield Read("pause_by_id", (pause_id,))
    return Pause(*rows[0]) if rows else None


def signal_pause(signal: str) -> Decision[Pause | None]:
    rows = yield Read("signal_pause", (signal,))
    return Pause(*rows[0]) if rows else None


def slots_taken(key: str, owner: str) -> Decision[int]:
    """How many slots of the key stand in this owner's way: none where it has one itself, else all that are held."""
    rows = yield Read("slots_taken", (key, owner))
    taken: int = rows[0][0]
    return taken


def slot_owner(key: str) -> Decision[str | None]:
    rows = yield Read("slot_owner", (key,))
    return rows[0][0] if rows else None


def bucket(key: str) -> Decision[float | None]:
    """The theoretical arrival time of a throttle key."""
    rows = yield Read("bucket", (key,))
    return rows[0][0] if rows else None


def hits_since(key: str, since: int) -> Decision[int]:
    """How many starts a rate limit has counted after a time."""
    rows = yield Read("hits_since", (key, since))
    hits: int = rows[0][0]
    return hits


def idempotent_event(key: str, now: int) -> Decision[str | None]:
    """The internal id of the event that took an idempotency key, while the key is remembered."""
    rows = yield Read("idempotent_event", (key, now))
    return rows[0][0] if rows else None


def batch_items(job_id: str) -> Decision[list[tuple[str, int]]]:
    """The (event id, size in bytes) pairs collected for a batch, in order."""
    rows = yield Read("batch_items", (job_id,))
    return [(row[0], row[1]) for row in rows]


def apps() -> Decision[list[AppRow]]:
    """The apps on other servers."""
    rows = yield Read("apps", ())
    return [AppRow(*row) for row in rows]


def app_by_id(app_id: str) -> Decision[AppRow | None]:
    rows = yield Read("app_by_id", (app_id,))
    return AppRow(*rows[0]) if rows else None


def functions() -> Decision[list[FunctionRow]]:
    rows = yield Read("functions", ())
    return [FunctionRow(*row) for row in rows]


def windows(function_id: str) -> Decision[list[Job]]:
    """The open batches and debounce windows of a function."""
    rows = yield Read("windows", (function_id,))
    return _of_function(function_id, rows)


def cron_jobs(function_id: str) -> Decision[list[Job]]:
    rows = yield Read("cron_jobs", (function_id,))
    return _of_function(function_id, rows)


def _of_function(function_id: str, rows: list[tuple[Json, ...]]) -> list[Job]:
    # Ids that apps on other servers choose may have colons: "a" must not get the jobs of "a:b".
    return [job for job in (Job(*row) for row in rows) if job.function_id == function_id]


def secret(name: str) -> Decision[bytes | None]:
    """A secret of the installation."""
    rows = yield Read("secret", (name,))
    found: bytes | None = rows[0][1] if rows else None
    return found
