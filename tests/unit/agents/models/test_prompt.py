"""Messages as the model layer has them: turns parted, every call answered, what is a provider's goes back to it."""

from __future__ import annotations

from typing import cast

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ThinkingPart,
    ToolReturnPart,
    UserPromptPart,
)

from perdure.agents.messages import (
    Approval,
    DataPart,
    FilePart,
    Message,
    MessageError,
    Part,
    ReasoningPart,
    Role,
    SourcePart,
    StepStartPart,
    TextPart,
    ToolInvocation,
    ToolPart,
    ToolState,
)
from perdure.agents.prompt import DENIED, UNANSWERED, model_messages
from perdure.model.json import Json


def message(role: Role, *parts: Part) -> Message:
    return Message("m", role, list(parts), 0)


def user(text: str) -> Message:
    return message("user", TextPart(text))


def tool(state: ToolState, id: str = "c1", result: Json = None, **more: Json) -> ToolPart:
    return ToolPart(ToolInvocation(state, id, "add", {"a": 1}, result, **more))


def outline(messages: list[ModelMessage]) -> list[str]:
    """Each message as its kind and those of its parts."""
    return [f"{one.kind}: {' '.join(part.part_kind for part in one.parts)}" for one in messages]


def returns(messages: list[ModelMessage]) -> list[tuple[str, Json, str]]:
    parts = [part for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
    return [(part.tool_call_id, part.content, part.outcome) for part in parts]


def test_system_texts_come_first_and_others_in_their_place() -> None:
    made = model_messages(["one", "", "two"], [user("hi"), message("system", TextPart("be kind")), user("again")])
    assert outline(made) == ["request: system-prompt system-prompt user-prompt system-prompt user-prompt"]


def test_turns_of_one_message_are_parted() -> None:
    spoken = message(
        "assistant",
        TextPart("let me"),
        tool("result", result={"sum": 3}),
        tool("result", "c2", "fine"),
        StepStartPart(),
        tool("result", "c3", 1),
        TextPart("three"),
    )
    made = model_messages([], [user("go"), spoken, user("more")])
    assert outline(made) == [
        "request: user-prompt",
        "response: text tool-call tool-call",
        "request: tool-return tool-return",
        "response: tool-call",
        "request: tool-return",
        "response: text",
        "request: user-prompt",
    ]
    assert returns(made) == [("c1", {"sum": 3}, "success"), ("c2", "fine", "success"), ("c3", 1, "success")]


def test_every_outcome_of_a_call_is_told() -> None:
    spoken = message(
        "assistant",
        tool("output-error", "c1", error_text="no luck"),
        tool("output-denied", "c2", approval=Approval("c2", False, "too risky")),
        tool("output-denied", "c3"),
        tool("call", "c4"),
    )
    assert returns(model_messages([], [user("go"), spoken])) == [
        ("c1", "no luck", "failed"),
        ("c2", "too risky", "denied"),
        ("c3", DENIED, "denied"),
        ("c4", UNANSWERED, "interrupted"),
    ]


def test_a_result_that_comes_in_a_message_of_its_own_meets_its_call() -> None:
    made = model_messages(
        [], [user("go"), message("assistant", tool("call")), message("tool", tool("result", result=5))]
    )
    assert outline(made) == ["request: user-prompt", "response: tool-call", "request: tool-return"]
    assert returns(made) == [("c1", 5, "success")]


def test_a_result_without_its_call_becomes_text() -> None:
    made = model_messages([], [message("tool", tool("result", result={"x": 1}), tool("result", "c2", "y"))])
    request = cast("ModelRequest", made[0])
    assert [cast("UserPromptPart", part).content for part in request.parts] == [
        'Result of the tool add: {"x":1}',
        "Result of the tool add: y",
    ]


def test_an_empty_message_of_a_tool_is_nothing() -> None:
    assert outline(model_messages([], [user("go"), message("tool")])) == ["request: user-prompt"]


def test_what_the_model_is_to_see_stands_for_the_result() -> None:
    part = tool("result", result={"text": "long", "more": []})
    part.provider_metadata = {"mastra": {"modelOutput": {"type": "text", "value": "short"}}}
    assert returns(model_messages([], [user("go"), message("assistant", part)])) == [("c1", "short", "success")]


def test_a_conversation_does_not_begin_with_the_assistant() -> None:
    made = model_messages(["sys"], [message("assistant", TextPart("hello")), user("hi")])
    assert outline(made) == ["request: system-prompt user-prompt", "response: text", "request: user-prompt"]
    assert cast("UserPromptPart", made[0].parts[1]).content == "."


def test_proofs_and_ids_go_back_to_who_gave_them() -> None:
    spoken = message(
        "assistant",
        ReasoningPart("hm", "proof", {"anthropic": {"perdure": {"id": "rs_1", "details": {"x": 1}}}}),
        TextPart("so", {"anthropic": {"perdure": {"id": "msg_1"}}}),
    )
    thought, text = cast("ModelResponse", model_messages([], [user("go"), spoken])[1]).parts
    assert isinstance(thought, ThinkingPart)
    assert (thought.signature, thought.id, thought.provider_name, thought.provider_details) == (
        "proof",
        "rs_1",
        "anthropic",
        {"x": 1},
    )
    assert getattr(text, "id", None) == "msg_1"


def test_what_only_readers_need_is_left_out() -> None:
    spoken = message("assistant", SourcePart({"url": "x"}), DataPart({"type": "data-x"}), TextPart("so"))
    assert outline(model_messages([], [user("go"), spoken])) == ["request: user-prompt", "response: text"]


def test_files_come_as_bytes_or_as_addresses() -> None:
    made = model_messages(
        [],
        [
            message(
                "user",
                TextPart("look"),
                FilePart("aGVsbG8=", "text/plain"),
                FilePart("data:image/png;base64,aGVsbG8=", "image/jpeg"),
                FilePart("https://example.com/a.png", "image/png"),
                FilePart("https://example.com/a.pdf", "application/pdf"),
            )
        ],
    )
    text, plain, image, at, document = list(cast("UserPromptPart", made[0].parts[0]).content)
    assert text == "look"
    assert isinstance(plain, BinaryContent) and (plain.data, plain.media_type) == (b"hello", "text/plain")
    assert isinstance(image, BinaryContent) and image.media_type == "image/png"
    assert isinstance(at, ImageUrl) and at.url == "https://example.com/a.png"
    assert isinstance(document, DocumentUrl)


@pytest.mark.parametrize("data", ["not base64!", "data:text/plain,plain", "data:broken"])
def test_a_file_that_cannot_be_read_is_named(data: str) -> None:
    with pytest.raises(MessageError, match=r"messages\[0\]\.parts\[0\]\.data"):
        model_messages([], [message("user", FilePart(data, "text/plain"))])
