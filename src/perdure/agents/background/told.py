"""What is said of background tasks: chunks to readers, and texts to the model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from perdure.agents.background.config import OVERRIDE
from perdure.agents.chunks import Chunk, chunk
from perdure.agents.models import ToolSpec
from perdure.agents.storage import Task
from perdure.agents.tools import Background
from perdure.model.json import Json, encode

KIND: Final = "background-task-"
ENDED: Final = "Background tasks have ended."
"""How begins what the model is told as tasks have ended."""
_ENDS: Final = {
    "completed": "background-task-completed",
    "failed": "background-task-failed",
    "timed_out": "background-task-failed",
    "cancelled": "background-task-cancelled",
}
_OVERRIDE_SCHEMA: Final[dict[str, Json]] = {
    "type": "object",
    "description": "Optional. How this one call is carried out; without it, as the tool is set up.",
    "properties": {
        "disposition": {"type": "string", "enum": ["foreground", "deferred", "awaited"]},
        "enabled": {"type": "boolean", "description": "true: deferred, false: foreground."},
        "timeoutMs": {"type": "number"},
        "maxRetries": {"type": "number"},
    },
    "additionalProperties": False,
}


def started(task: Task) -> Chunk:
    """A call has become a task."""
    return chunk(
        "background-task-started", task.run_id, taskId=task.id, toolName=task.tool_name, toolCallId=task.tool_call_id
    )


def running(task: Task) -> Chunk:
    """A task is carried out."""
    return _lifecycle("background-task-running", task, startedAt=iso(task.started_at), args=task.args)


def output(task: Task, said: Chunk) -> Chunk:
    """What the tool of a task says."""
    return _lifecycle("background-task-output", task, payload=dict(said))


def suspended(task: Task, payload: Json) -> Chunk:
    """A task waits for somebody."""
    told = {"suspendPayload": payload, "suspendData": payload}
    return _lifecycle("background-task-suspended", task, suspendedAt=iso(task.suspended_at), args=task.args, **told)


def resumed(task: Task) -> Chunk:
    """A task that was suspended goes on."""
    return _lifecycle("background-task-resumed", task, args=task.args)


def ended(task: Task) -> Chunk:
    """A task is settled: completed, failed or cancelled."""
    kind, at = _ENDS[task.status], iso(task.completed_at)
    if task.status == "completed":
        said = _lifecycle(kind, task, completedAt=at)
        said["payload"]["result"] = task.result
        return said
    return _lifecycle(kind, task, completedAt=at, error=None if task.status == "cancelled" else task.error)


def placeholder(task: Task) -> str:
    """What the model is told in place of the result of a deferred call."""
    return (
        f'Background task started. Task ID: {task.id}. The tool "{task.tool_name}" is running in the background. '
        "You will be notified when it completes."
    )


def times(task: Mapping[str, Json]) -> dict[str, Json]:
    """When a task began and ended, as the metadata of its message tell it."""
    told: dict[str, Json] = {"taskId": task["taskId"], "startedAt": iso(task.get("startedAt"))}
    if task.get("completedAt") is not None:
        told["completedAt"] = iso(task["completedAt"])
    return told


def metadata(task_id: str, status: str) -> dict[str, Json]:
    """What marks a tool call as a background task, for clients."""
    return {"mastra": {"backgroundTask": {"taskId": task_id, "status": status}}}


def directive(reported: list[dict[str, Json]]) -> str:
    """What the model is told as its tasks have ended; their results stand where their calls are."""
    done = [item for item in reported if "result" in item["outcome"]]
    lost = [item for item in reported if "result" not in item["outcome"]]
    lines = [f"{ENDED} Their tool calls now have their real results in the conversation."]
    if done:
        listed = "; ".join(map(_named, done))
        lines.append(f"Completed: {listed}. Do not call these tools again for it: use the results.")
    lines += [f"Failed: {_named(item)}: {item['outcome']['error']['message']}" for item in lost]
    return "\n".join(lines)


def paragraph(tools: Mapping[str, Background]) -> str:
    """What the system prompt says about tools that may run in the background."""
    listed = "\n".join(
        f"- {name} (default: {'foreground' if how.disposition == 'foreground' else 'background'}"
        f"{', awaited' if how.disposition == 'awaited' else ''})"
        for name, how in tools.items()
    )
    return (
        "Some tools can run in the background while the conversation goes on:\n"
        f"{listed}\n\n"
        f'In the arguments of a call of one of them you may add an object "{OVERRIDE}" to change how this call is '
        f'carried out: "{OVERRIDE}": {{"disposition": "foreground" | "deferred" | "awaited", "timeoutMs": number, '
        '"maxRetries": number}. Every field is optional; without it the default applies.\n'
        "- deferred: the tool runs in the background and you go on; you get a placeholder with a task id now, and are "
        "told when the task has ended.\n"
        "- awaited: the tool runs as a background task, and you get its real result once it is there.\n"
        "- foreground: the tool runs at once and you get its real result.\n\n"
        "Defer what the user does not need at once, or several tasks that do not depend on each other. Use foreground "
        "where you cannot go on without the result. You may tell the user the task id of a deferred call."
    )


def with_override(spec: ToolSpec) -> ToolSpec:
    """A tool as the model is told of it, with the field by which it chooses how a call is carried out."""
    if spec.schema.get("type", "object") != "object" or OVERRIDE in spec.schema.get("properties", {}):
        return spec
    properties = {**spec.schema.get("properties", {}), OVERRIDE: _OVERRIDE_SCHEMA}
    return msgspec.structs.replace(spec, schema={**spec.schema, "properties": properties})


def iso(at: int | None) -> str | None:
    """A time in ms as ISO 8601.

    >>> iso(1_795_331_666_208)
    '2026-11-22T07:14:26.208Z'
    """
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def task_json(task: Task) -> dict[str, Json]:
    """A task as the agents protocol tells it."""
    plain: dict[str, Json] = {
        "id": task.id,
        "status": task.status,
        "toolName": task.tool_name,
        "toolCallId": task.tool_call_id,
        "args": task.args,
        "agentId": task.agent_id,
        "threadId": task.thread_id,
        "resourceId": task.resource_id,
        "runId": task.run_id,
        "error": task.error,
        "suspendPayload": task.suspend_payload,
        "retryCount": task.retry_count,
        "maxRetries": task.max_retries,
        "timeoutMs": task.timeout_ms,
        "createdAt": iso(task.created_at),
        "startedAt": iso(task.started_at),
        "suspendedAt": iso(task.suspended_at),
        "completedAt": iso(task.completed_at),
    }
    told = {key: value for key, value in plain.items() if value is not None}
    if task.status == "completed":
        told["result"] = task.result
    return told


def _lifecycle(kind: str, task: Task, **more: Json) -> Chunk:
    whose = {"taskId": task.id, "toolName": task.tool_name, "toolCallId": task.tool_call_id, "agentId": task.agent_id}
    return chunk(kind, task.run_id, **whose, runId=task.run_id, **more)


def _named(item: dict[str, Json]) -> str:
    task_id = item["outcome"]["task"]["taskId"]
    return f"{item['toolCallId']} ({item['toolName']}), background task {encode(task_id).decode()}"
