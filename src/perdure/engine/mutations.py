"""The vocabulary of changes: one Struct a statement, fields in the order of the statement's parameters.

A store executes the statement named like the Struct in snake case. `PAYLOADS` names the fields that may be large;
the store keeps those over 32 KiB once, by content hash, on behalf of the owner (a run or an event).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from perdure.model import records


class _Change(msgspec.Struct, frozen=True, gc=False):
    """Base of the mutations: immutable, without references that could form cycles."""


class PutEvent(_Change):
    internal_id: str
    name: str
    received_at: int
    internal: int
    body: bytes


class PutRun(_Change):
    id: str
    function_id: str
    function_version: int
    app_id: str
    event_id: str
    batch_id: str | None
    cron: str | None
    original_run_id: str | None
    parent: str | None
    status: int
    created_at: int
    started_at: int | None
    ended_at: int | None
    output: bytes | None


class PutRunEvent(_Change):
    """The position-th event of a batch run (the first is in the run's row)."""

    run_id: str
    position: int
    event_id: str


class StartRun(_Change):
    """Marks a run as running from its first start on."""

    started_at: int
    id: str


class EndRun(_Change):
    status: int
    ended_at: int
    output: bytes
    id: str


class PutStep(_Change):
    run_id: str
    id: str
    op: str
    name: str
    status: int
    seq: int
    attempt: int
    queued_at: int
    started_at: int
    ended_at: int | None
    data: bytes | None
    opts: bytes | None


class DecideStep(_Change):
    """Gives an open step its memo."""

    status: int
    ended_at: int
    data: bytes
    run_id: str
    id: str


class DueStep(_Change):
    """Lets a retrying step be attempted again."""

    attempt: int
    run_id: str
    id: str


class PutAttempt(_Change):
    run_id: str
    step_id: str
    attempt: int
    started_at: int
    ended_at: int
    error: bytes


class PutJob(_Change):
    id: str
    kind: str
    state: int
    run_id: str | None
    function_id: str | None
    due_at: int
    rank: int
    node: str | None
    token: int
    attempt: int
    woken: int
    blocked_on: str | None
    keys: bytes | None
    data: bytes | None


class LeaseJob(_Change):
    """Gives a job to a node."""

    node: str
    token: int
    id: str


class ReadyJob(_Change):
    id: str


class ParkJob(_Change):
    id: str


class BlockJob(_Change):
    blocked_on: str
    id: str


class WakeJob(_Change):
    """Notes that something happened to a leased job's run, so that its driver does not park past it."""

    id: str


class ClearWoken(_Change):
    id: str


class RetryJob(_Change):
    """Schedules the next attempt of a driver job."""

    due_at: int
    attempt: int
    id: str


class DeleteJob(_Change):
    id: str


class DeleteRunJobs(_Change):
    """Removes a run's driver job and all its timers, whose ids start with the run's."""

    first: str
    last: str


class PutPause(_Change):
    id: str
    run_id: str
    step_id: str
    kind: str
    name: str
    path: str | None
    value: str | None
    expression: str | None
    created_at: int
    expires_at: int | None


class DeletePause(_Change):
    id: str


class DeleteRunPauses(_Change):
    first: str
    last: str


class PutSlot(_Change):
    key: str
    owner: str


class DeleteSlot(_Change):
    key: str
    owner: str


class PutBucket(_Change):
    """The theoretical arrival time of a throttle key (GCRA), in ms."""

    key: str
    arrival: float
    expires_at: int


class PutHit(_Change):
    """A start counted by a rate limit."""

    key: str
    at: int
    id: str
    expires_at: int


class PutIdempotency(_Change):
    key: str
    event_id: str
    expires_at: int


class PutBatchItem(_Change):
    job_id: str
    event_id: str
    position: int
    size: int


class DeleteBatchItems(_Change):
    job_id: str


class PutFunction(_Change):
    id: str
    app_id: str
    name: str
    version: int
    config: bytes
    created_at: int
    archived_at: int | None
    paused_at: int | None


class UnblockFunction(_Change):
    """Makes a function's blocked jobs compete again: its limits, or who can run it, have changed."""

    function_id: str


class PutNode(_Change):
    id: str
    alive_until: int


class DeleteNode(_Change):
    id: str


class ReleaseLeases(_Change):
    """Hands back every job of a node."""

    node: str


class ReleaseDeadLeases(_Change):
    """Hands back the jobs of nodes that stopped renewing."""

    now: int


class DeleteRun(_Change):
    id: str


class DeleteRunSteps(_Change):
    run_id: str


class DeleteRunAttempts(_Change):
    run_id: str


class DeleteRunEvents(_Change):
    run_id: str


class DeleteEvent(_Change):
    internal_id: str


class DeleteBlobUses(_Change):
    """An owner of large payloads is gone."""

    owner: str


class DeleteUnusedBlobs(_Change):
    """Drops the payloads that nobody refers to any more."""


class DeleteExpiredIdempotency(_Change):
    now: int


class DeleteExpiredBuckets(_Change):
    now: int


class DeleteExpiredHits(_Change):
    now: int


Mutation: TypeAlias = _Change

PAYLOADS: dict[type[_Change], tuple[str, tuple[str, ...]]] = {
    PutEvent: ("internal_id", ("body",)),
    PutRun: ("id", ("output",)),
    EndRun: ("id", ("output",)),
    PutStep: ("run_id", ("data", "opts")),
    DecideStep: ("run_id", ("data",)),
    PutAttempt: ("run_id", ("error",)),
}
"""For each mutation with payloads: the field that names their owner, and the payload fields."""


def put_run(run: records.Run) -> PutRun:
    return PutRun(*msgspec.structs.astuple(run))


def put_job(job: records.Job) -> PutJob:
    return PutJob(*msgspec.structs.astuple(job))


def put_step(step: records.Step) -> PutStep:
    return PutStep(*msgspec.structs.astuple(step))
