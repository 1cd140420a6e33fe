"""Retention: ended runs and events older than their time go, a page at a time, with the payloads only they used."""

from __future__ import annotations

import msgspec

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
    """How long what has ended is kept: completed (and cancelled, skipped) runs, failed runs, and events.

    An event is kept as long as a run that it started. None keeps for ever.
    """

    completed: Duration | None = "7d"
    failed: Duration | None = "30d"
    events: Duration | None = "7d"

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, value in (("completed", self.completed), ("failed", self.failed), ("events", self.events)):
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


def sweep(turn: Turn) -> Decision[None]:
    """Drops flow-control state that has expired, old orders in bulk, and payloads without owners."""
    yield DeleteExpiredIdempotency(turn.now)
    yield DeleteExpiredBuckets(turn.now)
    yield DeleteExpiredHits(turn.now)
    yield DeleteOldCancellations(turn.now - _ORDERS_KEPT)
    yield DeleteOldReplays(turn.now - _ORDERS_KEPT)
    yield DeleteUnusedBlobs()
