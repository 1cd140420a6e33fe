"""Messages as the agents protocol shows them: as they are stored, as user interfaces draw them, as models are told.

One run makes one message of the assistant, into which all of its steps go, until somebody answers a question of it:
what is said after that is another one. `Said` is such a message; times in ms.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from perdure.agents.inputs import message_to_json
from perdure.agents.messages import (
    DataPart,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    SourcePart,
    StepStartPart,
    TextPart,
    ToolInvocation,
    ToolPart,
)
from perdure.model.json import Json, encode

NOT_APPROVED = "Tool call was not approved by the user"
APPROVAL: Final[dict[str, Json]] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "approved": {"type": "boolean", "description": "Whether the tool may be called."},
        "reason": {"type": "string", "description": "Why it may not; the model is told."},
    },
    "required": ["approved"],
    "additionalProperties": False,
}
"""What an answer to the question whether a tool may be called is."""


class Said(msgspec.Struct):
    """A message of the assistant: the parts of each step with the time when it began."""

    id: str
    created_at: int
    model: str
    provider: str
    steps: list[tuple[int, list[Part]]]
    thread_id: str | None = None
    resource_id: str | None = None
    metadata: dict[str, Json] = {}

    @property
    def owner(self) -> dict[str, Json]:
        """The thread and the resource, where there are any."""
        found = {"threadId": self.thread_id, "resourceId": self.resource_id}
        return {key: value for key, value in found.items() if value is not None}


def iso(millis: int) -> str:
    """A time as JavaScript writes it.

    >>> iso(0)
    '1970-01-01T00:00:00.000Z'
    """
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stored_message(message: Message) -> dict[str, Json]:
    """A message of a thread or of the input, as it is stored."""
    plain = message_to_json(message)
    texts = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    parts = [_stored_part(part, message.created_at) for part in message.parts]
    content: dict[str, Json] = {"format": 2, "parts": [part for part in parts if part is not None]}
    if texts and message.role != "signal":
        content["content"] = texts
    for part in content["parts"]:
        if part["type"] == "tool-invocation" and part["toolInvocation"]["state"] != "call":
            # What has come to its result has no time of its own any more.
            del part["createdAt"]
    if message.metadata:
        content["metadata"] = _asking(message.metadata)
    return {**plain, "createdAt": iso(message.created_at), "content": content}


def _asking(metadata: dict[str, Json]) -> dict[str, Json]:
    """What is kept with a message, the open questions in it as they are asked."""
    asked: Json = metadata.get("pendingToolApprovals")
    if not isinstance(asked, dict):
        return metadata
    schema = encode(APPROVAL).decode()
    return {**metadata, "pendingToolApprovals": {key: {**each, "resumeSchema": schema} for key, each in asked.items()}}


def stored(said: Said) -> dict[str, Json]:
    """A message of the assistant, as it is stored."""
    parts: list[Json] = []
    for place, (at, step) in enumerate(said.steps):
        if place:
            parts.append({"type": "step-start", "createdAt": at, "model": f"{said.provider}/{said.model}"})
        parts += [found for part in step if (found := _stored_part(part, at)) is not None]
    content: dict[str, Json] = {"format": 2, "parts": parts}
    texts = [part.text for _, step in said.steps for part in step if isinstance(part, TextPart)]
    if texts:
        content["content"] = texts[-1]
    results = [each["toolInvocation"] for each in parts if _has_result(each)]
    if results and "mastra" not in said.metadata:
        content["toolInvocations"] = results
    content["metadata"] = {"modelId": said.model, "provider": said.provider, **said.metadata}
    return {"id": said.id, "role": "assistant", "content": content, "createdAt": iso(said.created_at), **said.owner}


def _has_result(part: dict[str, Json]) -> bool:
    """Whether a part is a call with its result, for which nobody was asked."""
    call: dict[str, Json] = part.get("toolInvocation") or {}
    return call.get("state") == "result" and "approval" not in call


def _stored_part(part: Part, at: int) -> dict[str, Json] | None:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text, "createdAt": part.created_at or at}
    if isinstance(part, ReasoningPart):
        details = [{"type": "text", "text": part.text}]
        return {"type": "reasoning", "reasoning": part.text, "details": details, "createdAt": at}
    if isinstance(part, ToolPart):
        plain: dict[str, Json] = msgspec.to_builtins(part.tool_invocation)
        plain.setdefault("args", {})
        if part.tool_invocation.state == "result":
            plain.setdefault("result", None)
        noted = {"providerMetadata": part.provider_metadata} if part.provider_metadata else {}
        return {"type": "tool-invocation", "toolInvocation": plain, **noted, "createdAt": part.created_at or at}
    if isinstance(part, StepStartPart):
        told = {"type": "step-start", "createdAt": part.created_at or at}
        return told if part.model is None else {**told, "model": part.model}
    if isinstance(part, SourcePart):
        return {"type": "source", "source": part.source, "createdAt": at}
    if isinstance(part, FilePart):
        return {"type": "file", "data": part.data, "mimeType": part.mime_type, "createdAt": at}
    return part.content


def shown(said: Said) -> dict[str, Json]:
    """A message of the assistant, as user interfaces draw it."""
    parts: list[Json] = []
    for place, (at, step) in enumerate(said.steps):
        if place:
            parts.append({"type": "step-start", "createdAt": at, "model": f"{said.provider}/{said.model}"})
        parts += [found for part in step if (found := _shown_part(part, at)) is not None]
    for kind, name in (("pendingToolApprovals", "approval"), ("suspendedTools", "suspended")):
        asked = said.metadata.get(kind) or {}
        parts += [{"type": f"data-tool-call-{name}", "data": question} for question in asked.values()]
    metadata = {"modelId": said.model, "provider": said.provider, **said.metadata, "createdAt": iso(said.created_at)}
    return {"id": said.id, "role": "assistant", "metadata": {**metadata, **said.owner}, "parts": parts}


def _shown_part(part: Part, at: int) -> dict[str, Json] | None:
    noted = {"providerMetadata": {"mastra": {"createdAt": at}}}
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text, **noted}
    if isinstance(part, ReasoningPart):
        return {"type": "reasoning", "text": part.text, "state": "done", **noted}
    if isinstance(part, ToolPart):
        noted = {"callProviderMetadata": part.provider_metadata} if part.provider_metadata else {}
        return {**_shown_call(part.tool_invocation, at), **noted}
    if isinstance(part, SourcePart):
        source = part.source
        kept = {"url": source.get("url"), "sourceId": source.get("id"), "title": source.get("title")}
        return {"type": f"source-{source.get('sourceType', 'url')}", **kept, **noted}
    if isinstance(part, FilePart):
        return {"type": "file", "url": _url(part), "mediaType": part.mime_type, **noted}
    return part.content if isinstance(part, DataPart) else None


def _shown_call(call: ToolInvocation, at: int) -> dict[str, Json]:
    told: dict[str, Json] = {"type": f"tool-{call.tool_name}", "toolCallId": call.tool_call_id, "input": call.args}
    if call.state == "result":
        return {**told, "output": call.result, "state": "output-available"}
    if call.state == "output-denied":
        return {**told, "output": _denial(call), "state": "output-available"}
    if call.state == "call":
        return {**told, "state": "input-available", "callProviderMetadata": {"mastra": {"createdAt": at}}}
    return {**told, "state": "output-error", "errorText": call.error_text or ""}


def told_to_models(steps: list[tuple[int, list[Part]]], *, last_open: bool = False) -> list[Json]:
    """Steps as messages between a caller and a model: what the assistant says, then the results of its tools.

    `last_open`: the last step as it was when its tools had not answered.
    """
    messages: list[Json] = []
    for place, (at, parts) in enumerate(steps):
        is_open = last_open and place == len(steps) - 1
        content = [found for part in parts if (found := _told_part(part, at, is_open=is_open)) is not None]
        if content:
            messages.append({"role": "assistant", "content": content})
        calls = [part for part in parts if isinstance(part, ToolPart)]
        if calls:
            results = [result_part(call) for call in calls if call.tool_invocation.state != "call" and not is_open]
            messages.append({"role": "tool", "content": results})
    return messages


def said_by_user(message: Message) -> dict[str, Json]:
    """A message of the input, as models are told it."""
    content = [found for part in message.parts if (found := _told_part(part, message.created_at)) is not None]
    return {"role": message.role, "content": content}


def content_of(at: int, parts: list[Part], *, is_open: bool = False) -> list[Json]:
    """The content of one step: what was said, and the result of each call behind it, unless the step `is_open`."""
    content: list[Json] = []
    for part in parts:
        if isinstance(part, FilePart):
            file = {"base64Data": part.data, "mediaType": part.mime_type, "type": "file"}
            content.append({"type": "file", "file": file})
        elif (found := _told_part(part, at, is_open=is_open)) is not None:
            content.append(found)
    calls = [part for part in parts if isinstance(part, ToolPart)]
    return content + [result_part(call) for call in calls if call.tool_invocation.state != "call" and not is_open]


def _told_part(part: Part, at: int, *, is_open: bool = False) -> dict[str, Json] | None:
    noted = {"providerOptions": {"mastra": {"createdAt": at}}}
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text, **noted}
    if isinstance(part, ReasoningPart):
        return {"type": "reasoning", "text": part.text, **noted}
    if isinstance(part, FilePart):
        return {"type": "file", "mediaType": part.mime_type, "data": _url(part), **noted}
    if not isinstance(part, ToolPart):
        return None
    call = part.tool_invocation
    told = {"type": "tool-call", "toolCallId": call.tool_call_id, "toolName": call.tool_name, "input": call.args}
    if part.provider_metadata:
        return {**told, "providerOptions": part.provider_metadata}
    return {**told, **noted} if call.state == "call" or is_open else told


def result_part(part: ToolPart) -> dict[str, Json]:
    """What came of a call, as models are told it."""
    call = part.tool_invocation
    if call.state == "output-denied":
        output: dict[str, Json] = {"type": "text", "value": _denial(call)}
    elif call.state == "output-error":
        output = {"type": "error-text", "value": call.error_text or ""}
    else:
        output = {"type": "text" if isinstance(call.result, str) else "json", "value": call.result}
    named = {"toolCallId": call.tool_call_id, "toolName": call.tool_name}
    noted = {"providerOptions": part.provider_metadata} if part.provider_metadata else {}
    return {"type": "tool-result", **named, "input": call.args, "output": output, **noted}


def _denial(call: ToolInvocation) -> str:
    return (call.approval.reason if call.approval is not None else None) or NOT_APPROVED


def _url(part: FilePart) -> str:
    if part.data.startswith(("data:", "http:", "https:")):
        return part.data
    return f"data:{part.mime_type};base64,{part.data}"
