"""Driving a run: claim it, park it, hand it back, end it. Each is valid only under the run's lease.

A driver that parks gives back its slots and its lease; a wake that came since the driver last looked keeps it from
parking, so no decided step is ever overlooked.
"""

from __future__ import annotations

import msgspec

from perdure.engine import reads
from perdure.engine.finish import end_plain_run, end_run
from perdure.engine.flow import DEFECT, admit, free_slots
from perdure.engine.mutations import (
    BlockJob,
    ChooseVersion,
    ClearWoken,
    DeleteNode,
    ParkJob,
    PutAttempt,
    PutNode,
    ReadyJob,
    ReleaseDeadLeases,
    ReleaseLeases,
    RetryJob,
)
from perdure.engine.retry import retry_delay
from perdure.engine.schedule import settle
from perdure.engine.turn import Backlog, Decision, Due, Effect, Ended, Lease, Start, Turn
from perdure.model.records import JobState, Run, RunStatus


def park(turn: Turn, lease: Lease) -> Decision[bool]:
    """Lets go of a run in which everything waits. False when it must go on, or is no longer ours."""
    job = yield from reads.leased_job(lease)
    if job is None:
        return False
    if job.woken:
        yield ClearWoken(job.id)
        return False
    yield ParkJob(job.id)
    yield from free_slots(turn, job, ended=False)
    return True


def claim(turn: Turn, limit: int) -> Decision[bool]:
    """Leases ready jobs, best first, as far as limits and the offer allow; True when there may be more."""
    jobs = yield from reads.ready_jobs(min(limit, turn.offer.room))
    for job in jobs:
        current = yield from reads.job_by_id(job.id)
        if current is not None and current.state == JobState.READY:
            lease = yield from admit(turn, current)
            if lease is not None:
                turn.effects.append(Start(job.id, job.function_id or "", lease, job.attempt, previous=job.token))
    return len(jobs) >= min(limit, turn.offer.room)


def set_aside(turn: Turn, run_id: str | None = None) -> Decision[str | None]:
    """Takes a run that cannot be driven (by default the first that is ready) out of the way; its id."""
    jobs = (yield from reads.ready_jobs(1)) if run_id is None else []
    found = jobs[0].id if jobs else run_id
    if found is not None:
        yield BlockJob(DEFECT, found)
    return found


def unpark(turn: Turn, run_id: str) -> Decision[None]:
    """A parked run has something to do after all: its driver competes for a lease again."""
    job = yield from reads.job_by_id(run_id)
    if job is not None and job.state == JobState.PARKED:
        lease = yield from admit(turn, job)
        if lease is not None:
            turn.effects.append(Start(run_id, job.function_id or "", lease, job.attempt, previous=job.token))


def complete(
    turn: Turn, lease: Lease, run: Run, status: RunStatus, output: bytes, cause: str | None = None
) -> Decision[bool]:
    """Ends a run under its lease; False when the lease was given up, and nothing was recorded."""
    job = yield from reads.leased_job(lease)
    if job is None:
        return False
    yield from end_run(turn, run, job, status, output, cause)
    yield from settle(turn)
    return True


def complete_plain(turn: Turn, lease: Lease, run: Run, output: bytes) -> Decision[bool]:
    """Completes a plain run (see `finish.end_plain_run`) under its lease."""
    kept = yield from end_plain_run(turn, lease, run, output)
    yield from settle(turn)
    return kept


class HandlerFailure(msgspec.Struct):
    """A handler failed outside of its steps; `error` is its error as JSON.

    Of apps on other servers, `cause` says how it failed, and `version` which version of the protocol it has chosen.
    """

    error: bytes
    attempt: int
    started_at: int
    no_retry: bool
    retry_after: int | None
    cause: str | None = None
    version: int | None = None


def fail_attempt(turn: Turn, lease: Lease, run: Run, failure: HandlerFailure, max_attempts: int) -> Decision[bool]:
    """Schedules the handler's next attempt, or fails the run when none is left."""
    job = yield from reads.leased_job(lease)
    if job is None:
        return False
    if failure.version is not None:
        yield ChooseVersion(failure.version, run.id)
    yield PutAttempt(run.id, "", failure.attempt, failure.started_at, turn.now, failure.error)
    if failure.no_retry or failure.attempt + 1 >= max_attempts:
        yield from end_run(turn, run, job, RunStatus.FAILED, failure.error, failure.cause)
        yield from settle(turn)
        return True
    due_at = turn.now + retry_delay(failure.attempt, failure.retry_after, turn.chance(), turn.fixed_retry)
    yield RetryJob(due_at, failure.attempt + 1, job.id)
    yield from free_slots(turn, job, ended=False)
    turn.effects.append(Due(due_at))
    return True


def hand_back(turn: Turn, lease: Lease, pause: int = 0) -> Decision[None]:
    """Returns a run undone: it is ready for whoever claims next, after a pause (ms) if there is to be one."""
    job = yield from reads.leased_job(lease)
    if job is None:
        return
    if pause:
        yield RetryJob(turn.now + pause, job.attempt, job.id)
        turn.effects.append(Due(turn.now + pause))
    else:
        yield ReadyJob(job.id)
        turn.effects.append(Backlog())
    yield from free_slots(turn, job, ended=False)


def renew(turn: Turn, node: str, lifetime: int) -> Decision[None]:
    """Says that the node is alive, and frees what dead nodes held. A lease lives as long as its node does."""
    yield PutNode(node, turn.now, lifetime)
    yield ReleaseDeadLeases(turn.now)
    turn.effects.append(Backlog())


def retire(turn: Turn, node: str) -> Decision[None]:
    """Takes a node out of service: what it still holds is ready for others."""
    yield ReleaseLeases(node)
    yield DeleteNode(node)


def confirm(effects: list[Effect]) -> Decision[list[Effect]]:
    """The effects that the rows bear out: for a decision of which nobody learnt whether it was kept."""
    kept: list[Effect] = []
    for effect in effects:
        if isinstance(effect, Start):
            holds = yield from reads.holds_lease(effect.lease)
        elif isinstance(effect, Ended):
            run = yield from reads.run_by_id(effect.run_id)
            holds = run is not None and RunStatus(run.status).final
        else:
            holds = True
        if holds:
            kept.append(effect)
    return kept
