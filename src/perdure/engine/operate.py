"""What operators order: a run once more, from its beginning or from one of its steps; a function paused or resumed.

A rerun is a new run of the same events, and the first stays as it is. It competes like any run, under concurrency,
throttle and singleton; what only events pass (idempotency, rate limit, debounce, batching) it has behind it.
"""

from __future__ import annotations

import msgspec

from perdure.engine import reads, views
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.intake import in_force
from perdure.engine.mutations import put_function, put_step
from perdure.engine.schedule import Refused, events_of, settle, start
from perdure.engine.turn import Decision, Turn
from perdure.model.json import Json, encode
from perdure.model.ops import STEP_PLANNED
from perdure.model.records import Step, StepStatus


def rerun(
    turn: Turn, run_id: str, from_step: str | None = None, arguments: list[Json] | None = None
) -> Decision[str | Refused | None]:
    """Starts a run once more; returns the new run's id, None when there is no such run.

    With `from_step` (a hash, or the name of a step: the first of that name) the new run remembers what was decided
    before that step was recorded, and does that step and later ones again. `arguments` are what the chosen step gets
    instead of its own; only apps on other servers take them, for in this process a step's arguments are its code's.
    """
    original = yield from reads.run_by_id(run_id)
    if original is None:
        return None
    function = turn.catalogue.get(original.function_id)
    if function is None:
        return Refused("unregistered", f"no app in force has the function {original.function_id}")
    if function.paused:
        return Refused("function_paused", f"function {function.id} is paused")
    if arguments is not None and function.config.url is None:
        return Refused("input_fixed", f"steps of {function.id}, which runs in this process, take what its code gives")
    memos: list[Step] = []
    if from_step is not None:
        steps = yield from reads.steps_of(run_id)
        chosen = _chosen(steps, from_step)
        if chosen is None:
            return Refused("step_not_found", f"run {run_id} has no step {from_step!r}")
        # A later step is recorded after the chosen one, so nothing before it can rest on what it gave.
        memos = [step for step in steps if step.seq < chosen.seq and step.status <= StepStatus.FAILED]
        if arguments is not None:
            memos.append(_again(chosen, arguments, turn.now))
    events = yield from events_of((yield from views.event_ids(original)))
    if not events:
        return Refused("events_gone", f"the events of run {run_id} are no longer kept")
    outcome = yield from start(turn, function, events, original=original)
    if isinstance(outcome, str):
        for seq, step in enumerate(memos, 1):
            yield put_step(msgspec.structs.replace(step, run_id=outcome, seq=seq))
    yield from settle(turn)
    return outcome


def _again(step: Step, arguments: list[Json], now: int) -> Step:
    """The row of a step that is to be done with other arguments: by a call of its own, for SDKs take them only then."""
    opts = encode({"override": arguments})
    return Step(step.run_id, step.id, STEP_PLANNED, step.name, StepStatus.DUE, 0, 0, now, now, None, None, opts)


def _chosen(steps: list[Step], wanted: str) -> Step | None:
    named = [step for step in steps if step.name == wanted]
    return next((step for step in steps if step.id == wanted), named[0] if named else None)


def set_paused(turn: Turn, function_id: str, paused: bool) -> Decision[CompiledFunction | None]:
    """Pauses or resumes a function; returns it as it is from now on, None when it is not in force.

    The rows of its runs stay as they are: `flow.admit` blocks those that would go on while it is paused. After a
    resumption they compete again with `intake.unblock`, once the function that this returns is in force.
    """
    rows = yield from reads.functions()
    row = next((row for row in rows if row.id == function_id and row.archived_at is None), None)
    if row is None:
        return None
    if paused != (row.paused_at is not None):
        row.paused_at = turn.now if paused else None
        yield put_function(row)
    return in_force(row)
