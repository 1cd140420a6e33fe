"""What a unit says while it executes: a model's events and a tool's outcome, as chunks of the agents protocol."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from contextvars import ContextVar
from datetime import datetime

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import AgentStreamEvent, PartDeltaEvent, PartEndEvent, PartStartEvent

from perdure.agents import said
from perdure.agents.messages import Part, ReasoningPart, TextPart, ToolInvocation, ToolPart, Usage
from perdure.agents.models.call import Answer, Call
from perdure.agents.models.events import OUTPUT_TOOL, Events
from perdure.agents.models.speaking import Speaker, parsed
from perdure.agents.pydantic_ai.driving import Driving, Recorder
from perdure.model.json import Json

speaking: ContextVar[tuple[Recorder, Events] | None] = ContextVar("perdure_pydantic_ai_speaking", default=None)
"""Where the events of the model call that executes go."""


def listen(recorder: Recorder, model: str, provider: str) -> tuple[Recorder, Events]:
    """What `speaking` is set to for a model call."""
    speaker = Speaker(Call(recorder.run_id, recorder.push, now=recorder.now), model=model, provider=provider)
    return recorder, Events(speaker)


async def tell(events: AsyncIterable[AgentStreamEvent]) -> None:
    """Says the events of a model call as they come."""
    found = speaking.get()
    async for event in events:
        if found is not None and isinstance(event, PartStartEvent | PartDeltaEvent | PartEndEvent):
            recorder, taker = found
            taker.take(event)
            await recorder.drained()


def tell_outcome(driving: Driving, call: dict[str, Json], payload: Json, unwrap: Callable[[Json], object]) -> None:
    """Says what came of a tool call. One that needs approval or an answer from elsewhere has come to nothing yet."""
    recorder = driving.recorder
    try:
        unwrap(payload)
    except (ApprovalRequired, CallDeferred):
        return
    except Exception as error:
        # What the model is to be told of: a wish to be called again, a failure.
        recorder.push(said.tool_error(recorder.run_id, call, said.told_error(error)))
        return
    result = payload.get("result") if isinstance(payload, dict) else payload
    if isinstance(result, dict) and result.get("kind") == "tool-return":
        result = result.get("return_value")
    recorder.push(said.tool_result(recorder.run_id, call, result))


def answer_of(payload: Json) -> Answer:
    """A recorded response of a model, for what is said of it later. Not for being told to a model again."""
    parts = [part for one in payload.get("parts", []) if (part := _part(one)) is not None]
    used = payload.get("usage") or {}
    tokens = Usage(
        used.get("input_tokens", 0),
        used.get("output_tokens", 0),
        used.get("input_tokens", 0) + used.get("output_tokens", 0),
        used.get("output_reasoning_tokens", 0),
        used.get("cache_read_tokens", 0),
    )
    calls = any(isinstance(part, ToolPart) for part in parts)
    reason = {"tool_call": "tool-calls", "content_filter": "content-filter"}.get(
        payload.get("finish_reason"), payload.get("finish_reason") or "stop"
    )
    cost = used.get("cost")
    return Answer(
        parts=parts,
        finish_reason="tool-calls" if calls and reason == "stop" else reason,
        usage=tokens,
        model=payload.get("model_name") or "",
        provider=payload.get("provider_name") or "",
        response_id=payload.get("provider_response_id"),
        timestamp=_millis(payload.get("timestamp")),
        cost=None if cost is None else float(cost),
    )


def _part(one: dict[str, Json]) -> Part | None:
    kind = one.get("part_kind")
    if kind == "text":
        return TextPart(one["content"])
    if kind == "thinking":
        return ReasoningPart(one["content"])
    if kind == "tool-call" and one["tool_name"].startswith(OUTPUT_TOOL):
        return TextPart(one["args"] if isinstance(one["args"], str) else "")
    if kind == "tool-call":
        return ToolPart(ToolInvocation("call", one["tool_call_id"], one["tool_name"], parsed(one.get("args"))))
    return None


def _millis(text: Json) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000) if isinstance(text, str) else 0
