"""`AgentResult`: what a run has come to, as `generate` gives it."""

from __future__ import annotations

import msgspec

from perdure.client.agents.chunks import ToolCall, ToolResult
from perdure.client.errors import ApiError
from perdure.model.json import Json


class AgentResult(msgspec.Struct, rename="camel"):
    """What a run has come to. `finish_reason` is `suspended` where somebody is asked; `raw` is all that was told."""

    text: str = ""
    finish_reason: str = "other"
    run_id: str | None = None
    object: Json = None
    usage: dict[str, Json] = {}
    reasoning_text: str | None = None
    suspend_payload: dict[str, Json] | None = None
    tripwire: dict[str, Json] | None = None
    steps: list[dict[str, Json]] = []
    messages: list[dict[str, Json]] = []
    raw: dict[str, Json] = {}

    @property
    def is_suspended(self) -> bool:
        """Whether the run waits for somebody: `suspend_payload` says for what."""
        return self.finish_reason == "suspended"

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls of tools, of all steps."""
        return [ToolCall(each) for each in self.raw.get("toolCalls") or []]

    @property
    def tool_results(self) -> list[ToolResult]:
        """What tools have returned."""
        return [ToolResult(each) for each in self.raw.get("toolResults") or []]


def read_result(raw: Json) -> AgentResult:
    """A result as a server tells it. Raises `ApiError` for what is none."""
    if not isinstance(raw, dict):
        raise ApiError(200, "the answer is not the result of a run; is this a perdure server?")
    try:
        return msgspec.convert({**raw, "raw": raw}, AgentResult)
    except msgspec.ValidationError as error:
        raise ApiError(200, f"the answer has an unknown shape ({error}); is this a perdure server?") from error
