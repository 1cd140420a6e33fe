"""`step.ai.infer`: the request that is made, what is recorded, and how it fails."""

from __future__ import annotations

from typing import Any

import pytest
from inngest.experimental.ai import anthropic, gemini, openai

from perdure import AiModel, App, Context, StepError, step
from perdure.model.json import Json, decode, encode
from perdure.sdk.arguments import StepArgumentError
from perdure.sdk.inference import Adapter
from perdure.sdk.port import FetchResponse
from perdure.sync import step as blocking_step
from tests.unit.sdk.scripted import ScriptedHost, execution, play

KEY = "sk-very-secret"
OPENAI = AiModel.openai("gpt-x", api_key=KEY, base_url="https://api.test/v1/")
BODY = {"messages": [{"role": "user", "content": "hi"}]}


def said(status: int, body: str, **headers: str) -> FetchResponse:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return FetchResponse("https://api.test/v1/chat/completions", status, found, body)


def answers(*responses: FetchResponse | OSError, retries: int = 4) -> ScriptedHost:
    host = ScriptedHost(retries=retries)
    host.responses = list(responses)
    return host


def asking(adapter: Adapter, **options: Any) -> Any:
    @App("shop").function("f")
    async def f(ctx: Context) -> Json:
        return await step.ai.infer("ask", adapter=adapter, body=BODY, **options)

    return f


async def test_a_model_is_asked_once_and_its_answer_is_json() -> None:
    host = answers(said(200, '{"choices":[1]}'))
    assert await play(asking(OPENAI, timeout="5s"), host) == {"choices": [1]}
    (request,) = host.requests
    assert (request.method, request.url) == ("POST", "https://api.test/v1/chat/completions")
    assert request.headers == {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    assert decode(request.body or b"") == {**BODY, "model": "gpt-x"}
    assert (request.timeout, request.redirects) == (5.0, False)


async def test_what_was_asked_is_recorded_and_the_key_is_not() -> None:
    host = answers(said(200, "{}"))
    await play(asking(OPENAI), host)
    assert host.ops[0].opts == {"type": "step.ai.infer", "input": [{**BODY, "model": "gpt-x"}]}
    assert KEY not in repr(host.ops)
    assert BODY == {"messages": [{"role": "user", "content": "hi"}]}, "the handler's body stays as it is"


@pytest.mark.parametrize(
    ("adapter", "url", "headers", "model"),
    [
        (
            AiModel.openai("m", api_key=KEY),
            "https://api.openai.com/v1/chat/completions",
            {"Authorization": f"Bearer {KEY}"},
            "m",
        ),
        (
            AiModel.anthropic("m", api_key=KEY),
            "https://api.anthropic.com/v1/messages",
            {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
            "m",
        ),
        (
            AiModel.gemini("g/2", api_key=KEY),
            "https://generativelanguage.googleapis.com/v1beta/models/g/2:generateContent",
            {"x-goog-api-key": KEY},
            None,
        ),
        (AiModel("m", url="http://localhost:1/chat", headers={"a": "b"}), "http://localhost:1/chat", {"a": "b"}, "m"),
    ],
)
async def test_models_of_providers(adapter: AiModel, url: str, headers: dict[str, str], model: str | None) -> None:
    host = answers(said(200, "{}"))
    await play(asking(adapter), host)
    request = host.requests[0]
    assert request.url == url
    assert request.headers == {"Content-Type": "application/json", **headers}
    assert decode(request.body or b"").get("model") == model
    assert KEY not in repr(adapter)


async def test_the_adapters_of_the_inngest_package_fit() -> None:
    adapters: list[Adapter] = [
        openai.Adapter(auth_key=KEY, model="m"),
        anthropic.Adapter(auth_key=KEY, model="m"),
        gemini.Adapter(auth_key=KEY, model="m"),
    ]
    for adapter in adapters:
        host = answers(said(200, "{}"))
        assert await play(asking(adapter), host) == {}
        request = host.requests[0]
        assert (request.url + repr(request.headers)).count(KEY) == 1


async def test_a_refusal_is_retried_when_the_provider_says() -> None:
    host = answers(said(429, "slow down", Retry_After="7"), said(503, ""), OSError("no route"), said(200, "1"))
    assert await play(asking(OPENAI), host) == 1
    assert [(op.op, op.retry_after) for op in host.ops] == [
        ("StepError", 7000),
        ("StepError", None),
        ("StepError", None),
        ("StepRun", None),
    ]
    errors = [op.error for op in host.ops[:3] if op.error is not None]
    assert {error.name for error in errors} == {"AIGatewayError"}
    assert [error.message for error in errors] == [
        "Error making AI request: api.test answered 429: slow down",
        "Error making AI request: api.test answered 503: nothing",
        "Error making AI request: no route",
    ]


async def test_no_error_shows_the_key() -> None:
    body = encode({"error": f"Incorrect API key provided: {KEY}"}).decode()
    host = answers(
        said(401, body),
        said(429, body, Retry_After="1"),
        OSError(f"no answer from https://x.test/?key={KEY}"),
        retries=2,
    )

    @App("shop").function("f")
    async def f(ctx: Context) -> str:
        try:
            await step.ai.infer("ask", adapter=OPENAI, body=BODY)
        except StepError as error:
            return f"{error.name}: {error.message}"
        return "answered"

    assert await play(f, host) == (
        "AIGatewayError: Error making AI request: no answer from https://x.test/?key=[redacted]"
    )
    assert [op.op for op in host.ops] == ["StepError"] * 3
    assert KEY not in repr(host.ops) and "[redacted]" in repr(host.ops[0])


class Odd(AiModel):
    def __init__(self, url: str) -> None:
        super().__init__("m", url=url)


@pytest.mark.parametrize(
    ("adapter", "options", "problem"),
    [
        (Odd("ftp://x.test"), {}, "adapter: its url_infer"),
        (OPENAI, {"body": [1]}, "body: must be an object"),
        (OPENAI, {"timeout": "-1s"}, "timeout"),
    ],
)
async def test_a_wrong_argument_fails_at_the_call(adapter: AiModel, options: dict[str, Any], problem: str) -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> Json:
        given: dict[str, Any] = {"adapter": adapter, "body": BODY, **options}
        return await step.ai.infer("ask", **given)

    with pytest.raises(StepArgumentError, match=problem):
        await execution(f, answers()).run()


async def test_options_and_the_blocking_twin() -> None:
    @App("shop").function("f")
    def f(ctx: Context) -> Json:
        return blocking_step.with_(retries=1).ai.infer("ask", adapter=OPENAI, body=BODY)

    host = answers(said(500, "no"), said(200, '"yes"'))
    assert await play(f, host) == "yes"
    assert host.ops[0].opts is not None and host.ops[0].opts["retries"] == 1
