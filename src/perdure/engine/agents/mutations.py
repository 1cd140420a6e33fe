"""The changes of the agents' tables: one Struct a statement of the store's `agents.sql`, as in `engine.mutations`."""

from __future__ import annotations

import msgspec

from perdure.engine.agents import records
from perdure.engine.mutations import Mutation


class PutThread(Mutation, frozen=True, gc=False):
    id: str
    resource_id: str
    title: str
    metadata: str | None
    working_memory: str | None
    last_seq: int
    created_at: int
    updated_at: int


class DeleteThread(Mutation, frozen=True, gc=False):
    id: str


class DeleteThreadMessages(Mutation, frozen=True, gc=False):
    thread_id: str


class DeleteThreadEmbeddings(Mutation, frozen=True, gc=False):
    thread_id: str


class DeleteThreadInbox(Mutation, frozen=True, gc=False):
    """Forgets the signals that were persisted in a thread."""

    thread_id: str


class MoveThreadMessages(Mutation, frozen=True, gc=False):
    """Gives a thread's messages to another resource."""

    resource_id: str
    thread_id: str


class MoveThreadEmbeddings(Mutation, frozen=True, gc=False):
    resource_id: str
    thread_id: str


class PutMessage(Mutation, frozen=True, gc=False):
    """Adds a message, or replaces the content of the one with its id; its place, thread and time stay."""

    id: str
    thread_id: str
    resource_id: str
    seq: int
    role: str
    type: str | None
    created_at: int
    body: bytes


class DeleteMessage(Mutation, frozen=True, gc=False):
    id: str


class DeleteMessageEmbeddings(Mutation, frozen=True, gc=False):
    message_id: str


class PutResource(Mutation, frozen=True, gc=False):
    id: str
    working_memory: str | None
    metadata: str | None
    created_at: int
    updated_at: int


class PutEmbedding(Mutation, frozen=True, gc=False):
    message_id: str
    position: int
    thread_id: str
    resource_id: str
    space: str
    vector: bytes


class PutAgentRun(Mutation, frozen=True, gc=False):
    run_id: str
    engine_run_id: str | None
    agent_id: str
    agent_version: str
    input_hash: str
    thread_id: str | None
    resource_id: str | None
    parent_run_id: str | None
    status: str
    finish_reason: str | None
    inbox_closed: int
    detail: bytes
    created_at: int
    updated_at: int
    ended_at: int | None
    expires_at: int | None


class DeleteAgentRun(Mutation, frozen=True, gc=False):
    run_id: str


class PutApproval(Mutation, frozen=True, gc=False):
    run_id: str
    tool_call_id: str
    agent_id: str
    agent_version: str
    thread_id: str | None
    resource_id: str | None
    kind: str
    tool_name: str
    args: bytes
    args_hash: str
    payload: bytes | None
    resume_schema: bytes | None
    status: str
    asked_at: int
    expires_at: int | None
    decided_at: int | None
    decided_by: str | None
    decision: bytes | None


class CloseApprovals(Mutation, frozen=True, gc=False):
    """Ends what a run still asks."""

    status: str
    decided_at: int
    run_id: str


class DeleteRunApprovals(Mutation, frozen=True, gc=False):
    run_id: str


class PutInbox(Mutation, frozen=True, gc=False):
    seq: int
    id: str
    run_id: str
    thread_id: str
    state: str
    step_id: str | None
    body: bytes
    created_at: int


class ClaimInbox(Mutation, frozen=True, gc=False):
    """Gives what is queued for a run to one of its steps."""

    step_id: str
    run_id: str


class DeleteRunInbox(Mutation, frozen=True, gc=False):
    run_id: str


class DeleteOldInbox(Mutation, frozen=True, gc=False):
    """Forgets when signals were persisted; they themselves are messages."""

    before: int


class PutBegun(Mutation, frozen=True, gc=False):
    run_id: str
    step_id: str
    times: int


class DeleteRunBegun(Mutation, frozen=True, gc=False):
    run_id: str


class PutTask(Mutation, frozen=True, gc=False):
    id: str
    run_id: str
    agent_id: str
    thread_id: str | None
    resource_id: str | None
    tool_name: str
    tool_call_id: str
    status: str
    args: bytes
    outcome: bytes | None
    retry_count: int
    max_retries: int
    timeout_ms: int
    created_at: int
    started_at: int | None
    suspended_at: int | None
    completed_at: int | None


class DeleteTask(Mutation, frozen=True, gc=False):
    id: str


class DeleteRunTasks(Mutation, frozen=True, gc=False):
    run_id: str


def put_thread(row: records.ThreadRow) -> PutThread:
    return PutThread(*msgspec.structs.astuple(row))


def put_message(row: records.MessageRow) -> PutMessage:
    return PutMessage(*msgspec.structs.astuple(row))


def put_agent_run(row: records.AgentRunRow) -> PutAgentRun:
    return PutAgentRun(*msgspec.structs.astuple(row))


def put_approval(row: records.ApprovalRow) -> PutApproval:
    return PutApproval(*msgspec.structs.astuple(row))


def put_inbox(row: records.InboxRow) -> PutInbox:
    return PutInbox(*msgspec.structs.astuple(row))


def put_task(row: records.TaskRow) -> PutTask:
    return PutTask(*msgspec.structs.astuple(row))
