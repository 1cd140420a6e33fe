"""The whole way of a model over HTTP: pydantic-ai's OpenAI models and the stub server, in both protocols of OpenAI."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from perdure.agents.chunks import Chunk
from perdure.agents.messages import Message, Part, ReasoningPart, TextPart, ToolPart
from perdure.agents.models import (
    Answer,
    Call,
    ModelRejectedError,
    Models,
    ModelUnavailableError,
    OutputSpec,
    Prompt,
    ToolSpec,
    resolve,
)
from perdure.testing import OpenAIStub
from perdure.testing.models import ScriptedModel
from perdure.testing.script import Break, Fail, Reasoning, Source, Spent, Text, ToolCall, Turn

PROTOCOLS = ["openai/gpt-test", "openai-chat/gpt-test"]
ADD = ToolSpec("add", "adds", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})


@pytest.fixture
async def stub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIStub]:
    async with OpenAIStub() as started:
        monkeypatch.setenv("OPENAI_BASE_URL", started.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        yield started


@pytest.fixture(params=PROTOCOLS)
async def models(request: pytest.FixtureRequest, stub: OpenAIStub) -> AsyncIterator[Models]:
    made = resolve(request.param)
    yield made
    await made.close()


def conversation(*messages: Message) -> Prompt:
    return Prompt(["be brief"], list(messages), [ADD])


def user(text: str) -> Message:
    return Message("u", "user", [TextPart(text)], 0)


async def ask(models: Models, prompt: Prompt, said: list[Chunk] | None = None, attempt: int = 0) -> Answer:
    return await models.ask(prompt, Call("run-1", (said if said is not None else []).append, attempt=attempt))


def without_metadata(parts: list[Part]) -> list[Part]:
    for part in parts:
        if isinstance(part, TextPart | ReasoningPart | ToolPart):
            part.provider_metadata = None
    return parts


@pytest.mark.parametrize(
    "text",
    [
        "Hello there",
        '!saytool add {"a": 1}',
        '!tools add {"a": 1} | add {"a": 2}',
        "!reason why",
        "!source",
        "!length",
        '!json {"name": "Ada"}',
    ],
)
async def test_an_answer_over_http_is_that_of_the_scripted_model(models: Models, text: str) -> None:
    over_http: list[Chunk] = []
    in_process: list[Chunk] = []
    answer = await ask(models, conversation(user(text)), over_http)
    expected = await ask(resolve(ScriptedModel()), conversation(user(text)), in_process)
    assert without_metadata(answer.parts) == expected.parts
    assert (answer.finish_reason, answer.usage) == (expected.finish_reason, expected.usage)

    def told(chunks: list[Chunk]) -> list[tuple[str, object]]:
        # How texts and arguments are cut is the library's; here all cuts are the script's.
        return [(one.type, {k: v for k, v in one.payload.items() if k != "providerMetadata"}) for one in chunks[1:]]

    assert told(over_http) == told(in_process)
    assert over_http[0].type == "response-metadata" and over_http[0].payload["modelId"] == "gpt-test"


async def test_a_tool_and_its_result_go_there_and_back(models: Models, stub: OpenAIStub) -> None:
    first = await ask(models, conversation(user('!saytool add {"a": 1}')))
    assert first.finish_reason == "tool-calls"
    call = first.tool_calls[0].tool_invocation
    call.state, call.result = "result", {"sum": 3}
    said = Message("a", "assistant", first.parts, 0)
    second = await ask(models, conversation(user('!saytool add {"a": 1}'), said))
    assert second.text == 'Tool said: [{"type":"json","value":{"sum":3}}]'
    assert len(stub.requests) == 2
    assert all(headers["Authorization"] == "Bearer test-key" for headers in stub.headers)


async def test_settings_are_sent(models: Models, stub: OpenAIStub) -> None:
    prompt = conversation(user("hi"))
    prompt.settings = {"temperature": 0.5, "maxOutputTokens": 99}
    prompt.headers = {"x-tenant": "acme"}
    prompt.tool_choice = "required"
    await ask(models, prompt)
    sent = stub.requests[0]
    assert sent["temperature"] == 0.5 and 99 in (sent.get("max_output_tokens"), sent.get("max_completion_tokens"))
    assert sent["tool_choice"] == "required" and sent["stream"] is True
    assert stub.headers[0]["x-tenant"] == "acme"


async def test_an_object_is_asked_for_by_its_schema(models: Models, stub: OpenAIStub) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    prompt = conversation(user('!json {"name":"Ada"}'))
    prompt.output = OutputSpec(schema, mode="native")
    assert (await ask(models, prompt)).text == '{"name":"Ada"}'
    sent = stub.requests[0]
    wanted = sent["text"]["format"] if "text" in sent else sent["response_format"]["json_schema"]
    assert "name" in wanted["schema"]["properties"]


@pytest.mark.parametrize(
    ("fail", "code"),
    [(Fail("busy", 503), "unavailable"), (Fail("slow down", 429, retry_after=3), "rate_limited")],
)
async def test_what_may_pass_is_retried_by_attempts_not_by_the_library(
    monkeypatch: pytest.MonkeyPatch, fail: Fail, code: str
) -> None:
    async with OpenAIStub([fail, "at last"]) as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
        models = resolve("openai-chat/gpt-test")
        with pytest.raises(ModelUnavailableError) as caught:
            await ask(models, conversation(user("hi")))
        assert stub.calls == 1
        assert (caught.value.code, caught.value.status) == (code, fail.status)
        assert fail.message in str(caught.value)
        if fail.retry_after:
            assert caught.value.retry_after == fail.retry_after
        assert (await ask(models, conversation(user("hi")), attempt=1)).text == "at last"
        await models.close()


async def test_a_refusal_is_final(models: Models) -> None:
    with pytest.raises(ModelRejectedError) as caught:
        await ask(models, conversation(user("!error no sk-abcdefghijklmnopqrst")))
    assert caught.value.status == 400
    assert "sk-abc" not in str(caught.value)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("end", [Break(), Fail("broke", 500)])
async def test_a_stream_that_breaks_may_be_tried_again(monkeypatch: pytest.MonkeyPatch, name: str, end: Turn) -> None:
    async with OpenAIStub([["partial text", end], "whole"]) as stub:  # type: ignore[list-item]
        monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
        models = resolve(name)
        said: list[Chunk] = []
        with pytest.raises(ModelUnavailableError):
            await ask(models, conversation(user("hi")), said)
        assert "".join(one.payload["text"] for one in said if one.type == "text-delta") == "partial text"
        assert (await ask(models, conversation(user("hi")), attempt=1)).text == "whole"
        await models.close()


@pytest.mark.parametrize("name", PROTOCOLS)
async def test_a_call_that_is_cancelled_ends_the_request(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with OpenAIStub([Text("a b c d e f g h", pause=200), "next"]) as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
        models = resolve(name)
        heard = asyncio.Event()
        asking = asyncio.create_task(
            models.ask(
                conversation(user("hi")), Call("run-1", lambda chunk: heard.set() if "text" in chunk.type else None)
            )
        )
        await asyncio.wait_for(heard.wait(), 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await ask(models, conversation(user("hi")))).text == "next"
        await models.close()


@pytest.mark.parametrize("name", PROTOCOLS)
async def test_usage_reasoning_and_sources_arrive(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    turn: list[Turn] = [
        [
            Reasoning("hm"),
            "So.",
            Source("https://example.com/b", "B"),
            ToolCall("add", {"a": 1}, "x9"),
            Spent(7, 6, 2, 3),
        ]
    ]
    async with OpenAIStub(turn) as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
        models = resolve(name)
        answer = await ask(models, conversation(user("hi")))
        assert answer.usage.as_json() == {
            "inputTokens": 7,
            "outputTokens": 6,
            "totalTokens": 13,
            "reasoningTokens": 2,
            "cachedInputTokens": 3,
        }
        assert answer.reasoning_text == "hm"
        assert [type(part).__name__ for part in answer.parts] in (
            ["ReasoningPart", "TextPart", "SourcePart", "ToolPart"],
            ["ReasoningPart", "TextPart", "ToolPart", "SourcePart"],
        )
        assert answer.tool_calls[0].tool_invocation.tool_call_id == "x9"
        await models.close()


async def test_a_price_that_is_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OpenAIStub([["Hi", Spent(1_000_000, 0)]]) as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
        models = resolve("openai-chat/gpt-4o")
        answer = await ask(models, conversation(user("hi")))
        assert answer.cost is not None and 1 < answer.cost < 10
        await models.close()


async def test_a_model_with_an_address_of_its_own(stub: OpenAIStub) -> None:
    models = resolve({"id": "acme/gpt", "url": stub.base_url, "apiKey": "mine", "headers": {"x-a": "b"}})
    assert (await ask(models, conversation(user("hi")))).text == "Echo: hi"
    assert stub.headers[0]["Authorization"] == "Bearer mine" and stub.headers[0]["x-a"] == "b"
    assert stub.paths == ["/v1/chat/completions"]
    await models.close()


async def test_a_model_that_was_closed_can_be_asked_again(models: Models) -> None:
    for _ in range(2):
        assert (await ask(models, conversation(user("hi")))).text == "Echo: hi"
        await models.close()


def test_a_model_is_asked_from_one_event_loop_after_the_other(perdure_openai_stub: OpenAIStub) -> None:
    models = resolve("openai/gpt-test")

    async def once() -> str:
        answer = await ask(models, conversation(user("hi")))
        await models.close()
        return answer.text

    assert [asyncio.run(once()) for _ in range(2)] == ["Echo: hi", "Echo: hi"]
    assert perdure_openai_stub.calls == 2


async def test_the_stub_runs_as_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "perdure.testing.openai_stub", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            monkeypatch.setenv("OPENAI_BASE_URL", (await asyncio.to_thread(process.stdout.readline)).strip())
            models = resolve("openai/gpt-test")
            assert (await ask(models, conversation(user("hi")))).text == "Echo: hi"
            await models.close()
        finally:
            process.terminate()
