"""Flow control: who may start, and who must wait for whom (part D of the protocol).

There are no counters. A concurrency slot is a row (key, owner); a limit counts rows; releasing is deleting them in
the transaction that changes the run, and wakes the next in line there. A job that finds no room is BLOCKED on the
one key that refused it, so that a claim never walks over jobs that cannot run.
"""

from __future__ import annotations

import hashlib

import msgspec

from perdure.engine import reads
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.mutations import (
    BlockJob,
    DeleteJob,
    DeleteSlot,
    LeaseJob,
    PutBucket,
    PutHit,
    PutJob,
    PutSlot,
    ReadyJob,
    StartRun,
)
from perdure.engine.turn import Backlog, Decision, Due, Lease, Turn
from perdure.expressions import EvaluationError, Expression
from perdure.model.json import Json
from perdure.model.limits import MAX_PRIORITY, SECOND
from perdure.model.records import Job, JobKind, JobState

UNKNOWN_FUNCTION = "@function:"
"""Prefix of the key on which jobs wait whose function no node at hand can run."""


class Key(msgspec.Struct, array_like=True):
    """A flow-control key of a driver job. `hold` says until when its slot is kept; `limit` 0 is unlimited."""

    key: str
    limit: int
    hold: str
    rule: int = -1


class Gate(msgspec.Struct, omit_defaults=True):
    """What a first start must still pass: the throttle key."""

    throttle: str


_keys = msgspec.json.Decoder(list[Key])
_gate = msgspec.json.Decoder(Gate)


def digest(value: str) -> str:
    """A short stand-in for a key value of any length."""
    return hashlib.sha256(value.encode()).hexdigest()[:24] if len(value) > 48 else value


def key_of(expression: Expression | None, scope: dict[str, Json], now: int, invalid: str = "") -> str | None:
    """The value of a key expression: "" without one, None where it is missing, null or false."""
    if expression is None:
        return ""
    try:
        value = expression.key(scope, now=now)
    except EvaluationError:
        return invalid
    return None if value is None else digest(value)


def concurrency_keys(function: CompiledFunction, scope: dict[str, Json], now: int) -> list[Key]:
    """The slots that a run needs, evaluated once, when it is scheduled (D.1)."""
    found: list[Key] = []
    for index, (rule, expression) in enumerate(function.concurrency):
        value = key_of(expression, scope, now) or ""
        owner = f"fn:{function.id}:{index}" if rule.scope == "fn" else rule.scope
        found.append(Key(f"{owner}:{value}", rule.limit, rule.hold, index))
    return found


def rank(function: CompiledFunction, scope: dict[str, Json], now: int) -> int:
    """The place in the queue: arrival, moved by the priority expression (D.6)."""
    if function.priority is None:
        return now
    try:
        seconds = function.priority.number(scope, now=now) or 0
    except EvaluationError:
        seconds = 0
    return now - int(max(-MAX_PRIORITY, min(MAX_PRIORITY, seconds))) * SECOND


def rate_limited(turn: Turn, function: CompiledFunction, scope: dict[str, Json]) -> Decision[bool]:
    """Counts a start against the rate limit; True when the event must start nothing.

    At most `limit` starts lie in any window of `period` (a sliding window: the documented meaning, not the
    peer's burst of 1 + limit/10). An event without the key is not limited.
    """
    limit = function.config.rate_limit
    if limit is None:
        return False
    value = key_of(function.rate_key, scope, turn.now)
    if value is None:
        return False
    key = f"rate:{function.id}:{value}"
    if (yield from reads.hits_since(key, turn.now - function.rate_period)) >= limit.limit:
        return True
    yield PutHit(key, turn.now, turn.ids(), turn.now + function.rate_period)
    return False


def throttle_gate(function: CompiledFunction, scope: dict[str, Json], now: int) -> bytes | None:
    """The job data of a run whose first start is throttled."""
    if function.config.throttle is None:
        return None
    value = key_of(function.throttle_key, scope, now) or ""
    return msgspec.json.encode(Gate(f"throttle:{function.id}:{value}"))


def admit(turn: Turn, job: Job) -> Decision[Lease | None]:
    """Leases a job to the offering node if every limit has room, else leaves it READY or BLOCKED.

    `job` is in the store, not leased. Order matters: nothing is consumed before all limits were asked.
    """
    function = turn.catalogue.get(job.function_id or "")
    if function is None or not turn.offer.runnable(function.id):
        yield BlockJob(f"{UNKNOWN_FUNCTION}{job.function_id}", job.id)
        return None
    if turn.offer.room <= 0:
        yield ReadyJob(job.id)
        turn.effects.append(Backlog())
        return None
    keys = _keys.decode(job.keys) if job.keys else []
    full = yield from _full_key(function, keys, job.id)
    if full is not None:
        yield BlockJob(full, job.id)
        # What woke this job may have been room under another key: pass that on, or it is lost.
        yield from release(turn, [key for key in keys if key.key != full], function)
        return None
    if job.token == 0 and job.data is not None and not (yield from _pass_throttle(turn, function, job)):
        return None
    for key in keys:
        if key.hold != "singleton":
            yield PutSlot(key.key, job.id)
    lease = turn.offer.take(job.id)
    yield LeaseJob(lease.node, lease.token, job.id)
    if job.token == 0:
        yield from first_start(turn, function, job)
    return lease


def first_start(turn: Turn, function: CompiledFunction, job: Job) -> Decision[None]:
    """A run leaves the queue: it is running, and its finish timeout counts from now."""
    run_id = job.run_id or ""
    yield StartRun(turn.now, run_id)
    if function.start_timeout is not None:
        yield DeleteJob(f"{run_id}.@start")
    yield from finish_timer(turn, function, run_id)


def finish_timer(turn: Turn, function: CompiledFunction, run_id: str) -> Decision[None]:
    """Cancels the run unless it ends in time, counted from now (D.10)."""
    if function.finish_timeout is not None:
        yield timer(
            f"{run_id}.@finish",
            "finish_timeout",
            turn,
            run_id,
            function.id,
            turn.now + function.finish_timeout,
        )


def timer(
    job_id: str,
    kind: JobKind,
    turn: Turn,
    run_id: str | None,
    function_id: str | None,
    due_at: int,
    data: bytes | None = None,
    attempt: int = 0,
) -> PutJob:
    """A job that is due later; the runner is told when."""
    turn.effects.append(Due(due_at))
    return PutJob(
        job_id,
        kind,
        JobState.SCHEDULED,
        run_id,
        function_id,
        due_at,
        due_at,
        None,
        0,
        attempt,
        0,
        None,
        None,
        data,
    )


def _limit(function: CompiledFunction | None, key: Key) -> int:
    """The limit in force: the registered one where the rule still exists, else the one at scheduling."""
    rules = function.config.concurrency if function else ()
    for index, rule in enumerate(rules):
        if index == key.rule:
            return rule.limit
    return key.limit


def _full_key(function: CompiledFunction, keys: list[Key], owner: str) -> Decision[str | None]:
    for key in keys:
        limit = _limit(function, key)
        if key.hold != "singleton" and limit and (yield from reads.slots_taken(key.key, owner)) >= limit:
            return key.key
    return None


def _pass_throttle(turn: Turn, function: CompiledFunction, job: Job) -> Decision[bool]:
    """GCRA: `limit + burst` starts at once, then one per period / limit (D.2)."""
    throttle = function.config.throttle
    if throttle is None:
        return True
    key = _gate.decode(job.data or b"").throttle
    interval = function.throttle_period / throttle.limit
    arrival = max((yield from reads.bucket(key)) or 0.0, float(turn.now)) + interval
    allowed_at = arrival - (throttle.limit + throttle.burst) * interval
    if allowed_at > turn.now:
        yield BlockJob(key, job.id)
        yield from _schedule_gate(turn, function, key, int(allowed_at) + 1)
        return False
    yield PutBucket(key, arrival, int(arrival) + function.throttle_period)
    return True


def _schedule_gate(turn: Turn, function: CompiledFunction, key: str, at: int) -> Decision[None]:
    yield timer(f"gate:{key}", "gate", turn, None, function.id, at)


def open_gate(turn: Turn, job: Job) -> Decision[None]:
    """A throttle has room again: wakes the next in line, and stays scheduled while others wait."""
    key = job.id.removeprefix("gate:")
    function = turn.catalogue.get(job.function_id or "")
    throttle = function.config.throttle if function else None
    if function is None or throttle is None:
        yield from _ready(turn, (yield from reads.blocked_jobs(key, -1)))
        return
    interval = function.throttle_period / throttle.limit
    arrival = max((yield from reads.bucket(key)) or 0.0, float(turn.now))
    room = int((turn.now + (throttle.limit + throttle.burst) * interval - arrival) / interval)
    waiting = yield from reads.blocked_jobs(key, max(room, 0) + 1)
    yield from _ready(turn, waiting[: max(room, 0)])
    if len(waiting) > room:
        next_start = arrival + interval * (1 - throttle.limit - throttle.burst)
        yield from _schedule_gate(turn, function, key, max(int(next_start), turn.now) + 1)


def free_slots(turn: Turn, job: Job, *, ended: bool) -> Decision[None]:
    """Gives back the slots of a driver job that parks, or of a run that ended, and wakes who waits for them."""
    if job.keys is None:
        return
    keys = _keys.decode(job.keys)
    freed = [key for key in keys if ended or key.hold == "step"]
    for key in freed:
        yield DeleteSlot(key.key, job.id)
    yield from release(turn, freed, turn.catalogue.get(job.function_id or ""))


def release(turn: Turn, keys: list[Key], function: CompiledFunction | None) -> Decision[None]:
    """Wakes as many waiters of each key as there is room."""
    for key in keys:
        if key.hold == "singleton":
            continue
        limit = _limit(function, key)
        room = limit - (yield from reads.slots_taken(key.key, "")) if limit else -1
        if room:
            yield from _ready(turn, (yield from reads.blocked_jobs(key.key, max(room, -1))))


def _ready(turn: Turn, job_ids: list[str]) -> Decision[None]:
    for job_id in job_ids:
        yield ReadyJob(job_id)
    if job_ids:
        turn.effects.append(Backlog())
