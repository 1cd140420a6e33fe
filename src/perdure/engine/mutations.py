"""The vocabulary of changes: one Struct a statement, fields in the order of the statement's parameters.

A store executes the statement named like the Struct in snake case. `PAYLOADS` names the fields that may be large;
the store keeps those over 32 KiB once, by content hash, on behalf of the owner (a run or an event).
"""

from __future__ import annotations

import msgspec

from perdure.model import records


class Mutation(msgspec.Struct, frozen=True, gc=False):
    """Base of the mutations: immutable, without references that could form cycles."""


class PutEvent(Mutation, frozen=True, gc=False):
    internal_id: str
    name: str
    received_at: int
    internal: int
    body: bytes


class PutRun(Mutation, frozen=True, gc=False):
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
    request_version: int | None


class PutRunEvent(Mutation, frozen=True, gc=False):
    """The position-th event of a batch run (the first is in the run's row)."""

    run_id: str
    position: int
    event_id: str


class StartRun(Mutation, frozen=True, gc=False):
    """Marks a run as running from its first start on."""

    started_at: int
    id: str


class ChooseVersion(Mutation, frozen=True, gc=False):
    """Keeps the protocol's version that a run's app chose, for as long as the run lives."""

    request_version: int
    id: str


class EndRun(Mutation, frozen=True, gc=False):
    status: int
    ended_at: int
    output: bytes
    id: str


class EndLeasedRun(Mutation, frozen=True, gc=False):
    """Ends a run if the lease still is its own; changes no row otherwise."""

    status: int
    ended_at: int
    output: bytes
    id: str
    node: str
    token: int


class PutStep(Mutation, frozen=True, gc=False):
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


class RecordStep(Mutation, frozen=True, gc=False):
    """Records a step that is done, if the lease still is its run's; changes no row otherwise.

    The check and the insertion are one statement because this is what most commits consist of.
    """

    run_id: str
    id: str
    name: str
    seq: int
    attempt: int
    started_at: int
    ended_at: int
    data: bytes
    opts: bytes | None
    node: str
    token: int


class DecideStep(Mutation, frozen=True, gc=False):
    """Gives an open step its memo."""

    status: int
    ended_at: int
    data: bytes
    run_id: str
    id: str


class DueStep(Mutation, frozen=True, gc=False):
    """Lets a retrying step be attempted again."""

    attempt: int
    run_id: str
    id: str


class PutAttempt(Mutation, frozen=True, gc=False):
    run_id: str
    step_id: str
    attempt: int
    started_at: int
    ended_at: int
    error: bytes


class PutJob(Mutation, frozen=True, gc=False):
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


class LeaseJob(Mutation, frozen=True, gc=False):
    """Gives a job to a node."""

    node: str
    token: int
    id: str


class ReadyJob(Mutation, frozen=True, gc=False):
    id: str


class ParkJob(Mutation, frozen=True, gc=False):
    """Lets a run rest. It got as far as this, so its handler's attempts count anew."""

    id: str


class BlockJob(Mutation, frozen=True, gc=False):
    blocked_on: str
    id: str


class WakeJob(Mutation, frozen=True, gc=False):
    """Notes that something happened to a leased job's run, so that its driver does not park past it."""

    id: str


class ClearWoken(Mutation, frozen=True, gc=False):
    id: str


class RetryJob(Mutation, frozen=True, gc=False):
    """Schedules the next attempt of a driver job."""

    due_at: int
    attempt: int
    id: str


class ResetAttempt(Mutation, frozen=True, gc=False):
    """The run got on: its handler's attempts count anew."""

    id: str


class DeleteJob(Mutation, frozen=True, gc=False):
    id: str


class DeleteDriver(Mutation, frozen=True, gc=False):
    """Removes the driver job of a run that ended and has no timers. Its id never comes back."""

    id: str


class DeleteRunJobs(Mutation, frozen=True, gc=False):
    """Removes a run's driver job and all its timers, whose ids start with the run's."""

    first: str
    last: str


class PutPause(Mutation, frozen=True, gc=False):
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


class DeletePause(Mutation, frozen=True, gc=False):
    id: str


class DeleteRunPauses(Mutation, frozen=True, gc=False):
    first: str
    last: str


class PutSlot(Mutation, frozen=True, gc=False):
    key: str
    owner: str


class DeleteSlots(Mutation, frozen=True, gc=False):
    """Takes from a run, whose id is `first`, all its slots of a key: its own and those of further steps."""

    key: str
    first: str
    last: str


class DeletePlace(Mutation, frozen=True, gc=False):
    """Takes from a run one slot of a further step."""

    key: str
    first: str
    last: str


class PutBucket(Mutation, frozen=True, gc=False):
    """The theoretical arrival time of a throttle key (GCRA), in ms."""

    key: str
    arrival: float
    expires_at: int


class PutHit(Mutation, frozen=True, gc=False):
    """A start counted by a rate limit."""

    key: str
    at: int
    id: str
    expires_at: int


class PutIdempotency(Mutation, frozen=True, gc=False):
    key: str
    event_id: str
    expires_at: int


class PutBatchItem(Mutation, frozen=True, gc=False):
    job_id: str
    event_id: str
    position: int
    size: int


class DeleteBatchItems(Mutation, frozen=True, gc=False):
    job_id: str


class PutFunction(Mutation, frozen=True, gc=False):
    id: str
    app_id: str
    name: str
    version: int
    config: bytes
    created_at: int
    archived_at: int | None
    paused_at: int | None


class UnblockFunction(Mutation, frozen=True, gc=False):
    """Makes a function's blocked jobs compete again: its limits, or who can run it, have changed."""

    function_id: str


class PutApp(Mutation, frozen=True, gc=False):
    id: str
    method: str
    url: str
    sdk: str
    framework: str
    version: str
    checksum: str
    sync_id: str
    created_at: int
    synced_at: int
    error: str | None
    message: str | None


class DeleteApp(Mutation, frozen=True, gc=False):
    id: str


class PutSecret(Mutation, frozen=True, gc=False):
    """Keeps a secret of the installation; the first one of a name stays."""

    name: str
    value: bytes


class PutNode(Mutation, frozen=True, gc=False):
    """Says that a node lives, and will for `lifetime` ms. A store that nodes share goes by its clock, not by `now`."""

    id: str
    now: int
    lifetime: int


class DeleteNode(Mutation, frozen=True, gc=False):
    id: str


class ReleaseLeases(Mutation, frozen=True, gc=False):
    """Hands back every job of a node."""

    node: str


class ReleaseDeadLeases(Mutation, frozen=True, gc=False):
    """Hands back the jobs of nodes that stopped renewing, by the same clock."""

    now: int


class PutCancellation(Mutation, frozen=True, gc=False):
    id: str
    function_id: str
    started_after: int | None
    started_before: int
    condition: str | None
    created_at: int
    cancelled: int


class DeleteCancellation(Mutation, frozen=True, gc=False):
    id: str


class DeleteOldCancellations(Mutation, frozen=True, gc=False):
    before: int


class PutReplay(Mutation, frozen=True, gc=False):
    id: str
    function_id: str
    statuses: str
    queued_from: int | None
    queued_until: int | None
    bound: str
    cursor: str
    started: int
    skipped: int
    created_at: int
    ended_at: int | None


class DeleteOldReplays(Mutation, frozen=True, gc=False):
    before: int


class PutRunMetadata(Mutation, frozen=True, gc=False):
    run_id: str
    target: str
    scope: str
    kind: str
    entries: bytes
    updated_at: int


class DeleteRunMetadata(Mutation, frozen=True, gc=False):
    run_id: str


class PutStream(Mutation, frozen=True, gc=False):
    """Where the log of a run's stream stands (see `engine.streams`)."""

    run_id: str
    last: int
    size: int
    ended: int
    open: bytes
    undone: bytes


class PutChunk(Mutation, frozen=True, gc=False):
    """A batch of a run's stream, `count` events from the offset `first` on."""

    run_id: str
    first: int
    count: int
    body: bytes


class DeleteRunStream(Mutation, frozen=True, gc=False):
    run_id: str


class DeleteRunChunks(Mutation, frozen=True, gc=False):
    run_id: str


class DeleteRun(Mutation, frozen=True, gc=False):
    id: str


class DeleteRunSteps(Mutation, frozen=True, gc=False):
    run_id: str


class DeleteRunAttempts(Mutation, frozen=True, gc=False):
    run_id: str


class DeleteRunEvents(Mutation, frozen=True, gc=False):
    run_id: str


class DeleteEvent(Mutation, frozen=True, gc=False):
    internal_id: str


class DeleteBlobUses(Mutation, frozen=True, gc=False):
    """An owner of large payloads is gone."""

    owner: str


class DeleteUnusedBlobs(Mutation, frozen=True, gc=False):
    """Drops the payloads that nobody refers to any more."""


class DeleteExpiredIdempotency(Mutation, frozen=True, gc=False):
    now: int


class DeleteExpiredBuckets(Mutation, frozen=True, gc=False):
    now: int


class DeleteExpiredHits(Mutation, frozen=True, gc=False):
    now: int


PAYLOADS: dict[type[Mutation], tuple[str, tuple[str, ...]]] = {
    PutEvent: ("internal_id", ("body",)),
    PutRun: ("id", ("output",)),
    EndRun: ("id", ("output",)),
    EndLeasedRun: ("id", ("output",)),
    PutStep: ("run_id", ("data", "opts")),
    RecordStep: ("run_id", ("data", "opts")),
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


def put_app(row: records.AppRow) -> PutApp:
    return PutApp(*msgspec.structs.astuple(row))


def put_function(row: records.FunctionRow) -> PutFunction:
    return PutFunction(*msgspec.structs.astuple(row))
