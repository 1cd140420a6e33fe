"""Messages as callers give them."""

from __future__ import annotations

import pytest

from perdure.agents.inputs import InputError, message_from_json, message_to_json, read_messages
from perdure.agents.messages import DataPart, FilePart, Message, Part, ReasoningPart, TextPart, ToolInvocation, ToolPart
from perdure.model.json import Json


def read(given: Json) -> list[Message]:
    return read_messages(given, new_id=lambda place: f"u{place}", now=7)


def test_texts() -> None:
    assert read("Hello") == [Message("u0", "user", [TextPart("Hello")], 7)]
    assert [message.id for message in read(["one", "two"])] == ["u0", "u1"]


@pytest.mark.parametrize(
    ("piece", "part"),
    [
        ("Hi", TextPart("Hi")),
        ({"type": "text", "text": "Hi"}, TextPart("Hi")),
        ({"type": "image", "image": "https://example.org/a.png"}, FilePart("https://example.org/a.png", "image/jpeg")),
        ({"type": "file", "data": "aGk=", "mediaType": "text/plain"}, FilePart("aGk=", "text/plain")),
        ({"type": "file", "url": "data:image/png;base64,aa"}, FilePart("data:image/png;base64,aa", "image/png")),
        ({"type": "reasoning", "text": "hm"}, ReasoningPart("hm")),
        (
            {"type": "tool-call", "toolCallId": "c", "toolName": "t", "input": {"a": 1}},
            ToolPart(ToolInvocation("call", "c", "t", {"a": 1})),
        ),
        (
            {"type": "tool-add", "toolCallId": "c", "state": "output-available", "input": {}, "output": 3},
            ToolPart(ToolInvocation("result", "c", "add", {}, 3)),
        ),
        ({"type": "data-x", "data": 1}, DataPart({"type": "data-x", "data": 1})),
    ],
)
def test_parts(piece: Json, part: Part) -> None:
    assert read({"role": "user", "content": [piece]})[0].parts == [part]


def test_stored_messages_come_back_as_they_were() -> None:
    call = ToolInvocation("result", "c1", "add", {"x": 1}, 2)
    message = Message("m1", "assistant", [TextPart("Hi"), ToolPart(call)], 9, "t", "r", metadata={"a": 1})
    plain = message_to_json(message)
    assert message_from_json(plain) == message
    assert read(plain)[0].parts == message.parts
    assert read({"id": "x", "role": "user", "parts": [{"type": "text", "text": "UI"}]})[0].text == "UI"


def test_results_of_tools_find_their_calls() -> None:
    call = {"type": "tool-call", "toolCallId": "c1", "toolName": "t", "args": {}}
    result = {"type": "tool-result", "toolCallId": "c1", "toolName": "t", "output": {"type": "json", "value": 5}}
    messages = read([{"role": "assistant", "content": [call]}, {"role": "tool", "content": [result]}])
    assert messages[0].parts == [ToolPart(ToolInvocation("result", "c1", "t", {}, 5))]
    assert len(messages) == 1
    failed = {**result, "output": {"type": "error-text", "value": "no"}}
    alone = read([{"role": "tool", "content": [failed]}, {"role": "tool", "content": []}])
    assert alone[0].role == "assistant"
    part = alone[0].parts[0]
    assert isinstance(part, ToolPart)
    assert (part.tool_invocation.state, part.tool_invocation.error_text) == ("output-error", "no")
    assert len(alone) == 1


def test_a_call_that_is_told_again_is_read_once() -> None:
    call = {"type": "tool-call", "toolCallId": "c1", "toolName": "t", "args": {}}
    result = {"type": "tool-result", "toolCallId": "c1", "toolName": "t", "output": {"type": "json", "value": 5}}
    again = {"type": "tool-invocation", "toolInvocation": {**call, "state": "result", "result": 5}}
    later = {"role": "assistant", "parts": [again, {"type": "text", "text": "and"}]}
    messages = read([{"role": "assistant", "content": [call]}, {"role": "tool", "content": [result]}, later])
    assert messages[0].parts == [ToolPart(ToolInvocation("result", "c1", "t", {}, 5))]
    assert [message.text for message in messages] == ["", "and"]
    assert len(messages[1].parts) == 1
    assert len(read([later, {"role": "assistant", "content": [call]}])) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, "messages: must be a text"),
        ([7], r"messages\[0\]: must be a text or an object"),
        ({"role": "boss", "content": "x"}, r"messages\[0\].role: must be one of"),
        ({"role": "user", "content": 7}, r"messages\[0\].content: must be"),
        ({"role": "user", "content": [{"text": "x"}]}, r"messages\[0\].content\[0\]"),
        ({"role": "user", "content": [{"type": "file"}]}, "a file needs data or url"),
        ({"role": "user", "content": [{"type": "tool-call"}]}, "toolCallId: must be a text"),
        ({"role": "user", "content": [{"type": "source"}]}, "source"),
    ],
)
def test_what_cannot_be_read_is_named(given: Json, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(given)
