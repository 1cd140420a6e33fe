"""The fold: from the chunks of a run, what they add up to, step by step.

Readers use it for what they await (`output.text`), and the loop for what a failed attempt had said. It takes back what
`step-rollback` takes back, so that only what stands counts.

Invariant: taking the same chunks in the same order gives the same state; no chunk is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.journal import call_of
from perdure.agents.messages import (
    Approval,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolInvocation,
    ToolPart,
    Usage,
)
from perdure.agents.responding import joined
from perdure.model.json import Json, encode


@dataclass
class StepFold:
    """What one model call and its tools have said so far."""

    number: int
    message_id: str | None = None
    parts: list[Part] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model: str | None = None
    warnings: list[Json] = field(default_factory=list)
    tool_calls: list[Chunk] = field(default_factory=list)
    tool_results: list[Chunk] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its texts, joined."""
        self._join()
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def reasoning_text(self) -> str:
        """What the model thought, joined."""
        self._join()
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    def message(self, run_id: str) -> Message:
        """What was said, as the assistant's message."""
        self._join()
        return Message(self.message_id or f"{run_id}-m{self.number}", "assistant", list(self.parts), 0)

    def _join(self) -> None:
        """Deltas are kept apart until somebody looks: joining at each would be quadratic."""
        if self._pieces:
            last = self.parts[-1]
            if isinstance(last, TextPart | ReasoningPart):
                last.text += "".join(self._pieces)
            self._pieces.clear()

    def open(self, part: Part) -> None:
        """Begins a part."""
        self._join()
        self.parts.append(part)

    def piece(self, text: str, kind: type[TextPart] | type[ReasoningPart]) -> None:
        """Goes on with the open part; a delta that nobody opened opens one."""
        if not self.parts or not isinstance(self.parts[-1], kind):
            self.open(kind(""))
        self._pieces.append(text)

    def call_of(self, tool_call_id: str) -> ToolInvocation | None:
        """The call of this id, where this step made it."""
        for part in self.parts:
            if isinstance(part, ToolPart) and part.tool_invocation.tool_call_id == tool_call_id:
                return part.tool_invocation
        return None


class Fold:
    """What a run has said so far."""

    def __init__(self) -> None:
        self.steps: list[StepFold] = []
        self.finish_reason: str | None = None
        self.usage = Usage()
        self.cost: float | None = None
        self.object: Json = None
        self.partial_object: Json = None
        self.used_fallback = False
        self.error: dict[str, Json] | None = None
        self.tripwire: dict[str, Json] | None = None
        self.warnings: list[Json] = []
        self.scores: list[dict[str, Json]] = []
        self.open_questions: dict[str, Chunk] = {}
        self.ended = False
        self._answer: str | None = None

    @property
    def step(self) -> StepFold:
        """The step that goes on."""
        if not self.steps:
            self.steps.append(StepFold(0))
        return self.steps[-1]

    @property
    def text(self) -> str:
        """The text of the last step: the answer. Of a network, what it came to."""
        if self._answer is not None:
            return self._answer
        return self.steps[-1].text if self.steps else ""

    def messages(self, run_id: str) -> list[Message]:
        """What was said, as messages of the assistant."""
        found: list[Message] = []
        for step in self.steps:
            if step.parts:
                joined(found, step.message(run_id), step.model)
        return found

    def take(self, said: Chunk) -> None:
        """Adds a chunk. Kinds that add nothing are passed over."""
        if self.finish_reason == "suspended" and said.type != "suspended":
            self.finish_reason = None
        name = _HANDLERS.get(said.type)
        if name is not None:
            handler: Callable[[Chunk], None] = getattr(self, name)
            handler(said)

    def _step_start(self, said: Chunk) -> None:
        number = _number(said.payload.get("stepId"), len(self.steps))
        self.steps.append(StepFold(number, said.payload.get("messageId")))

    def _metadata(self, said: Chunk) -> None:
        self.step.model = said.payload.get("modelId")

    def _text(self, said: Chunk) -> None:
        self.step.piece(said.payload["text"], TextPart)

    def _text_start(self, _: Chunk) -> None:
        self.step.open(TextPart(""))

    def _reasoning(self, said: Chunk) -> None:
        self.step.piece(said.payload["text"], ReasoningPart)

    def _reasoning_start(self, _: Chunk) -> None:
        self.step.open(ReasoningPart(""))

    def _source(self, said: Chunk) -> None:
        self.step.open(SourcePart(said.payload))

    def _file(self, said: Chunk) -> None:
        payload = said.payload
        data = payload.get("data") or payload.get("base64") or ""
        self.step.open(FilePart(data, payload.get("mimeType") or "application/octet-stream", payload.get("filename")))

    def _tool_call(self, said: Chunk) -> None:
        payload = said.payload
        invocation = ToolInvocation("call", payload["toolCallId"], payload["toolName"], payload.get("args"))
        self.step.open(ToolPart(invocation, provider_executed=bool(payload.get("providerExecuted"))))
        self.step.tool_calls.append(said)

    def _tool_result(self, said: Chunk) -> None:
        payload = said.payload
        call = self._settle(said)
        if said.type == "tool-result":
            self.step.tool_results.append(said)
        if call is None:
            return
        if said.type == "tool-result":
            call.state, call.result = "result", payload.get("result")
        elif said.type == "tool-error":
            call.state, call.error_text = "output-error", (payload.get("error") or {}).get("message") or ""
        else:
            call.state = "output-denied"
            told = payload.get("approval") or {}
            call.approval = Approval(call.tool_call_id, False, told.get("reason"))

    def _task_ended(self, said: Chunk) -> None:
        """The placeholder of a deferred call gives way to its result."""
        payload = said.payload
        call = self._call(payload.get("toolCallId", ""))
        if call is None:
            return
        if said.type == "background-task-completed":
            call.state, call.result = "result", payload.get("result")
        else:
            error = payload.get("error") or {"message": "the background task was cancelled"}
            call.state, call.error_text = "output-error", error.get("message") or ""

    def _settle(self, said: Chunk) -> ToolInvocation | None:
        tool_call_id = said.payload.get("toolCallId", "")
        for place in [place for place in self.open_questions if call_of(place) == tool_call_id]:
            del self.open_questions[place]
        return self._call(tool_call_id)

    def _call(self, tool_call_id: str) -> ToolInvocation | None:
        return next((call for step in reversed(self.steps) if (call := step.call_of(tool_call_id))), None)

    def _question(self, said: Chunk) -> None:
        self.open_questions[said.payload["toolCallId"]] = said

    def _object(self, said: Chunk) -> None:
        self.partial_object = _object_of(said)

    def _object_result(self, said: Chunk) -> None:
        self.object = self.partial_object = _object_of(said)
        self.used_fallback = bool((said.get("metadata") or {}).get("fallback"))

    def _step_finish(self, said: Chunk) -> None:
        payload = said.payload
        result = payload.get("stepResult") or {}
        self.step.finish_reason = result.get("reason")
        self.step.usage = _usage((payload.get("output") or {}).get("usage"))
        self.step.cost = (payload.get("metadata") or {}).get("cost")
        self.step.warnings = list(result.get("warnings") or [])

    def _finish(self, said: Chunk) -> None:
        payload = said.payload
        self.finish_reason = (payload.get("stepResult") or {}).get("reason")
        output = payload.get("output") or {}
        self.usage = _usage(output.get("usage"))
        self.cost = (payload.get("metadata") or {}).get("cost")
        self.ended = not payload.get("backgroundTaskPending")

    def _network_settled(self, _: Chunk) -> None:
        self.open_questions.clear()

    def _network_finish(self, said: Chunk) -> None:
        payload = said.payload
        self.finish_reason = "error" if self.error else "stop" if payload.get("isComplete") else "max-steps"
        self.usage = _usage(payload.get("usage"))
        self.object = payload.get("object", self.object)
        result = payload.get("result")
        self._answer = result if isinstance(result, str) else encode(result).decode()
        self.ended = True

    def _suspended(self, said: Chunk) -> None:
        self.finish_reason = "suspended"
        asked = said.payload.get("questions")
        if asked is not None:
            self.open_questions = {item["toolCallId"]: Chunk({**said, "payload": item}) for item in asked}

    def _error(self, said: Chunk) -> None:
        self.error = said.payload.get("error")

    def _tripwire(self, said: Chunk) -> None:
        self.tripwire = said.payload

    def _warning(self, said: Chunk) -> None:
        self.warnings.append(said.payload)

    def _score(self, said: Chunk) -> None:
        self.scores.append(said.payload)

    def _abort(self, _: Chunk) -> None:
        self.finish_reason = "abort"

    def _rollback(self, said: Chunk) -> None:
        """Takes back what a step had said. Steps of tools run beside each other, so they are known by their calls."""
        step_id: str = said.payload.get("stepId") or ""
        kind, _, rest = step_id.partition(":")
        self.error = self.finish_reason = None
        self.ended = False
        if kind == "tool":
            call_id = rest.split("/", 1)[0].rsplit("@", 1)[0]
            if (call := self._call(call_id)) is not None:
                call.state, call.result, call.error_text = "call", None, None
            for step in self.steps:
                step.tool_results = [item for item in step.tool_results if item.payload.get("toolCallId") != call_id]
        elif kind == "finish":
            self.scores.clear()
        elif kind == "llm":
            number = _number(step_id, -1)
            self.steps = [step for step in self.steps if step.number != number]
            self.object = self.partial_object = None


def _object_of(said: Chunk) -> Json:
    return said["object"] if "object" in said else said.payload.get("object")


def _usage(plain: Json) -> Usage:
    return msgspec.convert(plain or {}, Usage)


def _number(step_id: Json, otherwise: int) -> int:
    tail = step_id.partition(":")[2] if isinstance(step_id, str) else ""
    return int(tail) if tail.isdigit() else otherwise


_HANDLERS: Final = {
    "step-start": "_step_start",
    "response-metadata": "_metadata",
    "text-start": "_text_start",
    "text-delta": "_text",
    "reasoning-start": "_reasoning_start",
    "reasoning-delta": "_reasoning",
    "source": "_source",
    "file": "_file",
    "tool-call": "_tool_call",
    "tool-result": "_tool_result",
    "tool-error": "_tool_result",
    "background-task-completed": "_task_ended",
    "background-task-failed": "_task_ended",
    "background-task-cancelled": "_task_ended",
    "tool-output-denied": "_tool_result",
    "tool-call-approval": "_question",
    "tool-call-suspended": "_question",
    "tool-execution-approval": "_question",
    "tool-execution-suspended": "_question",
    "agent-execution-approval": "_question",
    "agent-execution-suspended": "_question",
    "workflow-execution-suspended": "_question",
    "network-validation-start": "_network_settled",
    "network-object": "_object",
    "network-object-result": "_object_result",
    "network-execution-event-finish": "_network_finish",
    "object": "_object",
    "object-result": "_object_result",
    "step-finish": "_step_finish",
    "finish": "_finish",
    "suspended": "_suspended",
    "error": "_error",
    "tripwire": "_tripwire",
    "warning": "_warning",
    "score": "_score",
    "abort": "_abort",
    "step-rollback": "_rollback",
}
"""The method of `Fold` for each kind of chunk."""
