"""What operators do to a step that is open: they give it a value, or end its wait at once.

Only a step that rests is touched: one that waits, or stands in the backoff of a retry. What executes right now will
report an outcome of its own, and a memo is written once.
"""

from __future__ import annotations

from perdure.engine import reads
from perdure.engine.due import fire_timer
from perdure.engine.mutations import DeleteJob, DeletePause
from perdure.engine.schedule import Refused, settle
from perdure.engine.turn import Decision, Turn
from perdure.engine.waits import NULL, decide, timer_id
from perdure.model.json import Json, decode, encode
from perdure.model.ops import DEFER_ADD, SLEEP, WAIT_FOR_EVENT, WAIT_FOR_SIGNAL
from perdure.model.records import RunStatus, Step, StepStatus

RESTS = (StepStatus.WAITING, StepStatus.RETRYING)


def skip_step(turn: Turn, run_id: str, step: str, value: Json) -> Decision[str | Refused | None]:
    """Gives a resting step a value, as if it had ended with it; returns the step's hash, None without such a run.

    `step` is a hash, or a name: the first resting step of that name. For a wait for an event, `value` is the data of
    that event; for a wait for a signal, the data of the signal; a sleep gets none.
    """
    found = yield from _resting(run_id, step)
    if not isinstance(found, Step):
        return found
    memo = _memo(turn, found, value)
    if isinstance(memo, Refused):
        return memo
    yield DeletePause(timer_id(run_id, found.id))
    yield DeleteJob(timer_id(run_id, found.id))
    yield from decide(turn, run_id, found.id, StepStatus.DONE, memo)
    yield from settle(turn)
    return found.id


def wake_step(turn: Turn, run_id: str, step: str) -> Decision[str | Refused | None]:
    """Lets the timer of a resting step be due now: a sleep ends, a wait times out, a retry is attempted.

    Returns the step's hash, None without such a run.
    """
    found = yield from _resting(run_id, step)
    if not isinstance(found, Step):
        return found
    job = yield from reads.job_by_id(timer_id(run_id, found.id))
    if job is None:
        return Refused("step_without_timer", f"step {found.name!r} waits without a time: skip it with a value")
    yield DeleteJob(job.id)
    yield from fire_timer(turn, job, run_id)
    yield from settle(turn)
    return found.id


def _resting(run_id: str, wanted: str) -> Decision[Step | Refused | None]:
    run = yield from reads.run_by_id(run_id)
    if run is None:
        return None
    if RunStatus(run.status).final:
        return Refused("run_ended", f"run {run_id} has ended")
    steps = [step for step in (yield from reads.steps_of(run_id)) if step.op != DEFER_ADD]
    named = [step for step in steps if wanted in (step.id, step.name)]
    if not named:
        return Refused("step_not_found", f"run {run_id} has no step {wanted!r}, or it is in its first attempt")
    resting = next((step for step in named if step.status in RESTS), None)
    if resting is not None:
        return resting
    if named[0].status <= StepStatus.FAILED:
        return Refused("step_decided", f"step {named[0].name!r} has ended")
    return Refused("step_executes", f"step {named[0].name!r} is attempted right now: cancel the run, or let it end")


def _memo(turn: Turn, step: Step, value: Json) -> bytes | Refused:
    """The value in the form in which the handler gets it."""
    if step.op == SLEEP:
        return NULL if value is None else Refused("input_fixed", f"step {step.name!r} sleeps, and gives no value")
    if step.op == WAIT_FOR_EVENT:
        if value is not None and not isinstance(value, dict):
            return Refused("input_fixed", f"step {step.name!r} waits for an event, whose data is an object")
        name = _opts(step).get("event")
        return encode({"name": name, "data": value or {}, "id": turn.ids(), "ts": turn.now})
    if step.op == WAIT_FOR_SIGNAL:
        return encode({"signal": _opts(step).get("signal"), "data": value})
    return encode(value)


def _opts(step: Step) -> dict[str, Json]:
    found: Json = decode(step.opts) if step.opts else {}
    return found if isinstance(found, dict) else {}
