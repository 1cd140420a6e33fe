"""The result of `generate`, and of a step, in the shape that clients of the agents protocol read."""

from __future__ import annotations

from typing import Final

from perdure.agents.chunks import AGENT
from perdure.agents.fold import StepFold
from perdure.agents.messages import FilePart, Part, ReasoningPart, SourcePart
from perdure.model.json import Json
from perdure.server.agents.shapes import content_of, shown, stored, stored_message, told_to_models
from perdure.server.agents.transcript import Transcript

REASONS: Final = {"max-steps": "tool-calls", "tripwire": "other"}
"""Reasons for an end that the protocol tells by another name."""
_DYNAMIC: Final = ("staticToolCalls", "dynamicToolCalls", "staticToolResults", "dynamicToolResults")


def run_result(told: Transcript, remembered: list[Json]) -> dict[str, Json]:
    """What a run came to. `remembered` are the messages of the thread that it began with."""
    fold, steps = told.fold, told.steps
    suspended = fold.finish_reason == "suspended"
    parts = [part for step in fold.steps for part in step.parts]
    messages = told.messages()
    reason = fold.finish_reason or "other"
    reasoning = [told_part for part in parts if (told_part := _reasoning(told.run_id, part)) is not None]
    result: dict[str, Json] = {
        "text": "" if suspended or fold.tripwire is not None else fold.text,
        "usage": told.usage(),
        "steps": [step_result(told, step, place) for place, step in enumerate(steps)],
        "finishReason": REASONS.get(reason, reason),
        "warnings": fold.warnings,
        "request": {},
        "reasoning": reasoning,
        "toolCalls": [call for step in fold.steps for call in step.tool_calls],
        "toolResults": [found for step in steps for found in step.tool_results],
        "sources": _beside(told.run_id, parts, SourcePart),
        "files": _beside(told.run_id, parts, FilePart),
        "response": {"dbMessages": [] if told.thread_id else list(map(stored, messages))}
        if suspended
        else response(told, steps[-1:]),
        "totalUsage": told.usage() or {"totalTokens": 0},
        "usedFallbackValue": fold.used_fallback,
        "runId": told.run_id,
        "messages": [*remembered, *map(stored_message, told.given), *map(stored, messages)],
        "rememberedMessages": remembered,
    }
    if reasoning:
        result["reasoningText"] = "".join(item["payload"]["text"] for item in reasoning)
    if fold.object is not None:
        result["object"] = fold.object
    if fold.tripwire is not None:
        result["tripwire"] = fold.tripwire
    return {**result, **_question(told)} if suspended else result


def _question(told: Transcript) -> dict[str, Json]:
    """The first open question."""
    questions = told.questions()
    if not questions:
        return {}
    payload = questions[0].payload
    schema = payload.get("resumeSchema")
    return {"suspendPayload": payload} if schema is None else {"suspendPayload": payload, "resumeSchema": schema}


def response(told: Transcript, last: list[StepFold]) -> dict[str, Json]:
    """The response with everything that the run has said, up to and with the last step."""
    until = last[0] if last else None
    messages = told.messages(until)
    found: dict[str, Json] = told.call(until).response() if until is not None else {}
    found["messages"] = told_to_models(told.dated(until))
    found["uiMessages"] = list(map(shown, messages))
    found["dbMessages"] = list(map(stored, messages))
    return found


def step_result(told: Transcript, step: StepFold, place: int) -> dict[str, Json]:
    """What a step came to; `place` counts from 0."""
    call, parts = told.call(step), step.message(told.run_id).parts
    return {
        "stepType": "tool-result" if place else "initial",
        "sources": _beside(told.run_id, parts, SourcePart),
        "files": _beside(told.run_id, parts, FilePart),
        "toolCalls": list(step.tool_calls),
        "toolResults": list(step.tool_results),
        "content": content_of(call.at, parts),
        "text": step.text,
        "reasoningText": step.reasoning_text,
        "reasoning": [found for part in parts if (found := _reasoning(told.run_id, part)) is not None],
        **{name: [] for name in _DYNAMIC},
        "finishReason": step.finish_reason,
        "usage": call.usage,
        "warnings": step.warnings,
        "request": {},
        "response": response(told, [step]),
    }


def short_step(told: Transcript, step: StepFold, *, last: bool) -> dict[str, Json]:
    """A step as the ends of steps in a stream tell it; the `last` one is told as its model left it."""
    call, parts = told.call(step), step.message(told.run_id).parts
    found: dict[str, Json] = {"content": content_of(call.at, parts, is_open=last and not told.answered(step))}
    if step.finish_reason == "error":
        found["finishReason"] = "error"
    said = {"messages": told_to_models(told.dated(step), last_open=bool(parts))}
    answered = {"id": call.id, "timestamp": call.response()["timestamp"], "modelId": call.model, "headers": {}}
    return {**found, "usage": call.usage, "warnings": step.warnings, "response": {**answered, **said}}


def durable_step(step: StepFold) -> dict[str, Json]:
    """What the ends of steps of durable runs tell of a step beside."""
    calls = [_plain(call) for call in step.tool_calls]
    results = [_plain(found) for found in step.tool_results]
    return {"text": step.text, "toolCalls": calls, "toolResults": results, "finishReason": step.finish_reason}


def durable_content(step: StepFold) -> list[Json]:
    """What a step of a durable run has said, in short: its text, its calls, their results."""
    text: list[Json] = [{"type": "text", "text": step.text}] if step.text else []
    said = [*step.tool_calls, *step.tool_results]
    return text + [{"type": each["type"], **_plain(each)} for each in said]


def _plain(said: dict[str, Json]) -> dict[str, Json]:
    """A call or its result without its envelope."""
    payload: dict[str, Json] = said["payload"]
    return {key: payload[key] for key in ("toolCallId", "toolName", "args", "result") if key in payload}


def _beside(run_id: str, parts: list[Part], kind: type[SourcePart | FilePart]) -> list[Json]:
    """Sources or files as the chunks that told of them."""
    found: list[Json] = []
    for part in parts:
        if not isinstance(part, kind):
            continue
        if isinstance(part, SourcePart):
            found.append({"type": "source", "runId": run_id, "from": AGENT, "payload": part.source})
        else:
            payload = {"data": part.data, "base64": part.data, "mimeType": part.mime_type}
            found.append({"type": "file", "runId": run_id, "from": AGENT, "payload": payload})
    return found


def _reasoning(run_id: str, part: Part) -> dict[str, Json] | None:
    if not isinstance(part, ReasoningPart):
        return None
    return {"type": "reasoning", "runId": run_id, "from": AGENT, "payload": {"id": "reasoning-0", "text": part.text}}
