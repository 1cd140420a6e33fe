"""Records: what the store keeps, one Struct a table, fields in the order of the table's columns.

They hold plain data, which cannot form cycles: `gc=False` spares the collector from looking.

Payloads (event bodies, step data, outputs) are JSON bytes; decoding them is up to who needs the value. Times are
ms since the epoch.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, TypeAlias

import msgspec


class RunStatus(IntEnum):
    """Where a run stands. COMPLETED and above are final.

    >>> print(RunStatus.COMPLETED)
    completed
    """

    QUEUED = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4
    SKIPPED = 5

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def final(self) -> bool:
        return self >= RunStatus.COMPLETED


class StepStatus(IntEnum):
    """Where a step stands. DONE and FAILED carry the memo that the handler sees; the others are open.

    RETRYING waits for its backoff; DUE may be attempted again; WAITING sleeps or waits for something.
    """

    DONE = 0
    FAILED = 1
    WAITING = 2
    RETRYING = 3
    DUE = 4


class JobState(IntEnum):
    """A job is SCHEDULED until due, READY to be claimed, LEASED by a node, BLOCKED by a limit, or PARKED.

    A PARKED driver job belongs to a run in which everything waits: its timers and pauses wake it.
    """

    SCHEDULED = 0
    READY = 1
    LEASED = 2
    BLOCKED = 3
    PARKED = 4


JobKind: TypeAlias = Literal[
    "run", "sleep", "timeout", "retry", "start_timeout", "finish_timeout", "debounce", "batch", "cron", "gate"
]
PauseKind: TypeAlias = Literal["event", "signal", "invoke", "cancel"]
AppMethod: TypeAlias = Literal["serve", "connect", "api"]
"""How an app is reached: at a URL of its own, or through the connection that its worker opened."""


class Run(msgspec.Struct, gc=False):
    """One execution of a function. `parent` is "<run>.<step>" of the step that invoked it.

    `request_version` is the protocol's version that the app on another server chose in its first answer.
    """

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
    request_version: int | None = None


class Step(msgspec.Struct, gc=False):
    """A step of a run. `data` is the memo as sent to the handler; `opts` what it was asked to do (JSON)."""

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


class Attempt(msgspec.Struct, gc=False):
    """A failed attempt of a step, or of the handler itself (`step_id` empty)."""

    run_id: str
    step_id: str
    attempt: int
    started_at: int
    ended_at: int
    error: bytes


class Job(msgspec.Struct, gc=False):
    """Something due at a time. `keys` are the concurrency keys of a driver job, `data` what its kind needs (JSON)."""

    id: str
    kind: JobKind
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


class Pause(msgspec.Struct, gc=False):
    """A run waiting for an event, a signal or another run, or a rule that cancels it.

    `path` and `value` are the equality that the event must satisfy to be considered at all: the index that
    spares evaluating every pause for every event. `expression` is the rest of the condition.
    """

    id: str
    run_id: str
    step_id: str
    kind: PauseKind
    name: str
    path: str | None
    value: str | None
    expression: str | None
    created_at: int
    expires_at: int | None


class FunctionRow(msgspec.Struct, gc=False):
    """A registered function; `config` is `encode_config` of its configuration."""

    id: str
    app_id: str
    name: str
    version: int
    config: bytes
    created_at: int
    archived_at: int | None
    paused_at: int | None


class AppRow(msgspec.Struct, gc=False):
    """An app on another server, as its last sync told. What it did not say of itself is "".

    `error` and `message` say why the last sync failed: a machine word, and what to do; what was synced before stays.
    """

    id: str
    method: AppMethod
    url: str
    sdk: str
    framework: str
    version: str
    checksum: str
    sync_id: str
    created_at: int
    synced_at: int
    error: str | None = None
    message: str | None = None


class SecretRow(msgspec.Struct, gc=False):
    """A secret that this installation made for itself."""

    name: str
    value: bytes


class EventRow(msgspec.Struct, gc=False):
    """An event as stored; `body` is `Event.to_json` encoded."""

    internal_id: str
    name: str
    received_at: int
    internal: int
    body: bytes


class Cancellation(msgspec.Struct, gc=False):
    """Runs of a function that were cancelled in bulk: those queued in a span of time that satisfied `condition`."""

    id: str
    function_id: str
    started_after: int | None
    started_before: int
    condition: str | None
    created_at: int
    cancelled: int


class Replay(msgspec.Struct, gc=False):
    """Runs of a function that are done once more: those of some statuses (JSON) queued in a span of time.

    `cursor` is the last run that was looked at, `bound` an id that only later runs exceed, those of this replay
    included. `started` and `skipped` count the runs that it started, and those that could not be started again.
    """

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


class RunMetadata(msgspec.Struct, gc=False):
    """What a program noted about a run (`target` empty), a step (its hash) or a span (its id); `entries` is JSON."""

    run_id: str
    target: str
    scope: str
    kind: str
    entries: bytes
    updated_at: int
