"""Records of the agents' tables, fields in the order of the columns. Times are ms, payloads JSON bytes.

Invariants: a message's `seq` is its place in its thread, assigned once; `AgentRun.run_id` is the run's id as its
caller knows it, one name space for all agents, and `engine_run_id` the run that executes it.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

AgentRunStatus: TypeAlias = Literal["running", "suspended", "finished", "failed", "aborted"]
ApprovalStatus: TypeAlias = Literal["pending", "approved", "declined", "expired", "aborted"]
TaskStatus: TypeAlias = Literal["pending", "running", "suspended", "completed", "failed", "cancelled", "timed_out"]
SignalState: TypeAlias = Literal["queued", "claimed", "persisted"]

OVER: Final = frozenset({"finished", "failed", "aborted"})
"""The statuses of a run that does nothing any more."""
SETTLED: Final = frozenset({"completed", "failed", "cancelled", "timed_out"})
"""The statuses of a task that does nothing any more."""


class ThreadRow(msgspec.Struct, gc=False):
    """A conversation. `last_seq` is the place of its newest message, `metadata` a JSON object as text."""

    id: str
    resource_id: str
    title: str
    metadata: str | None
    working_memory: str | None
    last_seq: int
    created_at: int
    updated_at: int


class MessageRow(msgspec.Struct, gc=False):
    id: str
    thread_id: str
    resource_id: str
    seq: int
    role: str
    type: str | None
    created_at: int
    body: bytes


class ResourceRow(msgspec.Struct, gc=False):
    """Who threads belong to: a user, a tenant."""

    id: str
    working_memory: str | None
    metadata: str | None
    created_at: int
    updated_at: int


class EmbeddingRow(msgspec.Struct, gc=False):
    """The vector of a piece of a message: float32 values, little endian, of length 1. `space` names the embedder."""

    message_id: str
    position: int
    thread_id: str
    resource_id: str
    space: str
    vector: bytes


class AgentRunRow(msgspec.Struct, gc=False):
    """`inbox_closed`: it takes no more signals. `expires_at`: when it may be forgotten, once it is over."""

    run_id: str
    engine_run_id: str | None
    agent_id: str
    agent_version: str
    input_hash: str
    thread_id: str | None
    resource_id: str | None
    parent_run_id: str | None
    status: AgentRunStatus
    finish_reason: str | None
    inbox_closed: int
    detail: bytes
    created_at: int
    updated_at: int
    ended_at: int | None
    expires_at: int | None


class ApprovalRow(msgspec.Struct, gc=False):
    """A question to a person. `decision` is JSON: what was decided beyond yes or no."""

    run_id: str
    tool_call_id: str
    agent_id: str
    agent_version: str
    thread_id: str | None
    resource_id: str | None
    kind: Literal["approval", "suspension"]
    tool_name: str
    args: bytes
    args_hash: str
    payload: bytes | None
    resume_schema: bytes | None
    status: ApprovalStatus
    asked_at: int
    expires_at: int | None
    decided_at: int | None
    decided_by: str | None
    decision: bytes | None


class InboxRow(msgspec.Struct, gc=False):
    """A signal: for a run (`queued`, then `claimed` by the step that takes it in), or `persisted` in its thread.

    `seq` grows over all signals, for readers that ask for what came since.
    """

    seq: int
    id: str
    run_id: str
    thread_id: str
    state: SignalState
    step_id: str | None
    body: bytes
    created_at: int


class BegunRow(msgspec.Struct, gc=False):
    """How often a step was begun, attempts that died with their process included."""

    run_id: str
    step_id: str
    times: int


class TaskRow(msgspec.Struct, gc=False):
    """A background task: a tool's call that goes on beside its run. `outcome` is JSON."""

    id: str
    run_id: str
    agent_id: str
    thread_id: str | None
    resource_id: str | None
    tool_name: str
    tool_call_id: str
    status: TaskStatus
    args: bytes
    outcome: bytes | None
    retry_count: int
    max_retries: int
    timeout_ms: int
    created_at: int
    started_at: int | None
    suspended_at: int | None
    completed_at: int | None
