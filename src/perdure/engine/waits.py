"""Waiting and waking: what happens when something that a run waits for has come.

A run that waits is rows: its open steps, their pauses and timers, and a PARKED driver job. Deciding a step and
waking the driver are one transaction, so a decided step always has a driver job that will see it.
"""

from __future__ import annotations

from perdure.engine import reads
from perdure.engine.flow import admit, timer
from perdure.engine.mutations import DecideStep, DeleteJob, DeletePause, DueStep, PutJob, PutPause, WakeJob
from perdure.engine.turn import Decided, Decision, Start, Turn, Wake
from perdure.expressions import EvaluationError, Expression, Partial
from perdure.model.json import Json, encode
from perdure.model.records import JobState, Pause, PauseKind, StepStatus

NULL = b"null"


def timer_id(run_id: str, step_id: str) -> str:
    """The id of a step's timer job and pause; sorts within the run's own ids."""
    return f"{run_id}.{step_id}"


def decide(turn: Turn, run_id: str, step_id: str, status: StepStatus, data: bytes) -> Decision[None]:
    """Gives an open step its memo and wakes the run."""
    yield DecideStep(status, turn.now, data, run_id, step_id)
    yield from wake(turn, run_id, Decided(step_id, status, data))


def attempt_again(turn: Turn, run_id: str, step_id: str, attempt: int) -> Decision[None]:
    """Lets a retrying step be attempted again and wakes the run."""
    yield DueStep(attempt, run_id, step_id)
    yield from wake(turn, run_id, Decided(step_id, StepStatus.DUE, b"", attempt))


def wake(turn: Turn, run_id: str, step: Decided) -> Decision[None]:
    """Makes a run's driver see what was decided: at once if somebody drives it, else by claiming it.

    A driver that is queued, blocked or waits for a retry reads the rows when it starts.
    """
    job = yield from reads.job_by_id(run_id)
    if job is None:
        return
    if job.state == JobState.LEASED:
        yield WakeJob(job.id)
        turn.effects.append(Wake(run_id, step))
    elif job.state == JobState.PARKED:
        lease = yield from admit(turn, job)
        if lease is not None:
            turn.effects.append(Start(run_id, job.function_id or "", lease, job.attempt, step=step, previous=job.token))


def resume(turn: Turn, pause: Pause, data: bytes, *, failed: bool = False) -> Decision[None]:
    """Ends a pause with what came."""
    yield DeletePause(pause.id)
    yield DeleteJob(pause.id)
    status = StepStatus.FAILED if failed else StepStatus.DONE
    yield from decide(turn, pause.run_id, pause.step_id, status, data)


def narrow(condition: Expression, event: Json, now: int) -> Partial:
    """The condition with its trigger event filled in, so that it can be looked up by index.

    Where a value of the event is too large to be written into it, the condition stays whole, and matching reads
    the event again.
    """
    try:
        return condition.partial(event, now=now)
    except EvaluationError:
        return Partial(condition.source, None, (), None)


def open_pause(
    turn: Turn,
    run_id: str,
    step_id: str,
    kind: PauseKind,
    name: str,
    *,
    timeout: int | None,
    condition: Partial | None = None,
    function_id: str | None = None,
) -> Decision[None]:
    """Lets a step wait, at most `timeout` ms. The timeout is a job, so it cannot be missed."""
    index = condition.index if condition else None
    residual = None if condition is None or condition.constant else condition.source
    expires_at = None if timeout is None else turn.now + timeout
    pause_id = timer_id(run_id, step_id)
    yield PutPause(
        pause_id,
        run_id,
        step_id,
        kind,
        name,
        index[0] if index else None,
        index[1] if index else None,
        residual,
        turn.now,
        expires_at,
    )
    if expires_at is not None and kind != "cancel":
        yield _timeout(turn, pause_id, run_id, function_id, expires_at)


def _timeout(turn: Turn, pause_id: str, run_id: str, function_id: str | None, at: int) -> PutJob:
    return timer(pause_id, "timeout", turn, run_id, function_id, at)


def send_signal(turn: Turn, signal: str, data: Json) -> Decision[str | None]:
    """Gives a signal to the run that waits for it; returns that run's id, None when nobody waits (E.1)."""
    pause = yield from reads.signal_pause(signal)
    if pause is None:
        return None
    yield from resume(turn, pause, encode({"signal": signal, "data": data}))
    return pause.run_id
