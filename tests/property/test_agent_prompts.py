"""Whatever the history holds, what a model is told is a conversation that providers take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart

from perdure.agents.messages import (
    DataPart,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    SourcePart,
    StepStartPart,
    TextPart,
    ToolInvocation,
    ToolPart,
)
from perdure.agents.prompt import model_messages

texts = st.sampled_from(["", "hi", "so"])
calls = st.builds(
    ToolInvocation,
    st.sampled_from(["call", "result", "output-error", "output-denied"]),
    st.sampled_from(["c1", "c2", "c3"]),
    st.just("add"),
    st.sampled_from([None, {"a": 1}, "{oops", [1]]),
    st.sampled_from([None, "fine", {"sum": 3}]),
)
metadata = st.sampled_from([None, {"p": {"perdure": {"id": "x"}}}, {"p": {"other": 1}}])
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, texts, metadata),
    st.builds(ReasoningPart, texts, st.sampled_from([None, "proof"]), metadata),
    st.builds(ToolPart, calls, st.booleans(), metadata),
    st.just(FilePart("aGk=", "text/plain")),
    st.just(SourcePart({"url": "x"})),
    st.just(StepStartPart()),
    st.just(DataPart({"type": "data-x"})),
)
messages = st.builds(
    Message,
    st.just("m"),
    st.sampled_from(["user", "assistant", "assistant", "tool", "system", "signal"]),
    st.lists(parts, max_size=6),
    st.just(0),
)


@given(st.lists(st.sampled_from(["", "be brief"]), max_size=2), st.lists(messages, max_size=6))
def test_each_call_is_followed_by_its_one_result(system: list[str], history: list[Message]) -> None:
    made = model_messages(system, history)
    assert not made or isinstance(made[0], ModelRequest)
    for index, one in enumerate(made):
        assert one.parts, "nothing is empty"
        if isinstance(one, ModelResponse):
            called = [part.tool_call_id for part in one.parts if isinstance(part, ToolCallPart)]
            after = made[index + 1].parts if index + 1 < len(made) else ()
            returned = [part.tool_call_id for part in after if isinstance(part, ToolReturnPart)]
            assert called == returned
            assert len(set(called)) == len(called)
    # It can be written down and read again.
    dumped = ModelMessagesTypeAdapter.dump_json(made)
    assert ModelMessagesTypeAdapter.dump_json(ModelMessagesTypeAdapter.validate_json(dumped)) == dumped


@given(st.lists(messages, max_size=5))
def test_nothing_that_the_user_said_is_lost(history: list[Message]) -> None:
    made = model_messages([], history)
    asked = [
        content
        for one in made
        if isinstance(one, ModelRequest)
        for part in one.parts
        if part.part_kind == "user-prompt"
        for content in ([part.content] if isinstance(part.content, str) else part.content)
        if isinstance(content, str)
    ]
    for message in history:
        if message.role in ("user", "signal"):
            for part in message.parts:
                assert not isinstance(part, TextPart) or not part.text or part.text in asked
