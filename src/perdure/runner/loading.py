"""Reads what a run needs to go on: its row, its events, and its steps as the snapshot an execution replays."""

from __future__ import annotations

import msgspec

from perdure.engine import reads, streams
from perdure.engine.defers import is_defer
from perdure.engine.turn import Decision
from perdure.model.event import Event
from perdure.model.ops import Memo, OpenStep
from perdure.model.records import Run, Step, StepStatus
from perdure.model.streams import Entry
from perdure.sdk.port import Snapshot


class Loaded(msgspec.Struct):
    """A run as the store has it."""

    run: Run
    events: list[Event]
    steps: list[Step]
    torn: list[Entry]
    """What its stream lacks since it was cut off."""


def load_runs(run_ids: list[str]) -> Decision[dict[str, Loaded]]:
    """The runs that exist, by id."""
    found: dict[str, Loaded] = {}
    for run_id in run_ids:
        run = yield from reads.run_by_id(run_id)
        if run is not None:
            events = yield from reads.run_events(run)
            steps = yield from reads.steps_of(run_id)
            found[run_id] = Loaded(run, events, steps, (yield from streams.torn(run_id)))
    return found


def load_steps(run_id: str, step_ids: list[str]) -> Decision[list[Step]]:
    """Some steps of a run."""
    found: list[Step] = []
    for step_id in step_ids:
        step = yield from reads.step_by_id(run_id, step_id)
        if step is not None:
            found.append(step)
    return found


def snapshot_of(steps: list[Step]) -> Snapshot:
    """Recorded steps as an execution sees them."""
    snapshot = Snapshot({}, {})
    for step in steps:
        if is_defer(step):
            continue
        if step.status <= StepStatus.FAILED:
            snapshot.memos[step.id] = Memo(step.data or b"null", step.status == StepStatus.FAILED)
        else:
            # A retrying step has used attempt n; its next is n + 1, which its row holds once the timer has fired.
            snapshot.open[step.id] = OpenStep(step.status, step.attempt)
    return snapshot
