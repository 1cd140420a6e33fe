"""Inputs: messages as callers give them, and as they are sent and stored.

Accepted are a text, a list of texts, and objects: `{role, content}` with a text or parts as content, messages of user
interfaces (`{id, role, parts}`), and stored ones (`content: {format: 2, parts}`).

Invariants: a message that cannot be read is an error that names the field; results of tools in messages of the role
`tool` are merged into the call that they belong to, where that is among the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias

import msgspec

from perdure.agents.errors import AgentError
from perdure.agents.messages import (
    FilePart,
    Message,
    MessageError,
    Part,
    ReasoningPart,
    StepStartPart,
    TextPart,
    ToolInvocation,
    ToolPart,
    part_from_json,
    part_to_json,
)
from perdure.model.json import Json

MessagesLike: TypeAlias = "str | Message | dict[str, Json] | Sequence[str | Message | dict[str, Json]]"
"""What a run may be given as its input."""

_ROLES: Final = ("user", "assistant", "system", "tool", "signal")


class InputError(AgentError, MessageError, ValueError):
    """A message of the input cannot be read; the text names the field and what is wrong."""

    status = 400


def message_to_json(message: Message) -> dict[str, Json]:
    """A message as it is sent and stored.

    >>> message_to_json(Message("m1", "user", [TextPart("Hello")], 7))["content"]
    {'format': 2, 'parts': [{'type': 'text', 'text': 'Hello'}]}
    """
    content: dict[str, Json] = {"format": 2, "parts": [part_to_json(part) for part in message.parts]}
    if message.metadata:
        content["metadata"] = message.metadata
    plain: dict[str, Json] = {"id": message.id, "role": message.role, "createdAt": message.created_at}
    for key, value in (
        ("threadId", message.thread_id),
        ("resourceId", message.resource_id),
        ("type", message.type),
    ):
        if value is not None:
            plain[key] = value
    return {**plain, "content": content}


def message_from_json(plain: Json, where: str = "message") -> Message:
    """What `message_to_json` gave. Raises `MessageError`."""
    content = plain.get("content") or {}
    return Message(
        id=plain["id"],
        role=plain["role"],
        parts=[part_from_json(part, f"{where}.parts[{i}]") for i, part in enumerate(content.get("parts", []))],
        created_at=plain.get("createdAt", 0),
        thread_id=plain.get("threadId"),
        resource_id=plain.get("resourceId"),
        type=plain.get("type"),
        metadata=content.get("metadata") or {},
    )


def read_messages(given: MessagesLike, *, new_id: Callable[[int], str], now: int) -> list[Message]:
    """The messages that were given. `new_id` makes the id of one that has none, from its place. Raises `InputError`.

    >>> read_messages("Hello", new_id=lambda place: f"u{place}", now=0)[0].text
    'Hello'
    """
    items = [given] if isinstance(given, str | Message | dict) else given
    if not isinstance(items, Sequence):
        raise InputError(f"messages: must be a text, a message or a list of them, got {type(given).__name__}")
    messages: list[Message] = []
    for place, item in enumerate(items):
        where = f"messages[{place}]"
        message = _read(item, where, partial(new_id, place), now)
        if message.role in ("tool", "assistant"):
            rest = _merge_results(message, messages)
            if len(rest) < len(message.parts) and all(isinstance(part, StepStartPart) for part in rest):
                continue
            if message.role == "tool":
                if not rest:
                    continue
                message = Message(message.id, "assistant", rest, message.created_at)
            elif len(rest) < len(message.parts):
                message = msgspec.structs.replace(message, parts=rest)
        messages.append(message)
    return messages


def _read(item: Json, where: str, new_id: Callable[[], str], now: int) -> Message:
    if isinstance(item, Message):
        return item
    if isinstance(item, str):
        return Message(new_id(), "user", [TextPart(item)], now)
    if not isinstance(item, dict):
        raise InputError(f"{where}: must be a text or an object, got {type(item).__name__}")
    role = item.get("role")
    if role not in _ROLES:
        raise InputError(f"{where}.role: must be one of {', '.join(_ROLES)}, got {role!r}")
    content = item.get("content")
    metadata: dict[str, Json] = {}
    if isinstance(content, dict):
        metadata = content.get("metadata") or {}
        content = content.get("parts", [])
    elif isinstance(item.get("parts"), list):
        content = item["parts"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise InputError(f"{where}.content: must be a text or a list of parts")
    parts = [part for index, piece in enumerate(content) for part in _part(piece, f"{where}.content[{index}]")]
    given_id = item.get("id")
    return Message(
        id=given_id if isinstance(given_id, str) and given_id else new_id(),
        role=role,
        parts=parts,
        created_at=_created(item.get("createdAt"), now),
        type=item.get("type") if isinstance(item.get("type"), str) else None,
        metadata=metadata or (item.get("metadata") if isinstance(item.get("metadata"), dict) else None) or {},
    )


def _created(value: Json, now: int) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            return int(datetime.fromisoformat(value).timestamp() * 1000)
        except ValueError:
            return now
    return now


def _part(piece: Json, where: str) -> list[Part]:
    if isinstance(piece, str):
        return [TextPart(piece)]
    if not isinstance(piece, dict) or not isinstance(piece.get("type"), str):
        raise InputError(f'{where}: must be a text or an object with a "type"')
    kind: str = piece["type"]
    reader = _READERS.get(kind)
    if reader is not None:
        return [reader(piece, where)]
    if kind.startswith("tool-") and "toolCallId" in piece and kind != "tool-invocation":
        return [_ui_tool(piece)]
    if kind == "tool-invocation" and isinstance(piece.get("toolInvocation"), dict):
        call = piece["toolInvocation"]
        piece = {**piece, "toolInvocation": {**call, "state": _state(call.get("state"))}}
    try:
        return [part_from_json(piece, where)]
    except MessageError as error:
        raise InputError(str(error)) from error


def _text(piece: dict[str, Json], where: str) -> Part:
    text = piece.get("text")
    if not isinstance(text, str):
        raise InputError(f"{where}.text: must be a text")
    return TextPart(text, piece.get("providerMetadata") or piece.get("providerOptions"))


def _reasoning(piece: dict[str, Json], where: str) -> Part:
    text = piece.get("text", piece.get("reasoning"))
    if not isinstance(text, str):
        raise InputError(f"{where}.text: must be a text")
    return ReasoningPart(text, piece.get("signature"), piece.get("providerMetadata"))


def _file(piece: dict[str, Json], where: str) -> Part:
    data = next((piece[key] for key in ("data", "image", "url") if isinstance(piece.get(key), str)), None)
    if data is None:
        raise InputError(f"{where}: a file needs data or url, as a text")
    otherwise = "image/jpeg" if piece["type"] == "image" else "application/octet-stream"
    mime_type = piece.get("mediaType") or piece.get("mimeType") or _mime_of(data) or otherwise
    return FilePart(data, mime_type, piece.get("filename"))


def _mime_of(data: str) -> str | None:
    return data[5:].partition(";")[0] or None if data.startswith("data:") else None


def _tool_call(piece: dict[str, Json], where: str) -> Part:
    call = ToolInvocation("call", _name(piece, "toolCallId", where), _name(piece, "toolName", where))
    call.args = piece.get("input", piece.get("args"))
    return ToolPart(call, provider_executed=bool(piece.get("providerExecuted")))


def _tool_result(piece: dict[str, Json], where: str) -> Part:
    call = ToolInvocation("result", _name(piece, "toolCallId", where), str(piece.get("toolName") or ""))
    call.args = piece.get("input", piece.get("args"))
    output = piece.get("output", piece.get("result"))
    if isinstance(output, dict) and output.get("type") in ("json", "text", "error-text", "error-json", "content"):
        if output["type"].startswith("error"):
            call.state, call.error_text = "output-error", str(output.get("value"))
        output = output.get("value")
    call.result = output
    return ToolPart(call)


def _ui_tool(piece: dict[str, Json]) -> Part:
    """A tool call as user interfaces show it: its kind is `tool-<name>`."""
    call = ToolInvocation(_state(piece.get("state")), piece["toolCallId"], piece["type"].removeprefix("tool-"))
    call.args, call.result, call.error_text = piece.get("input"), piece.get("output"), piece.get("errorText")
    return ToolPart(call)


def _state(value: Json) -> Json:
    shown = {"input-available": "call", "partial-call": "call", "output-available": "result"}
    return shown.get(value, value) if isinstance(value, str) else "call"


def _name(piece: dict[str, Json], field: str, where: str) -> str:
    value = piece.get(field)
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}.{field}: must be a text that is not empty")
    return value


def _merge_results(message: Message, before: list[Message]) -> list[Part]:
    """Gives the calls among `before` the results in a message; what belongs to none of them is left over.

    Callers tell a call again with what has come of it, or of the next one; models take each call once only.
    """
    calls = {
        part.tool_invocation.tool_call_id: part
        for earlier in before
        for part in earlier.parts
        if isinstance(part, ToolPart)
    }
    rest: list[Part] = []
    for part in message.parts:
        call = calls.get(part.tool_invocation.tool_call_id) if isinstance(part, ToolPart) else None
        if call is None or not isinstance(part, ToolPart):
            rest.append(part)
            continue
        found = part.tool_invocation
        if found.state == "call":
            continue
        call.tool_invocation = msgspec.structs.replace(
            call.tool_invocation, state=found.state, result=found.result, error_text=found.error_text
        )
    return rest


_READERS: Final = {
    "text": _text,
    "reasoning": _reasoning,
    "image": _file,
    "file": _file,
    "tool-call": _tool_call,
    "tool-result": _tool_result,
}
