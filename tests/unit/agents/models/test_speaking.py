"""The speaker: chunks in their order, parts as they are recorded, ids that are new to the run."""

from __future__ import annotations

from perdure.agents.chunks import Chunk
from perdure.agents.messages import ToolPart
from perdure.agents.models import Answer, Call
from perdure.agents.models.failure import redacted
from perdure.agents.models.speaking import Speaker


def speaker(said: list[Chunk], *used: str) -> Speaker:
    call = Call("run-1", said.append, now=lambda: 1_767_225_600_000, used_ids=used)
    return Speaker(call, model="m", provider="p", response_id="resp-1")


def test_an_answer_of_every_kind_survives_json() -> None:
    said: list[Chunk] = []
    one = speaker(said)
    one.reasoning("Let me think", {"p": {}})
    one.end_part(signature="proof")
    one.text("Hello")
    one.source(url="https://example.com/a", title="A")
    one.file("aGk=", "text/plain")
    call_id = one.tool_input_start("c1", "add")
    one.tool_input(call_id, "add", '{"a":1}')
    one.tool_call(call_id, "add", '{"a":1}')
    native = one.tool_input_start("n1", "web_search")
    one.tool_call(native, "web_search", {"q": "x"}, by_provider=True)
    one.provider_result("n1", "web_search", ["found"])
    answer = one.answer("tool-calls")
    assert Answer.from_json(answer.to_json()) == answer
    assert [part.tool_invocation.tool_name for part in answer.tool_calls] == ["add"]
    assert (answer.text, answer.reasoning_text) == ("Hello", "Let me think")
    assert [chunk.type for chunk in said] == [
        "response-metadata",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-signature",
        "reasoning-end",
        "text-start",
        "text-delta",
        "text-end",
        "source",
        "file",
        "tool-call-input-streaming-start",
        "tool-call-delta",
        "tool-call-input-streaming-end",
        "tool-call",
        "tool-call-input-streaming-start",
        "tool-call-input-streaming-end",
        "tool-call",
        "tool-result",
    ]
    assert said[0] == {
        "type": "response-metadata",
        "runId": "run-1",
        "from": "AGENT",
        "payload": {"id": "resp-1", "modelId": "m", "timestamp": "2026-01-01T00:00:00.000Z"},
    }


def test_each_text_has_an_id_of_its_own() -> None:
    said: list[Chunk] = []
    one = speaker(said)
    for _ in range(2):
        one.text("x")
        one.end_part()
    assert [chunk.payload["id"] for chunk in said if chunk.type == "text-start"] == ["text-0", "text-1"]


def test_an_empty_text_leaves_no_part() -> None:
    said: list[Chunk] = []
    one = speaker(said)
    one.text("")
    assert one.answer("stop").parts == []
    assert [chunk.type for chunk in said] == ["response-metadata", "text-start", "text-end"]


def test_a_repeated_id_of_a_call_is_told_apart() -> None:
    said: list[Chunk] = []
    one = speaker(said, "c1", "c1~2")
    for _ in range(2):
        one.tool_call(one.tool_input_start("c1", "add"), "add", {})
    ids = [part.tool_invocation.tool_call_id for part in one.answer("tool-calls").parts if isinstance(part, ToolPart)]
    assert ids == ["c1~3", "c1~4"]
    assert [chunk.payload["toolCallId"] for chunk in said if chunk.type == "tool-call"] == ids


def test_arguments_that_are_no_object_stay_text() -> None:
    one = speaker([])
    for args in ("{oops", "[1]", ""):
        one.tool_call(one.tool_input_start("c", "add"), "add", args)
    assert [part.tool_invocation.args for part in one.answer("tool-calls").tool_calls] == ["{oops", "[1]", {}]


def test_secrets_are_blotted_out() -> None:
    for secret in (
        "sk-proj-abcdefghijklmnop",
        "Bearer abcdef.ghijkl",
        "api_key=abcdefghijkl",
        '"token": "abcdefghijkl"',
        "https://user:pass-word@host/x",
        "gsk_abcdefghijklmnop",
    ):
        assert "abcdef" not in redacted(f"failed: {secret}!") and "pass-word" not in redacted(secret)
    assert redacted("The model is overloaded") == "The model is overloaded"
    assert len(redacted("x" * 5_000)) < 700
