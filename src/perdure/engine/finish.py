"""The end of a run: completed, failed or cancelled. One transaction does all of it.

It writes the outcome, removes the driver job, timers, pauses and slots (waking who waits for the slots), hands the
outcome to the step that invoked the run, and emits the internal events that somebody listens to. The events of
runs that nobody listens to are not stored: the run's row says the same.
"""

from __future__ import annotations

import msgspec

from perdure.engine import defers, reads
from perdure.engine.flow import free_slots
from perdure.engine.mutations import DeleteDriver, DeleteRunJobs, DeleteRunPauses, EndLeasedRun, EndRun
from perdure.engine.turn import Decision, Ended, Lease, Turn
from perdure.engine.waits import NULL, resume
from perdure.model.errors import ErrorInfo, error_object
from perdure.model.event import (
    FUNCTION_CANCELLED,
    FUNCTION_FAILED,
    FUNCTION_FINISHED,
    Event,
    StoredEvent,
)
from perdure.model.json import Json, decode, encode
from perdure.model.records import Job, Run, RunStatus

_STATUS_NAMES = {
    RunStatus.COMPLETED: "Completed",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
}


def end_run(
    turn: Turn, run: Run, job: Job | None, status: RunStatus, output: bytes, cause: str | None = None
) -> Decision[None]:
    """Ends a run that has not ended. `output` is its result, or an error, as JSON; `cause` says how it failed."""
    yield EndRun(status, turn.now, output, run.id)
    yield DeleteRunJobs(run.id, run.id + "/")
    yield DeleteRunPauses(run.id, run.id + "/")
    if job is not None and job.keys is not None:
        yield from free_slots(turn, job, ended=True)
    if run.parent is not None:
        yield from _answer_parent(turn, run.parent, status, output, cause)
    yield from _emit(turn, run, status, output, cause)
    if status != RunStatus.CANCELLED:
        yield from defers.emit(turn, run)
    turn.effects.append(Ended(run.id, run.function_id, status, output))


def end_plain_run(turn: Turn, lease: Lease, run: Run, output: bytes) -> Decision[bool]:
    """Completes a run that never had anything but its row, its steps and its driver job; False without the lease.

    The commonest end, in the fewest statements. The caller answers for the run being plain: it was leased as it
    was created, nobody invoked it, and it has waited for nothing, and deferred nothing, since.
    """
    status = RunStatus.COMPLETED
    kept: int = yield EndLeasedRun(status, turn.now, output, run.id, lease.node, lease.token)
    if not kept:
        return False
    yield DeleteDriver(run.id)
    yield from _emit(turn, run, status, output)
    turn.effects.append(Ended(run.id, run.function_id, status, output))
    return True


def _answer_parent(turn: Turn, parent: str, status: RunStatus, output: bytes, cause: str | None) -> Decision[None]:
    pause = yield from reads.pause_by_id(parent)
    if pause is None:
        return
    if status == RunStatus.COMPLETED:
        yield from resume(turn, pause, output)
    elif status == RunStatus.FAILED:
        error = error_object(decode(output))
        yield from resume(turn, pause, encode({"error": cause, **error} if cause is not None else error), failed=True)
    else:
        info = ErrorInfo("InvokeCancelledError", "The invoked function was cancelled before it ended")
        yield from resume(turn, pause, msgspec.json.encode(info), failed=True)


def _emit(turn: Turn, run: Run, status: RunStatus, output: bytes, cause: str | None = None) -> Decision[None]:
    names = [FUNCTION_FINISHED]
    if status == RunStatus.FAILED:
        names.append(FUNCTION_FAILED)
    elif status == RunStatus.CANCELLED:
        names.append(FUNCTION_CANCELLED)
    waiting = {name for name, _ in (yield from reads.pauses_on(names))}
    wanted = [name for name in names if name in waiting or turn.catalogue.triggered_by(name)]
    if not wanted:
        return
    events = yield from reads.run_events(run)
    # Otherwise a function that listens to the ends of functions would start itself for ever.
    if events and events[0].name in (FUNCTION_FINISHED, FUNCTION_FAILED, FUNCTION_CANCELLED):
        return
    for name in wanted:
        data = _end_data(run, events, status, output, cause)
        internal_id = turn.ids()
        event_id = internal_id if name == FUNCTION_FINISHED else run.id
        turn.emitted.append(StoredEvent(internal_id, Event(name, data, event_id, turn.now), turn.now, internal=True))


def _end_data(run: Run, events: list[Event], status: RunStatus, output: bytes, cause: str | None) -> dict[str, Json]:
    """The data of an internal end event (A.7)."""
    bodies = [event.to_json() for event in events]
    data: dict[str, Json] = {
        "function_id": run.function_id,
        "run_id": run.id,
        "event": bodies[0] if bodies else None,
        "events": bodies,
        "_inngest": {"status": _STATUS_NAMES[status]},
    }
    if run.parent is not None:
        data["correlation_id"] = run.parent
    if status == RunStatus.COMPLETED:
        data["result"] = decode(output)
    elif status == RunStatus.FAILED:
        error = error_object(decode(output))
        data["error"] = {**error, "error": error.get("error") or cause or error["name"]}
        data["result"] = decode(output)
    return data


def cancel_run(turn: Turn, run_id: str) -> Decision[RunStatus | None]:
    """Cancels a run; returns the status it had, None when there is no such run. A run that ended stays as it is."""
    run = yield from reads.run_by_id(run_id)
    if run is None:
        return None
    status = RunStatus(run.status)
    if not status.final:
        job = yield from reads.job_by_id(run_id)
        yield from end_run(turn, run, job, RunStatus.CANCELLED, NULL)
    return status
