"""How a run's answers become messages: the parts of each step, its calls with what came of them, and what is noted.

One message of the assistant takes in all steps of a run, parted by `step-start`, until somebody has his say in between:
a person who answers a question, a signal, a background task. What is said after that is a message of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from perdure.agents.background.told import times
from perdure.agents.journal import Question, shown_ids
from perdure.agents.messages import Approval, DataPart, Message, Part, StepStartPart, TextPart, ToolInvocation, ToolPart
from perdure.agents.models.call import Answer
from perdure.agents.said import APPROVAL_SCHEMA
from perdure.model.json import Json, encode


def joined(messages: list[Message], made: Message, model: str | None) -> None:
    """Adds a step, answered by `model`, to a conversation: to the message before, where it is the same one."""
    if not messages or messages[-1].id != made.id:
        messages.append(made)
        return
    before = messages[-1]
    parts = [*before.parts, StepStartPart(model, made.created_at or None), *made.parts]
    messages[-1] = msgspec.structs.replace(before, parts=parts, metadata={**before.metadata, **made.metadata})


def step_parts(answer: Answer, outcomes: Mapping[str, dict[str, Json]], at: int) -> list[Part]:
    """The parts of a step: each call with what came of it (`outcomes`), and what its tool has said to be kept."""
    parts: list[Part] = []
    for part in answer.parts:
        outcome = outcomes.get(part.tool_invocation.tool_call_id) if isinstance(part, ToolPart) else None
        if isinstance(part, ToolPart):
            part = part if outcome is None else _settled_part(part, outcome)
            part = msgspec.structs.replace(part, created_at=part.created_at or at)
        elif isinstance(part, TextPart):
            part = msgspec.structs.replace(part, created_at=part.created_at or at)
        parts.append(part)
        parts += [DataPart(said) for said in (outcome or {}).get("data", [])]
    return parts


def step_metadata(answer: Answer, outcomes: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
    """What is noted about a step: its model, when its background tasks ran, and that somebody has answered it."""
    noted: dict[str, Json] = {"modelId": answer.model, "provider": answer.provider}
    known = {part.tool_invocation.tool_call_id: part for part in answer.tool_calls}
    for call_id in known:
        outcome = outcomes.get(call_id, {})
        if "startedAt" in outcome.get("task", {}):
            noted.setdefault("backgroundTasks", {})[call_id] = times(outcome["task"])
    if any(outcomes.get(call_id, {}).get("answered") for call_id in known):
        noted["mastra"] = {"responseBoundary": True}
    return noted


def spoken(messages: list[Message]) -> list[Json]:
    """What was said in a conversation, in texts alone, as messages in JSON."""
    found: list[Json] = []
    for message in messages:
        texts = [text for text in message.step_texts if text]
        if texts and message.role in ("user", "assistant"):
            found.append({"id": message.id, "role": message.role, "content": "\n".join(texts)})
    return found


def asked_metadata(run_id: str, questions: Mapping[str, Question]) -> dict[str, Json]:
    """The open questions of a run, by place, as its last message has them: who loads the thread can answer them."""
    noted: dict[str, Json] = {}
    ids = shown_ids(questions)
    for place, question in questions.items():
        shown_id = ids[place]
        told: dict[str, Json] = {
            "toolCallId": shown_id,
            "toolName": question.tool_name,
            "args": question.args,
            "type": question.kind,
            "runId": run_id,
        }
        if question.kind == "approval":
            noted.setdefault("pendingToolApprovals", {})[shown_id] = {**told, "resumeSchema": APPROVAL_SCHEMA}
            continue
        told["suspendPayload"] = question.payload
        if question.resume_schema is not None:
            told["resumeSchema"] = encode(question.resume_schema).decode()
        noted.setdefault("suspendedTools", {})[shown_id] = told
    return noted


def settled(call: ToolInvocation, outcome: dict[str, Json]) -> ToolInvocation:
    """A call with what came of it."""
    found = msgspec.structs.replace(call, args=outcome.get("args", call.args))
    approval = outcome.get("approval")
    if approval is not None:
        found.approval = Approval(approval["id"], approval["approved"], approval.get("reason"))
    if "denied" in outcome:
        found.state = "output-denied"
    elif "error" in outcome:
        found.state, found.error_text = "output-error", outcome["error"]["message"]
    else:
        found.state, found.result = "result", outcome.get("result")
    return found


def args_hash(tool_name: str, args: Json) -> str:
    """What binds a decision to the arguments that were shown: a hash of the call, whatever the order of its keys."""
    canonical = encode([tool_name, _sorted(args)])
    return hashlib.sha256(canonical).hexdigest()


def _settled_part(part: ToolPart, outcome: dict[str, Json]) -> ToolPart:
    metadata, told = part.provider_metadata, {}
    if "task" in outcome:
        told["backgroundTask"] = {key: outcome["task"][key] for key in ("taskId", "status")}
    if "modelOutput" in outcome:
        told["modelOutput"] = outcome["modelOutput"]
    if told:
        metadata = {**(metadata or {}), "mastra": told}
    invocation = settled(part.tool_invocation, outcome)
    return msgspec.structs.replace(part, tool_invocation=invocation, provider_metadata=metadata)


def _sorted(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
