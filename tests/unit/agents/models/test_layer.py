"""Models of pydantic-ai, in this process: what they say becomes the same chunks and parts as over a wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelOverloadedError,
    ModelRateLimitError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from perdure.agents.chunks import Chunk
from perdure.agents.messages import Message, TextPart, ToolPart
from perdure.agents.models import Answer, Call, ModelRejectedError, ModelUnavailableError, OutputSpec, Prompt, resolve
from perdure.agents.models.asking import classify
from perdure.agents.models.call import ToolSpec

ADD = ToolSpec("add", "adds", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def prompt(**more: object) -> Prompt:
    return Prompt(["be brief"], [Message("m1", "user", [TextPart("go")], 0)], [ADD], **more)  # type: ignore[arg-type]


async def ask(model: object, asked: Prompt, said: list[Chunk] | None = None) -> Answer:
    return await resolve(model).ask(asked, Call("run-1", (said if said is not None else []).append, used_ids=("c1",)))


async def everything(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaThinkingPart] | dict[int, DeltaToolCall]]:
    yield {0: DeltaThinkingPart(content="let me think")}
    yield "I "
    yield "add"
    yield {2: DeltaToolCall(name="add", json_args='{"a":', tool_call_id="c1")}
    yield {2: DeltaToolCall(json_args=" 1}")}
    yield {3: DeltaToolCall(name="add", json_args="{oops", tool_call_id="c2")}


async def test_what_a_model_streams_becomes_chunks_and_parts() -> None:
    said: list[Chunk] = []
    answer = await ask(FunctionModel(stream_function=everything), prompt(), said)
    assert [(one.type, one.payload.get("text") or one.payload.get("argsTextDelta")) for one in said] == [
        ("response-metadata", None),
        ("reasoning-start", None),
        ("reasoning-delta", "let me think"),
        ("reasoning-end", None),
        ("text-start", None),
        ("text-delta", "I "),
        ("text-delta", "add"),
        ("text-end", None),
        ("tool-call-input-streaming-start", None),
        ("tool-call-delta", '{"a":'),
        ("tool-call-delta", " 1}"),
        ("tool-call-input-streaming-end", None),
        ("tool-call", None),
        ("tool-call-input-streaming-start", None),
        ("tool-call-delta", "{oops"),
        ("tool-call-input-streaming-end", None),
        ("tool-call", None),
    ]
    assert (answer.finish_reason, answer.text, answer.reasoning_text) == ("tool-calls", "I add", "let me think")
    calls = [(part.tool_invocation.tool_call_id, part.tool_invocation.args) for part in answer.tool_calls]
    # The run has had a call with the id c1.
    assert calls == [("c1~2", {"a": 1}), ("c2", "{oops")]
    assert answer.model == "function::everything" and answer.provider == "function"


async def test_a_model_object_may_be_given_as_it_is() -> None:
    answer = await ask(TestModel(call_tools=[], custom_output_text="fine"), prompt())
    assert (answer.text, answer.finish_reason) == ("fine", "stop")
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize("mode", ["auto", "prompted", "tool"])
async def test_an_object_arrives_as_text_in_every_mode(mode: str) -> None:
    told: list[str] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        told.append(info.instructions or "")
        if info.output_tools:
            yield {0: DeltaToolCall(name=info.output_tools[0].name, json_args='{"name":', tool_call_id="o1")}
            yield {0: DeltaToolCall(json_args='"Ada"}')}
        else:
            yield '{"name":'
            yield '"Ada"}'

    said: list[Chunk] = []
    output = OutputSpec(NAME, mode=mode)  # type: ignore[arg-type]
    answer = await ask(FunctionModel(stream_function=stream), prompt(output=output), said)
    assert (answer.text, answer.finish_reason) == ('{"name":"Ada"}', "stop")
    assert not any(isinstance(part, ToolPart) for part in answer.parts)
    assert [one.payload["text"] for one in said if one.type == "text-delta"] == ['{"name":', '"Ada"}']
    if mode == "prompted":
        assert '"name"' in told[0]


async def test_settings_and_the_choice_of_a_tool_reach_the_model() -> None:
    seen: list[AgentInfo] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.append(info)
        yield "ok"

    model = FunctionModel(stream_function=stream)
    answer = await ask(
        model,
        prompt(
            settings={"maxOutputTokens": 9, "temperature": 0.5, "maxRetries": 1, "mood": "good"},
            tool_choice={"type": "tool", "toolName": "add"},
            provider_options={"function": {"reasoningEffort": "low"}, "openai": {"user": "x"}},
            headers={"x-a": "b"},
        ),
    )
    settings = dict(seen[0].model_settings or {})
    assert settings == {
        "max_retries": 0,
        "max_tokens": 9,
        "temperature": 0.5,
        "function_reasoning_effort": "low",
        "tool_choice": ["add"],
        "extra_headers": {"x-a": "b"},
    }
    assert answer.warnings == [{"type": "unsupported-setting", "setting": "mood"}]
    await ask(model, prompt(tool_choice="none"))
    assert seen[1].function_tools == [] and [tool.name for tool in seen[0].function_tools] == ["add"]


async def test_raw_chunks_come_when_they_are_asked_for() -> None:
    said: list[Chunk] = []
    await ask(TestModel(call_tools=[], custom_output_text="fine"), prompt(include_raw_chunks=True), said)
    assert said[0].type == "response-metadata"
    assert any(one.type == "raw" and one.payload["event_kind"] == "part_start" for one in said)


async def test_a_reader_far_behind_holds_the_model_back() -> None:
    waits = 0

    async def drained() -> None:
        nonlocal waits
        waits += 1
        await asyncio.sleep(0)

    await resolve(TestModel(call_tools=[])).ask(prompt(), Call("run-1", lambda chunk: None, drained))
    assert waits > 2


@pytest.mark.parametrize(
    ("error", "code", "retried", "after"),
    [
        (
            ModelHTTPError.for_category(ModelRateLimitError, status_code=429, model_name="m", retry_after=7),
            "rate_limited",
            True,
            7,
        ),
        (ModelHTTPError.for_category(ModelOverloadedError, status_code=529, model_name="m"), "overloaded", True, 0),
        (ModelHTTPError(500, "m"), "error", True, 0),
        (ModelHTTPError(418, "m"), "rejected", False, None),
        (
            ModelHTTPError.for_category(ModelAuthenticationError, status_code=401, model_name="m"),
            "authentication",
            False,
            None,
        ),
        (ModelContextWindowExceededError("m", "too long"), "context_window_exceeded", False, None),
        (ModelAPIError("m", "odd"), "error", True, 0),
        (UnexpectedModelBehavior("no JSON"), "error", True, 0),
    ],
)
def test_failures_are_classified(error: Exception, code: str, retried: bool, after: float | None) -> None:
    found = classify(error, "p/m")
    assert found.code == code and found.model == "p/m"
    assert isinstance(found, ModelUnavailableError if retried else ModelRejectedError)
    if isinstance(found, ModelUnavailableError):
        assert found.retry_after == after


def test_an_error_tells_the_providers_words_and_no_secret() -> None:
    body = {"error": {"message": "Incorrect API key provided: sk-abcdefghijklmnop. See https://x"}}
    text = str(classify(ModelHTTPError(401, "m", body), "openai/m"))
    assert text == "openai/m answered 401: Incorrect API key provided: [redacted]. See https://x"
