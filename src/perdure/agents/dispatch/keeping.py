"""What a task came to, put where its call stands: in the state of its run, and in the message of its thread.

Invariant: putting the same outcome in again changes nothing, whoever does it: the run while it goes on, and the task
when it ends. So it does not matter which of them comes last.
"""

from __future__ import annotations

from functools import partial

import msgspec

from perdure.agents.background.told import metadata, times
from perdure.agents.declared import DeclaredAgent
from perdure.agents.messages import Message, Part, ToolPart
from perdure.agents.responding import settled
from perdure.agents.storage import Task
from perdure.agents.tools import Tool
from perdure.engine.agents.records import SETTLED
from perdure.model.json import Json


def outcome_of(task: Task, found: Tool | None) -> dict[str, Json]:
    """What a settled task's call came to, as the outcome of a tool call."""
    about = {"taskId": task.id, "status": task.status}
    times = {"startedAt": task.started_at or task.created_at, "completedAt": task.completed_at}
    outcome: dict[str, Json] = {"task": {**about, **times}}
    if task.status != "completed":
        error = task.error or {"name": "TaskFailedError", "message": f"the background task is {task.status}"}
        return {**outcome, "error": error}
    outcome["result"] = task.result
    if found is not None and found.model_output is not None:
        outcome["modelOutput"] = found.model_output(task.result)
    return outcome


async def keep(agent: DeclaredAgent, task: Task, message_id: str) -> None:
    """Puts what a settled task came to into the thread, where its call is kept."""
    if not message_id or agent.memory is None or task.status not in SETTLED:
        return
    outcome = outcome_of(task, agent.tools.get(task.tool_name))
    await agent.memory.storage.edit_message(message_id, partial(with_outcome, task.tool_call_id, outcome))


def with_outcome(tool_call_id: str, outcome: dict[str, Json], message: Message) -> Message:
    """A message with what the task of one of its calls came to."""
    changed: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolPart) and part.tool_invocation.tool_call_id == tool_call_id:
            told = {**(part.provider_metadata or {}), **told_metadata(outcome)}
            part = msgspec.structs.replace(
                part, tool_invocation=settled(part.tool_invocation, outcome), provider_metadata=told
            )
        changed.append(part)
    return msgspec.structs.replace(message, parts=changed, metadata=with_times(message.metadata, tool_call_id, outcome))


def told_metadata(outcome: dict[str, Json]) -> dict[str, Json]:
    """The provider metadata of a call that was a task."""
    told: dict[str, Json] = {**metadata(outcome["task"]["taskId"], outcome["task"]["status"])["mastra"]}
    if "modelOutput" in outcome:
        told["modelOutput"] = outcome["modelOutput"]
    return {"mastra": told}


def with_times(known: dict[str, Json], tool_call_id: str, outcome: dict[str, Json]) -> dict[str, Json]:
    """The metadata of a message with when a task of it began and ended."""
    tasks = {**known.get("backgroundTasks", {}), tool_call_id: times(outcome["task"])}
    return {**known, "backgroundTasks": tasks}
