"""Debounce and batching: events that start a run later, together or in each other's place.

The waiting window is a job whose data says what was collected; when it is due, `due.fire` starts the run. Both
survive a restart like any job (parts D.4 and D.5).
"""

from __future__ import annotations

import msgspec

from perdure.engine import reads
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.flow import key_of, timer
from perdure.engine.mutations import DeleteBatchItems, DeleteJob, PutBatchItem
from perdure.engine.turn import Decision, Turn
from perdure.model.event import StoredEvent
from perdure.model.json import Json, encode
from perdure.model.limits import MAX_BATCH_BYTES


class DebounceWindow(msgspec.Struct):
    """The event that will start the run, its `ts`, and when the window opened."""

    event_id: str
    ts: int
    opened_at: int


window_of = msgspec.json.Decoder(DebounceWindow).decode


def debounce(turn: Turn, function: CompiledFunction, stored: StoredEvent, scope: dict[str, Json]) -> Decision[None]:
    """Opens or restarts the window of the event's key; the event with the latest `ts` is the one that counts."""
    key = key_of(function.debounce_key, scope, turn.now, invalid="<invalid>") or ""
    job_id = f"debounce:{function.id}:{key}"
    job = yield from reads.job_by_id(job_id)
    window = DebounceWindow(stored.internal_id, stored.event.ts, turn.now)
    if job is not None and job.data is not None:
        earlier = window_of(job.data)
        window.opened_at = earlier.opened_at
        if earlier.ts > window.ts:
            window.event_id, window.ts = earlier.event_id, earlier.ts
    due_at = turn.now + function.debounce_period
    if function.debounce_timeout is not None:
        due_at = max(turn.now, min(due_at, window.opened_at + function.debounce_timeout))
    yield timer(job_id, "debounce", turn, None, function.id, due_at, msgspec.json.encode(window))


def batch(
    turn: Turn, function: CompiledFunction, stored: StoredEvent, scope: dict[str, Json]
) -> Decision[list[str] | None]:
    """Adds an event to the batch of its key; returns all event ids once the batch is full, in order of arrival."""
    config = function.config.batch_events
    key = key_of(function.batch_key, scope, turn.now) or ""
    job_id = f"batch:{function.id}:{key}"
    items = yield from reads.batch_items(job_id)
    size = len(encode(stored.event.to_json()))
    if any(event_id == stored.internal_id for event_id, _ in items):
        return None
    if config is not None and (
        len(items) + 1 >= config.max_size or size + sum(size for _, size in items) >= MAX_BATCH_BYTES
    ):
        yield from close_batch(job_id)
        return [event_id for event_id, _ in items] + [stored.internal_id]
    if not items:
        yield timer(job_id, "batch", turn, None, function.id, turn.now + function.batch_timeout)
    yield PutBatchItem(job_id, stored.internal_id, len(items), size)
    return None


def close_batch(job_id: str) -> Decision[None]:
    yield DeleteJob(job_id)
    yield DeleteBatchItems(job_id)
