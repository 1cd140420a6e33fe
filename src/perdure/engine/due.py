"""What happens when a scheduled job is due. Timers take effect here, in the transaction that takes them.

A due driver job (a delayed start, the next attempt of a handler) is admitted like any other; everything else
decides a step, ends a run, opens a window or starts a scheduled run, and is gone. Nothing is fired twice: the job's
row leaves in the transaction of its effect.
"""

from __future__ import annotations

import msgspec

from perdure.engine import reads
from perdure.engine.finish import cancel_run
from perdure.engine.flow import DEFECT, admit, open_gate, timer
from perdure.engine.mutations import BlockJob, DeleteJob, DeletePause
from perdure.engine.schedule import close_window, settle
from perdure.engine.ticks import fire_cron
from perdure.engine.turn import Decision, Start, Turn
from perdure.engine.waits import NULL, attempt_again, decide
from perdure.model.errors import ErrorInfo
from perdure.model.limits import HOUR
from perdure.model.ops import INVOKE
from perdure.model.records import Job, RunStatus, StepStatus


def fire(turn: Turn, limit: int) -> Decision[int | None]:
    """Takes up to `limit` due jobs; returns when the next one is due (in the past when more are waiting)."""
    for job in (yield from reads.due_jobs(turn.now, limit)):
        # An effect of an earlier job in this turn may have removed this one (a run that was cancelled).
        current = yield from reads.job_by_id(job.id)
        if current is not None and current.due_at == job.due_at and current.state == job.state:
            yield from _fire(turn, current)
    yield from settle(turn)
    return (yield from reads.next_due())


def set_aside(turn: Turn) -> Decision[str | None]:
    """Takes the first due job, which cannot be fired, out of the way of the others; its id, for whoever mends it."""
    jobs = yield from reads.due_jobs(turn.now, 1)
    for job in jobs:
        yield BlockJob(DEFECT, job.id)
    return jobs[0].id if jobs else None


def _fire(turn: Turn, job: Job) -> Decision[None]:
    if job.kind == "run":
        lease = yield from admit(turn, job)
        if lease is not None:
            turn.effects.append(Start(job.id, job.function_id or "", lease, job.attempt, previous=job.token))
        return
    if job.kind == "cron":
        yield from fire_cron(turn, job)
        return
    yield DeleteJob(job.id)
    if job.run_id is not None:
        yield from fire_timer(turn, job, job.run_id)
    elif job.kind == "gate":
        yield from open_gate(turn, job)
    else:
        function = turn.catalogue.get(job.function_id or "")
        if function is None:
            # Its configuration is no longer valid: what was collected stays until an app mends it.
            yield timer(job.id, job.kind, turn, None, job.function_id, turn.now + HOUR, job.data)
        else:
            yield from close_window(turn, job, function)


def fire_timer(turn: Turn, job: Job, run_id: str) -> Decision[None]:
    """What a timer of a run does. Its job has left, or leaves in this transaction."""
    step_id = job.id.removeprefix(f"{run_id}.")
    if job.kind == "sleep":
        yield from decide(turn, run_id, step_id, StepStatus.DONE, NULL)
    elif job.kind == "retry":
        yield from attempt_again(turn, run_id, step_id, job.attempt)
    elif job.kind == "timeout":
        yield DeletePause(job.id)
        yield from _time_out(turn, run_id, step_id)
    elif job.kind == "start_timeout":
        run = yield from reads.run_by_id(run_id)
        if run is not None and run.status == RunStatus.QUEUED:
            yield from cancel_run(turn, run_id)
    else:
        yield from cancel_run(turn, run_id)


def _time_out(turn: Turn, run_id: str, step_id: str) -> Decision[None]:
    step = yield from reads.step_by_id(run_id, step_id)
    if step is None or step.op != INVOKE:
        yield from decide(turn, run_id, step_id, StepStatus.DONE, NULL)
        return
    name, message = "InngestInvokeTimeoutError", "Timed out waiting for invoked function to complete"
    error = ErrorInfo(name, message, error=f"{name}: {message}")
    yield from decide(turn, run_id, step_id, StepStatus.FAILED, msgspec.json.encode(error))
