"""Retention: ended runs and events older than their time go, a page at a time, with the payloads only they used.

Runs of agents carry their own time; threads are kept unless somebody says how long.
"""

from __future__ import annotations

import msgspec

from perdure.engine.agents import runs as agent_runs
from perdure.engine.agents import threads, upkeep
from perdure.engine.mutations import (
    DeleteBlobUses,
    DeleteEvent,
    DeleteExpiredBuckets,
    DeleteExpiredHits,
    DeleteExpiredIdempotency,
    DeleteOldCancellations,
    DeleteOldReplays,
    DeleteRun,
    DeleteRunAttempts,
    DeleteRunChunks,
    DeleteRunEvents,
    DeleteRunMetadata,
    DeleteRunSteps,
    DeleteRunStream,
    DeleteUnusedBlobs,
)
from perdure.engine.turn import Decision, Read, Turn
from perdure.model.config import Duration
from perdure.model.durations import DurationError, parse_duration
from perdure.model.errors import ConfigError
from perdure.model.ids import make_ulid
from perdure.model.json import encode
from perdure.model.limits import DAY
from perdure.model.records import RunStatus


class Retention(msgspec.Struct, frozen=True):
    """How long what has ended is kept: completed (and cancelled, skipped) runs, failed runs, events, and threads.

    An event is kept as long as a run that it started, a thread since something was last said in it. None keeps for
    ever. Runs of agents, with what they asked and were told, are kept as long as their agents say.
    """

    completed: Duration | None = "7d"
    failed: Duration | None = "30d"
    events: Duration | None = "7d"
    threads: Duration | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name in self.__struct_fields__:
            value: Duration | None = getattr(self, name)
            try:
                if value is not None and parse_duration(value) < 0:
                    problems.append(f"{name}: must not be negative, got {value!r}")
            except DurationError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise ConfigError("retention", problems)


class Page(msgspec.Struct):
    """What one page of a collection found, and where the next begins (None at the end)."""

    ids: list[str]
    cursor: str | None


_NOTES_KEPT = DAY
"""How long followers of a thread are told of signals that were persisted in it."""
_ORDERS_KEPT = 30 * DAY
"""How long it is remembered what was cancelled and replayed in bulk."""
_COMPLETED = [RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.SKIPPED]
_FAILED = [RunStatus.FAILED]


def expired_runs(now: int, age: Duration, *, failed: bool, cursor: str, limit: int) -> Decision[Page]:
    """A page of the runs that ended longer ago than `age`."""
    before = now - parse_duration(age)
    statuses = encode([int(status) for status in (_FAILED if failed else _COMPLETED)]).decode()
    rows = yield Read("expired_runs", (cursor, make_ulid(max(before, 0), 0), before, statuses, limit))
    return _page([row[0] for row in rows], limit)


def expired_events(now: int, age: Duration, *, cursor: str, limit: int) -> Decision[Page]:
    """A page of the events older than `age` that no run refers to."""
    before = make_ulid(max(now - parse_duration(age), 0), 0)
    rows = yield Read("expired_events", (cursor, before, limit))
    return _page([row[0] for row in rows], limit)


def expired_agent_runs(now: int, *, cursor: str, limit: int) -> Decision[Page]:
    """A page of the runs of agents whose time is over."""
    return _page((yield from agent_runs.expired(now, cursor, limit)), limit)


def expired_threads(now: int, age: Duration, *, cursor: str, limit: int) -> Decision[Page]:
    """A page of the threads in which nothing was said for longer than `age`."""
    return _page((yield from threads.expired(now - parse_duration(age), cursor, limit)), limit)


def _page(ids: list[str], limit: int) -> Page:
    return Page(ids, ids[-1] if len(ids) == limit else None)


def delete_runs(turn: Turn, run_ids: list[str]) -> Decision[None]:
    """Forgets ended runs."""
    del turn
    for run_id in run_ids:
        yield DeleteRun(run_id)
        yield DeleteRunSteps(run_id)
        yield DeleteRunAttempts(run_id)
        yield DeleteRunEvents(run_id)
        yield DeleteRunMetadata(run_id)
        yield DeleteRunStream(run_id)
        yield DeleteRunChunks(run_id)
        yield DeleteBlobUses(run_id)


def delete_events(turn: Turn, event_ids: list[str]) -> Decision[None]:
    """Forgets events that no run refers to."""
    del turn
    for event_id in event_ids:
        yield DeleteEvent(event_id)
        yield DeleteBlobUses(event_id)


def delete_agent_runs(turn: Turn, run_ids: list[str]) -> Decision[None]:
    """Forgets runs of agents, with what they asked and were told."""
    del turn
    yield from agent_runs.delete(run_ids)


def reconcile_agent_runs(turn: Turn, limit: int) -> Decision[int]:
    """Ends runs of agents whose run of the engine is over; how many."""
    return (yield from upkeep.reconcile(turn.now, limit))


def delete_threads(turn: Turn, thread_ids: list[str]) -> Decision[None]:
    """Forgets threads with their messages."""
    del turn
    yield from threads.delete(thread_ids)


def sweep(turn: Turn) -> Decision[None]:
    """Drops flow-control state that has expired, old orders in bulk, and payloads without owners."""
    yield DeleteExpiredIdempotency(turn.now)
    yield DeleteExpiredBuckets(turn.now)
    yield DeleteExpiredHits(turn.now)
    yield DeleteOldCancellations(turn.now - _ORDERS_KEPT)
    yield DeleteOldReplays(turn.now - _ORDERS_KEPT)
    yield from upkeep.forget_persisted(turn.now - _NOTES_KEPT)
    yield DeleteUnusedBlobs()
