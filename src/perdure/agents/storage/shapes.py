"""What the storage takes and gives: plain Structs with decoded JSON, and how they become rows and back."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar, cast

import msgspec

from perdure.agents.messages import Message, Role, part_from_json, part_to_json
from perdure.engine.agents.records import (
    AgentRunRow,
    AgentRunStatus,
    ApprovalRow,
    ApprovalStatus,
    MessageRow,
    ResourceRow,
    TaskRow,
    TaskStatus,
    ThreadRow,
)
from perdure.model.json import Json, decode, encode

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T]):
    """A page of what was asked for: `total` counts all pages, `page` is counted from 0."""

    items: list[T]
    total: int
    page: int
    per_page: int
    has_more: bool


class Thread(msgspec.Struct):
    """A conversation of one resource. Times in ms."""

    id: str
    resource_id: str
    title: str
    metadata: dict[str, Json] | None
    created_at: int
    updated_at: int
    working_memory: str | None = None


class Resource(msgspec.Struct):
    """Who threads belong to, and what all of them remember of it."""

    id: str
    working_memory: str | None
    metadata: dict[str, Json] | None
    created_at: int
    updated_at: int


class Clone(msgspec.Struct):
    """A copied thread: `message_ids` says which message became which."""

    thread: Thread
    messages: list[Message]
    message_ids: dict[str, str]


class Include(msgspec.Struct):
    """A message that is wanted with its neighbours, whatever the page is."""

    id: str
    previous: int = 0
    next: int = 0


class Match(msgspec.Struct):
    """A message that is near in meaning; `score` is the cosine, at most 1."""

    message_id: str
    thread_id: str
    score: float


class AgentRun(msgspec.Struct):
    """A run as its caller knows it. `detail` is its owner's JSON."""

    run_id: str
    agent_id: str
    agent_version: str
    input_hash: str
    thread_id: str | None = None
    resource_id: str | None = None
    parent_run_id: str | None = None
    detail: dict[str, Json] = {}
    engine_run_id: str | None = None
    status: AgentRunStatus = "running"
    finish_reason: str | None = None
    inbox_closed: bool = False
    created_at: int = 0
    updated_at: int = 0
    ended_at: int | None = None
    expires_at: int | None = None


class Approval(msgspec.Struct):
    """A question to a person and what was decided. `expires_at` is the time (ms) after which nobody may answer."""

    run_id: str
    tool_call_id: str
    agent_id: str
    agent_version: str
    tool_name: str
    args: Json
    args_hash: str
    kind: Literal["approval", "suspension"] = "approval"
    thread_id: str | None = None
    resource_id: str | None = None
    payload: Json = None
    resume_schema: Json = None
    status: ApprovalStatus = "pending"
    asked_at: int = 0
    expires_at: int | None = None
    decided_at: int | None = None
    decided_by: str | None = None
    reason: str | None = None
    data: Json = None
    new_args: Json = None


class Task(msgspec.Struct):
    """A background task. `timeout_ms` bounds one attempt."""

    id: str
    run_id: str
    agent_id: str
    tool_name: str
    tool_call_id: str
    args: Json
    thread_id: str | None = None
    resource_id: str | None = None
    status: TaskStatus = "pending"
    result: Json = None
    error: Json = None
    suspend_payload: Json = None
    retry_count: int = 0
    max_retries: int = 0
    timeout_ms: int = 300_000
    created_at: int = 0
    started_at: int | None = None
    suspended_at: int | None = None
    completed_at: int | None = None


class Queued(msgspec.Struct):
    """A signal that was kept: its place among all of them, and the signal as JSON."""

    seq: int
    signal: dict[str, Json]


def _object(text: str | None) -> dict[str, Json] | None:
    found: dict[str, Json] | None = None if text is None else decode(text)
    return found


def _json(data: bytes | None) -> Json:
    return None if data is None else decode(data)


def _bytes(value: Json) -> bytes | None:
    return None if value is None else encode(value)


def thread_of(row: ThreadRow) -> Thread:
    return Thread(
        row.id, row.resource_id, row.title, _object(row.metadata), row.created_at, row.updated_at, row.working_memory
    )


def resource_of(row: ResourceRow) -> Resource:
    return Resource(row.id, row.working_memory, _object(row.metadata), row.created_at, row.updated_at)


def message_row(message: Message) -> MessageRow:
    """A message with a thread and a resource as it is stored."""
    body: dict[str, Json] = {"parts": [part_to_json(part) for part in message.parts]}
    if message.metadata:
        body["metadata"] = message.metadata
    return MessageRow(
        message.id, message.thread_id or "", message.resource_id or "", 0, message.role, message.type,
        message.created_at, encode(body),
    )  # fmt: skip


def message_of(row: MessageRow) -> Message:
    body = decode(row.body)
    return Message(
        id=row.id,
        role=cast("Role", row.role),
        parts=[part_from_json(part) for part in body["parts"]],
        created_at=row.created_at,
        thread_id=row.thread_id,
        resource_id=row.resource_id,
        type=row.type,
        metadata=body.get("metadata", {}),
    )


def run_row(run: AgentRun) -> AgentRunRow:
    return AgentRunRow(
        run.run_id, run.engine_run_id, run.agent_id, run.agent_version, run.input_hash, run.thread_id,
        run.resource_id, run.parent_run_id, run.status, run.finish_reason, int(run.inbox_closed),
        encode(run.detail), run.created_at, run.updated_at, run.ended_at, run.expires_at,
    )  # fmt: skip


def run_of(row: AgentRunRow) -> AgentRun:
    return AgentRun(
        run_id=row.run_id,
        agent_id=row.agent_id,
        agent_version=row.agent_version,
        input_hash=row.input_hash,
        thread_id=row.thread_id,
        resource_id=row.resource_id,
        parent_run_id=row.parent_run_id,
        detail=decode(row.detail),
        engine_run_id=row.engine_run_id,
        status=row.status,
        finish_reason=row.finish_reason,
        inbox_closed=bool(row.inbox_closed),
        created_at=row.created_at,
        updated_at=row.updated_at,
        ended_at=row.ended_at,
        expires_at=row.expires_at,
    )


def approval_row(approval: Approval) -> ApprovalRow:
    decided = None
    if approval.status in ("approved", "declined"):
        decided = encode({"reason": approval.reason, "data": approval.data, "args": approval.new_args})
    return ApprovalRow(
        approval.run_id, approval.tool_call_id, approval.agent_id, approval.agent_version, approval.thread_id,
        approval.resource_id, approval.kind, approval.tool_name, encode(approval.args), approval.args_hash,
        _bytes(approval.payload), _bytes(approval.resume_schema), approval.status, approval.asked_at,
        approval.expires_at, approval.decided_at, approval.decided_by, decided,
    )  # fmt: skip


def approval_of(row: ApprovalRow) -> Approval:
    said = _json(row.decision) or {}
    return Approval(
        run_id=row.run_id,
        tool_call_id=row.tool_call_id,
        agent_id=row.agent_id,
        agent_version=row.agent_version,
        tool_name=row.tool_name,
        args=decode(row.args),
        args_hash=row.args_hash,
        kind=row.kind,
        thread_id=row.thread_id,
        resource_id=row.resource_id,
        payload=_json(row.payload),
        resume_schema=_json(row.resume_schema),
        status=row.status,
        asked_at=row.asked_at,
        expires_at=row.expires_at,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        reason=said.get("reason"),
        data=said.get("data"),
        new_args=said.get("args"),
    )


def outcome_bytes(result: Json, error: Json, suspend_payload: Json) -> bytes | None:
    """What came of a task, so far; None where nothing did."""
    said = {"result": result, "error": error, "suspendPayload": suspend_payload}
    kept = {key: value for key, value in said.items() if value is not None}
    return encode(kept) if kept else None


def task_row(task: Task) -> TaskRow:
    return TaskRow(
        task.id, task.run_id, task.agent_id, task.thread_id, task.resource_id, task.tool_name, task.tool_call_id,
        task.status, encode(task.args), outcome_bytes(task.result, task.error, task.suspend_payload),
        task.retry_count, task.max_retries, task.timeout_ms, task.created_at, task.started_at, task.suspended_at,
        task.completed_at,
    )  # fmt: skip


def task_of(row: TaskRow) -> Task:
    said = _json(row.outcome) or {}
    return Task(
        id=row.id,
        run_id=row.run_id,
        agent_id=row.agent_id,
        tool_name=row.tool_name,
        tool_call_id=row.tool_call_id,
        args=decode(row.args),
        thread_id=row.thread_id,
        resource_id=row.resource_id,
        status=row.status,
        result=said.get("result"),
        error=said.get("error"),
        suspend_payload=said.get("suspendPayload"),
        retry_count=row.retry_count,
        max_retries=row.max_retries,
        timeout_ms=row.timeout_ms,
        created_at=row.created_at,
        started_at=row.started_at,
        suspended_at=row.suspended_at,
        completed_at=row.completed_at,
    )
