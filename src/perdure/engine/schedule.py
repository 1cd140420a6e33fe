"""From an event to its runs: the order of evaluation is the protocol's (part D).

Paused functions are passed by; rate limit and idempotency drop; debounce defers; batching collects; a singleton
skips or cancels; what is left becomes a run with a driver job, leased at once where the limits and the offering
node have room. An event also resumes or cancels runs that wait for it. All of it is one transaction.
"""

from __future__ import annotations

import msgspec

from perdure import expressions
from perdure.engine import reads
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.collect import batch, close_batch, debounce, window_of
from perdure.engine.finish import cancel_run
from perdure.engine.flow import (
    Key,
    admit,
    concurrency_keys,
    digest,
    finish_timer,
    key_of,
    rank,
    rate_limited,
    throttle_gate,
    timer,
)
from perdure.engine.mutations import PutEvent, PutIdempotency, PutRunEvent, PutSlot, put_job, put_run
from perdure.engine.turn import Decision, Due, Start, Turn
from perdure.engine.waits import narrow, open_pause, resume
from perdure.expressions import EvaluationError, Expression
from perdure.model.event import Event, StoredEvent, candidate_names
from perdure.model.json import Json, encode
from perdure.model.limits import IDEMPOTENCY_TTL
from perdure.model.records import EventRow, Job, JobState, Pause, Run, RunStatus


class Refused(msgspec.Struct, frozen=True):
    """Why an event started no run of a function now; `event_id` is the earlier event that it repeats."""

    reason: str
    message: str
    event_id: str | None = None


def accept(turn: Turn, stored: StoredEvent) -> Decision[list[str]]:
    """Stores an event, wakes and cancels what waits for it, starts its functions; returns the ids of new runs."""
    body = stored.event.to_json()
    yield PutEvent(stored.internal_id, stored.event.name, stored.received_at, int(stored.internal), encode(body))
    yield from _match_pauses(turn, stored, body)
    started: list[str] = []
    for function, conditions in turn.catalogue.triggered_by(stored.event.name).values():
        if not function.paused and any(_holds(condition, {"event": body}, turn.now) for condition in conditions):
            outcome = yield from consider(turn, function, stored)
            if isinstance(outcome, str):
                started.append(outcome)
    return started


def settle(turn: Turn) -> Decision[None]:
    """Accepts the internal events that a decision caused, and those that these cause."""
    while turn.emitted:
        yield from accept(turn, turn.emitted.pop(0))


def consider(
    turn: Turn,
    function: CompiledFunction,
    stored: StoredEvent,
    *,
    parent: str | None = None,
    cron: str | None = None,
) -> Decision[str | Refused]:
    """Takes an event through a function's flow control up to a new run."""
    event = stored.event
    scope: dict[str, Json] = {"event": event.to_json()}
    keys = _idempotency_keys(turn, function, stored, scope)
    known = yield from _known_event(turn, keys)
    if known is not None:
        return Refused("duplicate", f"event {known} with the same id or idempotency key came within 24h", known)
    # Batches have no rate limit: what it refused would be missing from them (D.5).
    if function.config.batch_events is None and (yield from rate_limited(turn, function, scope)):
        return Refused("rate_limited", "invoked function is rate limited")
    for key in keys:
        yield PutIdempotency(key, stored.internal_id, turn.now + IDEMPOTENCY_TTL)
    if function.config.debounce is not None:
        yield from debounce(turn, function, stored, scope)
        return Refused("debounced", "the start is debounced")
    # An invoked run answers its caller, which no other event may join: it runs alone.
    if function.config.batch_events is not None and parent is None and _holds(function.batch_if, scope, turn.now):
        full = yield from batch(turn, function, stored, scope)
        if full is None:
            return Refused("batched", "the event waits for its batch")
        return (yield from start_batch(turn, function, full))
    return (yield from start(turn, function, [stored], parent=parent, cron=cron))


def start_batch(turn: Turn, function: CompiledFunction, event_ids: list[str]) -> Decision[str | Refused]:
    """Starts the run of a collected batch."""
    events = yield from events_of(event_ids)
    if not events:
        return Refused("batched", "the events of the batch are gone")
    return (yield from start(turn, function, events, batch_id=turn.ids()))


def events_of(event_ids: list[str]) -> Decision[list[StoredEvent]]:
    """The events that are still kept, by their internal ids."""
    events: list[StoredEvent] = []
    for event_id in event_ids:
        row = yield from reads.event_by_id(event_id)
        if row is not None:
            events.append(_stored(row))
    return events


def close_window(turn: Turn, job: Job, function: CompiledFunction) -> Decision[None]:
    """Starts the run for which a batch or debounce window, whose job is gone, has collected."""
    if job.kind == "batch":
        items = yield from reads.batch_items(job.id)
        yield from close_batch(job.id)
        yield from start_batch(turn, function, [event_id for event_id, _ in items])
    elif job.data is not None:
        row = yield from reads.event_by_id(window_of(job.data).event_id)
        if row is not None:
            yield from start(turn, function, [_stored(row)])


def _stored(row: EventRow) -> StoredEvent:
    return StoredEvent(row.internal_id, reads.stored_event(row.body), row.received_at, bool(row.internal))


def start(
    turn: Turn,
    function: CompiledFunction,
    events: list[StoredEvent],
    *,
    parent: str | None = None,
    cron: str | None = None,
    batch_id: str | None = None,
    original: Run | None = None,
) -> Decision[str | Refused]:
    """Creates a run, unless a singleton stands in the way; with `original`, that run once more."""
    if original is not None:
        batch_id, cron = original.batch_id, original.cron
    first = events[0]
    scope: dict[str, Json] = {"event": first.event.to_json()}
    run = Run(
        turn.ids(), function.id, function.version, function.app_id, first.internal_id, batch_id, cron,
        original.id if original else None, parent, RunStatus.QUEUED, turn.now, None, None, None,
    )  # fmt: skip
    keys = concurrency_keys(function, scope, turn.now)
    if function.config.singleton is not None:
        refused = yield from _take_singleton(turn, function, run, scope, keys)
        if refused is not None:
            return refused
    delayed = batch_id is None and cron is None and original is None
    due_at = max(turn.now, first.event.ts) if delayed else turn.now
    job = Job(
        run.id, "run", JobState.READY if due_at <= turn.now else JobState.SCHEDULED, run.id, function.id, due_at,
        rank(function, scope, due_at), None, 0, 0, 0, None, msgspec.json.encode(keys) if keys else None,
        throttle_gate(function, scope, turn.now),
    )  # fmt: skip
    for position, stored in enumerate(events[1:], 1):
        yield PutRunEvent(run.id, position, stored.internal_id)
    yield from _create(turn, function, run, job, [stored.event for stored in events])
    yield from _watch(turn, function, run, scope)
    return run.id


def _create(turn: Turn, function: CompiledFunction, run: Run, job: Job, events: list[Event]) -> Decision[None]:
    """Stores a run with its driver job, leased at once where nothing can refuse it."""
    ungated = job.keys is None and job.data is None and job.state == JobState.READY and not function.paused
    # A run that is done once more may have steps already, which this start would not carry along.
    fresh = run.original_run_id is None
    if ungated and fresh and turn.offer.has_room(function.id) and turn.offer.runnable(function.id):
        # One statement each instead of insert, then update: this is the path of every unlimited function.
        lease = turn.offer.take(run.id, function.id)
        run.status, run.started_at = RunStatus.RUNNING, turn.now
        job.state, job.node, job.token = JobState.LEASED, lease.node, lease.token
        yield put_run(run)
        yield put_job(job)
        yield from finish_timer(turn, function, run.id)
        plain = function.plain and run.parent is None
        turn.effects.append(Start(run.id, run.function_id, lease, 0, run, events, plain=plain))
        return
    yield put_run(run)
    yield put_job(job)
    if function.start_timeout is not None and function.config.batch_events is None:
        # A start that the event itself delays is not late.
        late_at = max(turn.now, job.due_at) + function.start_timeout
        yield timer(f"{run.id}.@start", "start_timeout", turn, run.id, function.id, late_at)
    if job.state == JobState.SCHEDULED:
        turn.effects.append(Due(job.due_at))
        return
    admitted = yield from admit(turn, job)
    if admitted is None:
        return
    if fresh:
        # What the row has become, so that nobody needs to read it.
        run.status, run.started_at = RunStatus.RUNNING, turn.now
        turn.effects.append(Start(run.id, run.function_id, admitted, 0, run, events))
    else:
        turn.effects.append(Start(run.id, run.function_id, admitted, 0))


def _take_singleton(
    turn: Turn, function: CompiledFunction, run: Run, scope: dict[str, Json], keys: list[Key]
) -> Decision[Refused | None]:
    """Makes the run the one of its key; a run that is there wins or is cancelled, by mode (D.7)."""
    singleton = function.config.singleton
    value = key_of(function.singleton_key, scope, turn.now)
    if singleton is None or value is None:
        return None
    slot = f"singleton:{function.id}:{value}"
    holder = yield from reads.slot_owner(slot)
    if holder is not None and singleton.mode == "skip":
        run.status, run.ended_at = RunStatus.SKIPPED, turn.now
        run.output = encode({"skip_reason": "singleton", "existing_run_id": holder})
        yield put_run(run)
        return Refused("skipped", f"run {holder} of the singleton has not ended")
    if holder is not None:
        yield from cancel_run(turn, holder)
    yield PutSlot(slot, run.id)
    keys.append(Key(slot, "singleton"))
    return None


def _watch(turn: Turn, function: CompiledFunction, run: Run, scope: dict[str, Json]) -> Decision[None]:
    """Registers what may cancel the run."""
    for index, rule in enumerate(function.cancels):
        condition = narrow(rule.expression, scope["event"], turn.now) if rule.expression else None
        span = rule.span(turn.now)
        if (condition is not None and condition.constant is False) or (span is not None and span <= 0):
            continue
        yield from open_pause(turn, run.id, f"@cancel{index}", "cancel", rule.event, timeout=span, condition=condition)


def _idempotency_keys(turn: Turn, function: CompiledFunction, stored: StoredEvent, scope: dict[str, Json]) -> list[str]:
    """What may start one run of the function in 24 hours: the sender's event id (A.5), the expression (D.8)."""
    keys: list[str] = []
    if stored.event.id != stored.internal_id:
        keys.append(f"event:{function.id}:{digest(stored.event.id)}")
    if function.idempotency is not None:
        value = key_of(function.idempotency, scope, turn.now)
        if value is not None:
            keys.append(f"key:{function.id}:{value}")
    return keys


def _known_event(turn: Turn, keys: list[str]) -> Decision[str | None]:
    """The event that took one of the keys before."""
    for key in keys:
        known = yield from reads.idempotent_event(key, turn.now)
        if known is not None:
            return known
    return None


def _match_pauses(turn: Turn, stored: StoredEvent, body: dict[str, Json]) -> Decision[None]:
    """Resumes the waits and cancels the runs that this event satisfies."""
    cancelled: set[str] = set()
    for name, path in (yield from reads.pauses_on(candidate_names(stored.event.name))):
        value = None
        if path is not None:
            value = expressions.match_key(expressions.lookup(body, path))
            if value is None:
                continue
        for pause in (yield from reads.pauses_at(name, path, value)):
            if pause.run_id in cancelled or (pause.expires_at or turn.now) < turn.now:
                continue
            if not (yield from _residual_holds(pause, body, turn.now)):
                continue
            if pause.kind == "cancel":
                yield from cancel_run(turn, pause.run_id)
                cancelled.add(pause.run_id)
            else:
                yield from resume(turn, pause, encode(body))


def _residual_holds(pause: Pause, body: dict[str, Json], now: int) -> Decision[bool]:
    if pause.expression is None:
        return True
    condition = expressions.compile(pause.expression)
    scope: dict[str, Json] = {"async": body}
    if "event" in condition.variables:
        run = yield from reads.run_by_id(pause.run_id)
        events = (yield from reads.run_events(run)) if run is not None else []
        scope["event"] = events[0].to_json() if events else None
    return _holds(condition, scope, now)


def _holds(condition: Expression | None, scope: dict[str, Json], now: int) -> bool:
    """Whether a condition is true; one that errors on this event does not match it (A.6)."""
    if condition is None:
        return True
    try:
        return condition.truthy(scope, now=now)
    except EvaluationError:
        return False
