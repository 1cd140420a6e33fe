"""Messages: what was said in a thread, as it is stored, shown to clients, and told to models.

The stored form is that of the agents protocol (format 2): a message has parts, and a tool call is one part that goes
from `call` to `result`. Field names are camelCase in JSON and snake case here.

Invariants: parts of kinds that this version does not know survive being loaded and saved (`DataPart`); a message's id
never changes, and saving the same id again replaces the message.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from perdure.model.errors import PerdureError
from perdure.model.json import Json

Role: TypeAlias = Literal["user", "assistant", "system", "tool", "signal"]
ToolState: TypeAlias = Literal["call", "result", "output-error", "output-denied"]


class MessageError(PerdureError):
    """A message that cannot be read; the text names the field and what is wrong."""


class _Camel(msgspec.Struct, rename="camel", omit_defaults=True):
    """Base of what is stored: camelCase in JSON, defaults left out."""


class TextPart(_Camel, tag="text", tag_field="type"):
    text: str
    provider_metadata: dict[str, Json] | None = None
    created_at: int | None = None


class ReasoningPart(_Camel, tag="reasoning", tag_field="type"):
    """What a model thought; `signature` is the provider's proof of it, which the next call must bring along."""

    text: str
    signature: str | None = None
    provider_metadata: dict[str, Json] | None = None


class Approval(_Camel):
    """How a call that needed approval was decided; `id` is the tool call's."""

    id: str
    approved: bool
    reason: str | None = None


class ToolInvocation(_Camel):
    """A call of a tool, and what came of it (`result`, or `error_text`)."""

    state: ToolState
    tool_call_id: str
    tool_name: str
    args: Json = None
    result: Json = None
    error_text: str | None = None
    approval: Approval | None = None


class ToolPart(_Camel, tag="tool-invocation", tag_field="type"):
    tool_invocation: ToolInvocation
    provider_executed: bool = False
    provider_metadata: dict[str, Json] | None = None
    created_at: int | None = None


class FilePart(_Camel, tag="file", tag_field="type"):
    """A file: `data` is a URL, a data URL, or base64."""

    data: str
    mime_type: str
    filename: str | None = None


class SourcePart(_Camel, tag="source", tag_field="type"):
    """Where a model says that it has something from."""

    source: dict[str, Json]


class StepStartPart(_Camel, tag="step-start", tag_field="type"):
    """The border between two model calls inside one message."""

    model: str | None = None
    created_at: int | None = None


class DataPart:
    """A part of any other kind: kept as it is."""

    __slots__ = ("content",)

    def __init__(self, content: dict[str, Json]) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataPart) and other.content == self.content

    __hash__ = None  # type: ignore[assignment]


_Known: TypeAlias = TextPart | ReasoningPart | ToolPart | FilePart | SourcePart | StepStartPart
Part: TypeAlias = _Known | DataPart
_KINDS: Final = frozenset({"text", "reasoning", "tool-invocation", "file", "source", "step-start"})


class Message(msgspec.Struct):
    """One message. `created_at` is in ms; `metadata` is the user's and the protocol's."""

    id: str
    role: Role
    parts: list[Part]
    created_at: int
    thread_id: str | None = None
    resource_id: str | None = None
    type: str | None = None
    metadata: dict[str, Json] = {}

    @property
    def text(self) -> str:
        """Its texts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def step_texts(self) -> list[str]:
        """The texts of each of its steps: a run of several steps is one message."""
        texts = [""]
        for part in self.parts:
            if isinstance(part, StepStartPart):
                texts.append("")
            elif isinstance(part, TextPart):
                texts[-1] += part.text
        return texts


class Usage(_Camel):
    """Tokens of one model call, or of several."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    reasoning_tokens: int = 0
    cached_input_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
        )

    def as_json(self) -> dict[str, int]:
        """As chunks and results tell it: the three totals always, the others where there are any."""
        plain: dict[str, int] = {
            "inputTokens": self.input_tokens,
            "outputTokens": self.output_tokens,
            "totalTokens": self.total_tokens,
        }
        if self.reasoning_tokens:
            plain["reasoningTokens"] = self.reasoning_tokens
        if self.cached_input_tokens:
            plain["cachedInputTokens"] = self.cached_input_tokens
        return plain


def part_to_json(part: Part) -> dict[str, Json]:
    """A part as it is stored."""
    if isinstance(part, DataPart):
        return part.content
    plain: dict[str, Json] = msgspec.to_builtins(part)
    return plain


def part_from_json(content: Json, where: str = "part") -> Part:
    """A part from JSON. Raises `MessageError` naming the field.

    >>> part_from_json({"type": "text", "text": "Hello"})
    TextPart(text='Hello', provider_metadata=None, created_at=None)
    """
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise MessageError(f'{where}: must be an object with a "type"')
    if content["type"] not in _KINDS:
        return DataPart(content)
    try:
        part: _Known = msgspec.convert(content, _Known)
    except msgspec.ValidationError as error:
        raise MessageError(f"{where}: {error}") from error
    return part
