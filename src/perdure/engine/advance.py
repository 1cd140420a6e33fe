"""From what a run reports to what is recorded: one transaction per report, valid only under the run's lease.

A finished step becomes a memo; a failed one waits for its next attempt or becomes a failed memo; waits become open
steps with their pauses and timers. Invoked functions and sent events are scheduled in the same transaction as the
step that asks for them, so a crash can neither lose nor repeat them.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from perdure.engine import defers, reads
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.drive import park
from perdure.engine.flow import timer
from perdure.engine.mutations import ChooseVersion, PutAttempt, PutEvent, PutStep, RecordStep, ResetAttempt
from perdure.engine.retry import retry_delay
from perdure.engine.run_metadata import attach, notes_of
from perdure.engine.schedule import Refused, accept, consider, settle
from perdure.engine.turn import Decision, Lease, Turn
from perdure.engine.waits import NULL, narrow, open_pause, resume, send_signal, timer_id
from perdure.expressions import ExpressionError
from perdure.expressions import compile as compile_expression
from perdure.model.errors import ErrorInfo
from perdure.model.event import FUNCTION_INVOKED, Event, EventError, StoredEvent, parse_event
from perdure.model.json import Json, encode
from perdure.model.limits import DEFAULT_INVOKE_TIMEOUT
from perdure.model.ops import (
    AI_GATEWAY,
    DEFER_ABORT,
    DEFER_ADD,
    GATEWAY,
    INVOKE,
    SEND_EVENT,
    SEND_SIGNAL,
    SLEEP,
    STEP_ERROR,
    STEP_FAILED,
    STEP_PLANNED,
    STEP_RAW,
    STEP_RUN,
    WAIT_FOR_EVENT,
    WAIT_FOR_SIGNAL,
    Memo,
    Op,
)
from perdure.model.records import Run, StepStatus
from perdure.model.sessions import SessionsError, resolve_sessions

STALE = "stale"
"""The answer to a report under a lease that was given up: nothing was recorded."""


class Reported(msgspec.Struct):
    """What came of a report: the memos known at once by step id, and whether the run was parked with it.

    `rejected` has the reasons for which defers are not kept, by the ids of their operations.
    """

    memos: dict[str, Memo]
    parked: bool = False
    rejected: dict[str, str] = {}


ReportResult: TypeAlias = "Reported | str"


class Situation(msgspec.Struct):
    """What a report needs to know of its run: the trigger event as JSON and the attempts a step has.

    `version` is the protocol's version that the run's app has just chosen.
    """

    run: Run
    event: Json
    max_attempts: int
    version: int | None = None


def report(
    turn: Turn, lease: Lease, situation: Situation, ops: list[tuple[int, Op]], *, parking: bool
) -> Decision[ReportResult]:
    """Records operations, each with its sequence number in the run; parks the run if asked to and nothing woke it."""
    if not (yield from reads.holds_lease(lease)):
        return STALE
    if situation.version is not None:
        yield ChooseVersion(situation.version, situation.run.id)
    reported = Reported({})
    for seq, op in ops:
        if op.metadata is not None:
            # What is too much of it is left out: no step fails by its notes.
            yield from attach(turn, situation.run.id, op.id, notes_of(op.metadata))
        if op.op in (DEFER_ADD, DEFER_ABORT):
            problem = yield from defers.record(turn, situation.run, seq, op)
            if problem is not None:
                reported.rejected[op.id] = problem
            continue
        memo = yield from _record(turn, situation, seq, op)
        if memo is not None:
            reported.memos[op.id] = memo
    if reported.memos:
        yield ResetAttempt(lease.job_id)
    yield from settle(turn)
    if parking and not reported.memos:
        reported.parked = yield from park(turn, lease)
    return reported


def record(lease: Lease, run_id: str, seq: int, op: Op, version: int | None = None) -> Decision[bool]:
    """Records one finished step, the commonest report; False under a lease that was given up.

    `version` is the protocol's version that the run's app has just chosen.
    """
    opts = encode(op.opts) if op.opts else None
    data = op.data or NULL
    changed: int = yield RecordStep(
        run_id, op.id, op.name, seq, op.attempt, op.started_at, op.ended_at, data, opts, lease.node, lease.token
    )
    if changed and version is not None:
        yield ChooseVersion(version, run_id)
    return changed != 0


def _record(turn: Turn, situation: Situation, seq: int, op: Op) -> Decision[Memo | None]:
    run = situation.run
    if op.op in (STEP_RUN, STEP_RAW):
        memo = Memo(op.data or NULL)
        yield _step(run, seq, op, StepStatus.DONE, op.data or NULL, op.ended_at)
        return memo
    if op.op in (STEP_ERROR, STEP_FAILED):
        return (yield from _failed(turn, situation, seq, op))
    if op.op in (STEP_PLANNED, GATEWAY, AI_GATEWAY):
        yield _step(run, seq, op, StepStatus.DUE)
        return None
    opts = op.opts or {}
    if op.op == SLEEP:
        if opts["until"] <= turn.now:
            return (yield from _at_once(turn, run, seq, op, Memo(NULL)))
        yield _step(run, seq, op, StepStatus.WAITING)
        yield timer(timer_id(run.id, op.id), "sleep", turn, run.id, run.function_id, opts["until"])
        return None
    if op.op == WAIT_FOR_EVENT:
        return (yield from _wait_for_event(turn, situation, seq, op, opts))
    if op.op == WAIT_FOR_SIGNAL:
        return (yield from _wait_for_signal(turn, run, seq, op, opts))
    if op.op == INVOKE:
        return (yield from _invoke(turn, run, seq, op, opts))
    if op.op == SEND_EVENT:
        return (yield from _at_once(turn, run, seq, op, (yield from _send_events(turn, opts))))
    if op.op == SEND_SIGNAL:
        receiver = yield from send_signal(turn, opts["signal"], opts.get("data"))
        return (yield from _at_once(turn, run, seq, op, Memo(encode(receiver is not None))))
    raise ValueError(f"unknown operation {op.op!r} of step {op.name!r}")


def _step(
    run: Run,
    seq: int,
    op: Op,
    status: StepStatus,
    data: bytes | None = None,
    ended_at: int | None = None,
    kind: str = "",
) -> PutStep:
    # The op itself stays as it is: a decision may be begun again.
    opts = encode(op.opts) if op.opts else None
    queued_at, started_at = op.started_at, op.started_at
    return PutStep(
        run.id,
        op.id,
        kind or op.op,
        op.name,
        status,
        seq,
        op.attempt,
        queued_at,
        started_at,
        ended_at,
        data,
        opts,
    )


def _at_once(turn: Turn, run: Run, seq: int, op: Op, memo: Memo) -> Decision[Memo]:
    status = StepStatus.FAILED if memo.failed else StepStatus.DONE
    yield _step(run, seq, op, status, memo.data, turn.now)
    return memo


def _failed(turn: Turn, situation: Situation, seq: int, op: Op) -> Decision[Memo | None]:
    run = situation.run
    error = op.data or msgspec.json.encode(op.error)
    yield PutAttempt(run.id, op.id, op.attempt, op.started_at, op.ended_at, error)
    retries = (op.opts or {}).get("retries")
    attempts = situation.max_attempts if retries is None else retries + 1
    if op.op == STEP_FAILED or op.no_retry or op.attempt + 1 >= attempts:
        yield _step(run, seq, op, StepStatus.FAILED, error, op.ended_at, kind=STEP_RUN)
        return Memo(error, failed=True)
    due_at = turn.now + retry_delay(op.attempt, op.retry_after, turn.chance(), turn.fixed_retry)
    yield _step(run, seq, op, StepStatus.RETRYING, kind=STEP_RUN)
    attempt = op.attempt + 1
    yield timer(timer_id(run.id, op.id), "retry", turn, run.id, run.function_id, due_at, attempt=attempt)
    return None


def _wait_for_event(turn: Turn, situation: Situation, seq: int, op: Op, opts: dict[str, Json]) -> Decision[Memo | None]:
    run = situation.run
    if opts["timeout"] <= 0:
        return (yield from _at_once(turn, run, seq, op, Memo(NULL)))
    condition = None
    if opts.get("if"):
        try:
            condition = narrow(compile_expression(opts["if"]), situation.event, turn.now)
        except ExpressionError as error:
            problem = f"step {op.name!r}: the condition cannot be used: {error}"
            return (yield from _at_once(turn, run, seq, op, _failed_memo("InvalidExpression", problem)))
    yield _step(run, seq, op, StepStatus.WAITING)
    if condition is not None and condition.constant is False:
        # No event can match: only the timeout is left to wait for.
        due_at = turn.now + opts["timeout"]
        yield timer(timer_id(run.id, op.id), "timeout", turn, run.id, run.function_id, due_at)
        return None
    yield from open_pause(
        turn, run.id, op.id, "event", opts["event"],
        timeout=opts["timeout"], condition=condition, function_id=run.function_id,
    )  # fmt: skip
    return None


def _wait_for_signal(turn: Turn, run: Run, seq: int, op: Op, opts: dict[str, Json]) -> Decision[Memo | None]:
    holder = yield from reads.signal_pause(opts["signal"])
    if holder is not None and opts.get("conflict", "fail") == "fail":
        message = f"Signal conflict; run {holder.run_id} already waits for signal {opts['signal']!r}"
        return (yield from _at_once(turn, run, seq, op, _failed_memo("SignalConflictError", message)))
    if holder is not None:
        yield from resume(turn, holder, NULL)
    if opts["timeout"] <= 0:
        return (yield from _at_once(turn, run, seq, op, Memo(NULL)))
    yield _step(run, seq, op, StepStatus.WAITING)
    yield from open_pause(
        turn, run.id, op.id, "signal", opts["signal"], timeout=opts["timeout"], function_id=run.function_id
    )
    return None


def _invoke(turn: Turn, run: Run, seq: int, op: Op, opts: dict[str, Json]) -> Decision[Memo | None]:
    function = turn.catalogue.get(opts["function_id"])
    problem = _not_invokable(function, opts["function_id"])
    if function is None or problem is not None:
        return (yield from _at_once(turn, run, seq, op, _failed_memo("InvokeError", problem or "")))
    timeout = DEFAULT_INVOKE_TIMEOUT if opts.get("timeout") is None else opts["timeout"]
    correlation_id = timer_id(run.id, op.id)
    try:
        stored = _invocation(turn, run, op, opts, correlation_id, turn.now + timeout)
    except SessionsError as error:
        return (yield from _at_once(turn, run, seq, op, _failed_memo("InvokeError", str(error))))
    yield PutEvent(stored.internal_id, stored.event.name, turn.now, 1, encode(stored.event.to_json()))
    outcome = yield from consider(turn, function, stored, parent=correlation_id)
    if isinstance(outcome, Refused):
        refusal = f"function {function.id}: {outcome.message}"
        return (yield from _at_once(turn, run, seq, op, _failed_memo("InvokeError", refusal)))
    yield _step(run, seq, op, StepStatus.WAITING)
    yield from open_pause(turn, run.id, op.id, "invoke", correlation_id, timeout=timeout, function_id=run.function_id)
    return None


def _not_invokable(function: CompiledFunction | None, function_id: str) -> str | None:
    if function is None:
        return f"could not find function with ID: {function_id}"
    if function.paused:
        return f"function {function.id} is paused"
    if function.config.debounce is not None:
        return f"function {function.id} is debounced: which run would answer is not known; send an event instead"
    return None


def _invocation(turn: Turn, run: Run, op: Op, opts: dict[str, Json], correlation_id: str, expire: int) -> StoredEvent:
    """The event that an invoked function sees (A.7)."""
    metadata = {
        "fn_id": opts["function_id"],
        "correlation_id": correlation_id,
        "expire": expire,
        "name": op.name,
        "source_fn_id": run.function_id,
    }
    data = {**(opts.get("data") or {}), "_inngest": metadata}
    internal_id = turn.ids()
    meta = resolve_sessions(opts.get("meta"))
    event = Event(FUNCTION_INVOKED, data, internal_id, turn.now, opts.get("user"), opts.get("v"), meta)
    return StoredEvent(internal_id, event, turn.now, internal=True)


def _failed_memo(name: str, message: str) -> Memo:
    return Memo(msgspec.json.encode(ErrorInfo(name, message)), failed=True)


def _send_events(turn: Turn, opts: dict[str, Json]) -> Decision[Memo]:
    stored: list[StoredEvent] = []
    for index, body in enumerate(opts["events"]):
        try:
            stored.append(parse_event(body, now=turn.now, internal_id=turn.ids(), index=index))
        except EventError as error:
            return _failed_memo("EventError", f"events[{index}]: {error.reason}")
    for item in stored:
        yield from accept(turn, item)
    return Memo(encode([item.internal_id for item in stored]))
