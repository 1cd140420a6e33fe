"""One call of a model, as data: what is asked, what was answered, and what surrounds the attempt.

`Prompt` goes in, `Answer` comes out, and meanwhile `Call.say` takes the chunks. Nothing here knows a provider.

Invariant: an `Answer` is plain JSON both ways (`to_json`, `from_json`), and its parts are those of a message, so that
what a step records is what is told to the next model.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.messages import (
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolPart,
    Usage,
    part_from_json,
    part_to_json,
)
from perdure.model.json import Json

ToolChoice: TypeAlias = Literal["auto", "none", "required"] | dict[str, str]
"""Whether the model may, must not or must call a tool; `{"type": "tool", "toolName": "add"}` names the one."""


class ToolSpec(msgspec.Struct):
    """A tool as the model is told of it. `schema` is the JSON Schema (an object) of its arguments."""

    name: str
    description: str
    schema: dict[str, Json]
    strict: bool | None = None


class OutputSpec(msgspec.Struct):
    """The JSON that the answer has to be.

    `native` leaves it to the provider, `prompted` writes the schema into the prompt, `tool` has it as the arguments of
    a tool; `auto` takes what the model is known to do best. In every mode the JSON arrives as text.
    """

    schema: dict[str, Json]
    name: str = "object"
    description: str | None = None
    mode: Literal["auto", "native", "prompted", "tool"] = "auto"


class Prompt(msgspec.Struct):
    """What a model is asked.

    `settings` are the names that clients send, in camel or snake case: temperature, maxOutputTokens, topP, topK,
    presencePenalty, frequencyPenalty, seed, stopSequences, parallelToolCalls, timeout (seconds).
    `provider_options` is `{provider: {option: value}}`; only those of the provider that answers count.
    """

    system: list[str]
    messages: list[Message]
    tools: list[ToolSpec] = []
    tool_choice: ToolChoice = "auto"
    settings: dict[str, Json] = {}
    output: OutputSpec | None = None
    headers: dict[str, str] = {}
    provider_options: dict[str, Json] = {}
    include_raw_chunks: bool = False


class Answer(msgspec.Struct):
    """What a model answered.

    `finish_reason` is `stop`, `length`, `tool-calls`, `content-filter`, `error` or `other`; `cost` is in USD, None
    where no price is known; `timestamp` is in ms.

    >>> answer = Answer([TextPart("Hello")], "stop", Usage(3, 1, 4), "gpt-5.5", "openai")
    >>> Answer.from_json(answer.to_json()) == answer
    True
    """

    parts: list[Part]
    finish_reason: str
    usage: Usage
    model: str
    provider: str
    response_id: str | None = None
    timestamp: int = 0
    cost: float | None = None
    warnings: list[Json] = []
    raw_usage: dict[str, Json] | None = None

    @property
    def text(self) -> str:
        """Its texts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def reasoning_text(self) -> str:
        """What the model thought, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    @property
    def tool_calls(self) -> list[ToolPart]:
        """The calls that somebody here has to carry out; not those that the provider did itself."""
        return [part for part in self.parts if isinstance(part, ToolPart) and not part.provider_executed]

    def to_json(self) -> dict[str, Json]:
        """As a step records it; what is empty is left out."""
        plain: dict[str, Json] = {
            "parts": [part_to_json(part) for part in self.parts],
            "finishReason": self.finish_reason,
            "usage": msgspec.to_builtins(self.usage),
            "model": self.model,
            "provider": self.provider,
            "responseId": self.response_id,
            "timestamp": self.timestamp,
            "cost": self.cost,
            "warnings": self.warnings,
            "rawUsage": self.raw_usage,
        }
        return {key: value for key, value in plain.items() if value not in (None, [])}

    @classmethod
    def from_json(cls, plain: Json) -> Answer:
        """What `to_json` gave. Raises `MessageError` for a part that cannot be read."""
        return cls(
            parts=[part_from_json(part, f"parts[{index}]") for index, part in enumerate(plain.get("parts", []))],
            finish_reason=plain["finishReason"],
            usage=msgspec.convert(plain["usage"], Usage),
            model=plain["model"],
            provider=plain["provider"],
            response_id=plain.get("responseId"),
            timestamp=plain.get("timestamp", 0),
            cost=plain.get("cost"),
            warnings=plain.get("warnings", []),
            raw_usage=plain.get("rawUsage"),
        )


async def _at_once() -> None:
    """Of a reader that is never behind."""


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Call:
    """What surrounds one attempt at an answer.

    `say` takes each chunk as it comes; `drained` is awaited now and then, so that a reader far behind slows the model
    down. `used_ids` are ids of tool calls that the run has had: one that a provider repeats is given a suffix (`~2`).
    `attempt` counts from 0, and chooses the model where there are fallbacks.
    """

    run_id: str
    say: Callable[[Chunk], None]
    drained: Callable[[], Awaitable[None]] = _at_once
    now: Callable[[], int] = _wall_clock
    used_ids: Collection[str] = ()
    attempt: int = 0


class Model(Protocol):
    """Anything that answers. Write one to bring a model of your own; `Speaker` makes its chunks and its answer."""

    @property
    def name(self) -> str:
        """As it is shown: `provider/model`."""
        ...

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        """Answers once. Raises `ModelUnavailableError` or `ModelRejectedError`; any other error may be retried."""
        ...

    async def close(self) -> None:
        """Lets go of connections. It may be asked again afterwards."""
        ...
