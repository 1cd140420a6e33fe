"""Flow control: who may start, and who must wait for whom (part D of the protocol).

There are no counters. A concurrency slot is a row (key, owner); a limit counts rows; releasing is deleting them in
the transaction that changes the run, and wakes the next in line there. A job that finds no room is BLOCKED on the
one key that refused it, so that a claim never walks over jobs that cannot run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Final

import msgspec

from perdure.engine import reads
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.mutations import (
    BlockJob,
    DeleteJob,
    DeletePlace,
    DeleteSlots,
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
from perdure.model.config import Throttle
from perdure.model.json import Json
from perdure.model.limits import MAX_PRIORITY, SECOND
from perdure.model.records import Job, JobKind, JobState

DEFECT = "@defect"
"""On what jobs wait whose rows cannot be used."""
UNKNOWN_FUNCTION = "@function:"
"""Prefix of the key on which jobs wait whose function is paused, or has no code on any node at hand."""


class Key(msgspec.Struct, array_like=True):
    """A flow-control key of a driver job: `hold` says how long its slot is kept, `rule` which limit it is under."""

    key: str
    hold: str
    rule: int = -1


class Gate(msgspec.Struct, omit_defaults=True):
    """What a first start must still pass: the throttle key."""

    throttle: str


_keys = msgspec.json.Decoder(list[Key])
_gate = msgspec.json.Decoder(Gate)

_WHILE_ACTIVE: Final = ("step", "active")
"""What is given back when the run parks."""


def _keys_of(job: Job) -> list[Key]:
    return _keys.decode(job.keys) if job.keys else []


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
        if not rule.limit:
            continue
        value = key_of(expression, scope, now) or ""
        owner = f"fn:{function.id}:{index}" if rule.scope == "fn" else rule.scope
        found.append(Key(f"{owner}:{value}", rule.hold, index))
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
    keys = _keys_of(job)
    if function is None or function.paused or not turn.offer.runnable(function.id):
        yield BlockJob(f"{UNKNOWN_FUNCTION}{job.function_id}", job.id)
        yield from _stand_back(turn, job.id, keys, function)
        return None
    pool = turn.offer.full_pool(function.id)
    if pool is not None:
        yield BlockJob(pool, job.id)
        yield from _stand_back(turn, job.id, keys, function)
        return None
    if not turn.offer.has_room(function.id):
        yield ReadyJob(job.id)
        turn.effects.append(Backlog())
        return None
    full = yield from _full_key(function, keys, job.id)
    if full is not None:
        yield BlockJob(_queue(function.id, full), job.id)
        yield from _stand_back(turn, job.id, [key for key in keys if key is not full], function)
        if job.token == 0 and job.data is not None:
            yield from _ask_gate(turn, function, job)
        return None
    if job.token == 0 and job.data is not None and not (yield from _pass_throttle(turn, function, job)):
        yield from _stand_back(turn, job.id, keys, function)
        return None
    for key in keys:
        if key.hold != "singleton":
            yield PutSlot(key.key, job.id)
    lease = turn.offer.take(job.id, function.id)
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


def _limit(function: CompiledFunction, key: Key) -> int:
    """The limit that is registered now; 0, which is none, where the key's rule is no longer there."""
    for index, rule in enumerate(function.config.concurrency):
        if index == key.rule and key.key.startswith(f"{rule.scope}:"):
            return rule.limit
    return 0


def _full_key(function: CompiledFunction, keys: list[Key], owner: str) -> Decision[Key | None]:
    for key in keys:
        limit = _limit(function, key)
        if limit and (yield from reads.slots_taken(key.key, owner)) >= limit:
            return key
    return None


def _stand_back(turn: Turn, job_id: str, keys: list[Key], function: CompiledFunction | None) -> Decision[None]:
    """A job that cannot start leaves its keys to others.

    What woke it may have been room under one of them: that is passed on, or it is lost. And it may hold slots
    still, from before a crash.
    """
    for key in keys:
        if key.hold in _WHILE_ACTIVE:
            yield DeleteSlots(key.key, job_id, f"{job_id}/")
    yield from release(turn, keys, function)


def _pass_throttle(turn: Turn, function: CompiledFunction, job: Job) -> Decision[bool]:
    """GCRA: `limit + burst` starts at once, then one per period / limit (D.2)."""
    throttle = function.config.throttle
    if throttle is None:
        return True
    key = _gate.decode(job.data or b"").throttle
    interval = function.throttle_period / throttle.limit
    bucket = _bucket(key, throttle)
    arrival = max((yield from reads.bucket(bucket)) or 0.0, float(turn.now)) + interval
    allowed_at = math.ceil(arrival - (throttle.limit + throttle.burst) * interval)
    if allowed_at > turn.now:
        yield BlockJob(key, job.id)
        yield from _schedule_gate(turn, function, key, allowed_at)
        return False
    yield PutBucket(bucket, arrival, int(arrival) + function.throttle_period)
    return True


def _bucket(key: str, throttle: Throttle) -> str:
    """Where a key's starts are counted. A changed throttle counts anew: old debts are in units of the old rate."""
    return f"{key}|{throttle.limit}/{throttle.period}"


def _ask_gate(turn: Turn, function: CompiledFunction, job: Job) -> Decision[None]:
    """Lets the throttle of a job that cannot use its turn give the turn to the next."""
    key = _gate.decode(job.data or b"").throttle
    if (yield from reads.blocked_jobs(key, 1)):
        yield from _schedule_gate(turn, function, key, turn.now)


def _schedule_gate(turn: Turn, function: CompiledFunction, key: str, at: int) -> Decision[None]:
    yield timer(f"gate:{key}", "gate", turn, None, function.id, at)


def take_place(turn: Turn, lease: Lease, place: str) -> Decision[bool]:
    """Takes slots for one more step of a run that executes; False where a limit has no room, or the lease is lost.

    The owner of such a slot is the run's id, a dot and the place: it goes with the run's own, at the latest.
    """
    job = yield from reads.leased_job(lease)
    function = turn.catalogue.get(job.function_id or "") if job is not None else None
    if job is None or function is None:
        return False
    keys = [key for key in _keys_of(job) if key.hold == "step"]
    for key in keys:
        limit = _limit(function, key)
        if limit and (yield from reads.slots_taken(key.key, "")) >= limit:
            return False
    for key in keys:
        yield PutSlot(key.key, f"{job.id}.{place}")
    return True


def give_place(turn: Turn, lease: Lease) -> Decision[None]:
    """Gives back one of the places that a run took besides its first."""
    job = yield from reads.leased_job(lease)
    if job is None:
        return
    keys = [key for key in _keys_of(job) if key.hold == "step"]
    for key in keys:
        yield DeletePlace(key.key, f"{job.id}.", f"{job.id}/")
    yield from release(turn, keys, turn.catalogue.get(job.function_id or ""))


def open_gate(turn: Turn, job: Job) -> Decision[None]:
    """A throttle has room again: wakes the next in line, and stays scheduled while others wait."""
    key = job.id.removeprefix("gate:")
    function = turn.catalogue.get(job.function_id or "")
    throttle = function.config.throttle if function else None
    if function is None or throttle is None:
        yield from _ready(turn, (yield from reads.blocked_jobs(key, -1)))
        return
    interval = function.throttle_period / throttle.limit
    arrival = max((yield from reads.bucket(_bucket(key, throttle))) or 0.0, float(turn.now))
    # The room at the end of this millisecond: the exact moment lies within it.
    room = int((turn.now + 1 + (throttle.limit + throttle.burst) * interval - arrival) / interval)
    waiting = yield from reads.blocked_jobs(key, room + 1)
    yield from _ready(turn, waiting[:room])
    if len(waiting) > room:
        next_start = math.ceil(arrival + interval * (room + 1 - throttle.limit - throttle.burst))
        yield from _schedule_gate(turn, function, key, max(next_start, turn.now + 1))


def free_slots(turn: Turn, job: Job, *, ended: bool) -> Decision[None]:
    """Gives back the slots of a driver job that parks, or of a run that ended, and wakes who waits for them."""
    freed = [key for key in _keys_of(job) if ended or key.hold in _WHILE_ACTIVE]
    for key in freed:
        yield DeleteSlots(key.key, job.id, f"{job.id}/")
    yield from release(turn, freed, turn.catalogue.get(job.function_id or ""))


def release(turn: Turn, keys: list[Key], function: CompiledFunction | None) -> Decision[None]:
    """Wakes as many waiters of each key as there is room."""
    for key in keys:
        if key.hold == "singleton":
            continue
        taken = yield from reads.slots_taken(key.key, "")
        for queue, limit in _queues(turn, key, function):
            if limit > taken:
                yield from _ready(turn, (yield from reads.blocked_jobs(queue, limit - taken)))


def _queue(function_id: str, key: Key) -> str:
    """On what the runs of a function wait that a key refused. Those of a shared key wait apart by their limits."""
    return key.key if key.key.startswith("fn:") else f"{key.key}|{function_id}:{key.rule}"


def _queues(turn: Turn, key: Key, function: CompiledFunction | None) -> Iterator[tuple[str, int]]:
    """Where runs wait for a key, each place with its limit."""
    scope = key.key.partition(":")[0]
    if scope == "fn":
        if function is not None:
            yield key.key, _limit(function, key)
        return
    for other in turn.catalogue.functions.values():
        for index, rule in enumerate(other.config.concurrency):
            if rule.scope == scope and rule.limit:
                yield f"{key.key}|{other.id}:{index}", rule.limit


def let_in(turn: Turn, pool: str, count: int) -> Decision[int]:
    """Makes runs ready that were blocked on a pool, at most `count`; returns how many there were."""
    waiting = yield from reads.blocked_jobs(pool, count)
    yield from _ready(turn, waiting)
    return len(waiting)


def _ready(turn: Turn, job_ids: list[str]) -> Decision[None]:
    for job_id in job_ids:
        yield ReadyJob(job_id)
    if job_ids:
        turn.effects.append(Backlog())
