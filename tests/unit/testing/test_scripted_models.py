"""Scripts: what is answered to whom. The expectations of directives are those of the recorded reference model."""

from __future__ import annotations

import json

import pytest

from perdure.agents.chunks import Chunk
from perdure.agents.messages import Message, TextPart, ToolInvocation, ToolPart, ToolState
from perdure.agents.models import Answer, Call, ModelRejectedError, ModelUnavailableError, OutputSpec, Prompt, ToolSpec
from perdure.model.json import Json
from perdure.testing import ScriptedModel
from perdure.testing.script import Asked, Delay, Finish, Script, Spent, Text, ToolCall, directive, slices, words


def asked(text: str, *results: Json) -> Asked:
    return Asked([{"role": "user", "text": text}], [{"type": "json", "value": value} for value in results])


@pytest.mark.parametrize(
    ("text", "deltas"),
    [
        ("Tell me a story", ["Echo: ", "Tell ", "me ", "a ", "story"]),
        ("!reason why", ["I ", "think, ", "therefore ", "I ", "answer.", "Reasoned: ", "why"]),
        ("!source", ["See ", "source."]),
        ("!file", ["See ", "file."]),
        ("!slow 3 0", ["w0 ", "w1 ", "w2"]),
        ('!saytool weather {"city":"Paris"}', ["Let ", "me ", "check."]),
        ('!json {"name":"Ada"}', ['{"name":"Ada"}']),
    ],
)
async def test_a_directive_is_answered_in_the_pieces_of_the_reference(text: str, deltas: list[str]) -> None:
    said: list[Chunk] = []
    await ask(ScriptedModel(), user(text), said=said)
    assert [one.payload["text"] for one in said if one.type.endswith("-delta") and "text" in one.payload] == deltas


def test_arguments_come_in_slices_of_the_reference() -> None:
    assert slices('{"city":"Paris"}') == ['{"city":"P', 'aris"}']
    assert words("  ") == ["  "] and words("") == []


def test_results_of_tools_are_told() -> None:
    assert directive(asked('!tools a {} | b {"x":1}')) == [ToolCall("a", {}), ToolCall("b", {"x": 1})]
    assert directive(asked("!tool a {}", {"t": 1})) == 'Tool said: [{"type":"json","value":{"t":1}}]'
    assert directive(asked("!tool a {oops")) == [ToolCall("a", "{oops")]


def test_a_chain_calls_one_after_the_other() -> None:
    text = '!chain a {"x":1} | b {}'
    assert directive(asked(text)) == ToolCall("a", {"x": 1})
    assert directive(asked(text, 1)) == ToolCall("b", {})
    assert directive(asked(text, 1, 2)) == "Chain done: 2"


def test_other_directives() -> None:
    assert directive(asked("!slowtool 300 a {}")) == [Delay(300), ToolCall("a", {})]
    assert directive(asked("!slowtool 300 a {}", 1)) == 'Tool said: [{"type":"json","value":1}]'
    assert directive(asked("!length")) == ["Cut off", Finish("length")]
    assert directive(asked("!slow 2 120")) == Text("w0 w1", 120)
    assert directive(asked("!unheard of")) == "Echo: !unheard of"
    assert json.loads(str(directive(asked("!prompt")))) == [{"role": "user", "text": "!prompt"}]


def test_a_title_is_given_to_a_conversation() -> None:
    request = asked("User: hello\nAssistant: Echo: hello")
    assert directive(request) == "Echo: User: hello\nAssistant: Echo: hello"
    request.messages.insert(0, {"role": "system", "text": "Give this conversation a title."})
    assert directive(request) == "Mock generated title"


def test_a_network_is_routed_from_one_to_the_next() -> None:
    router: dict[str, Json] = {"properties": {"primitiveId": {}}}
    judge: dict[str, Json] = {"properties": {"isComplete": {}}}
    request = asked('!net agent:researcher Look it up > tool:send {"to": "me"}')
    request.schema = router
    first = json.loads(str(directive(request)))
    assert (first["primitiveType"], first["primitiveId"], first["prompt"]) == ("agent", "researcher", "Look it up")
    request.messages.append({"role": "assistant", "text": json.dumps(first)})
    second = json.loads(str(directive(request)))
    assert (second["primitiveType"], second["primitiveId"], second["prompt"]) == ("tool", "send", '{"to": "me"}')
    request.schema = judge
    assert json.loads(str(directive(request)))["isComplete"] is False
    request.messages.append({"role": "assistant", "text": json.dumps(second)})
    assert json.loads(str(directive(request)))["finalResult"] == "Final network answer."
    request.schema = router
    assert json.loads(str(directive(request)))["primitiveType"] == "none"


def test_turns_are_given_in_order_and_calls_are_numbered() -> None:
    script = Script(["one", [ToolCall("a"), ToolCall("b", {}, "mine"), ToolCall("c")]])
    assert script.answer(asked("x")) == [Text("one")]
    request = asked("x")
    request.calls = 4
    assert script.answer(request) == [
        ToolCall("a", {}, "call_5"),
        ToolCall("b", {}, "mine"),
        ToolCall("c", {}, "call_6"),
    ]
    with pytest.raises(IndexError, match="the script has 2 turns"):
        script.answer(request)


def user(text: str) -> Message:
    return Message("u", "user", [TextPart(text)], 0)


def called(state: ToolState, result: Json = None, **more: Json) -> Message:
    return Message("a", "assistant", [ToolPart(ToolInvocation(state, "call_1", "add", {}, result, **more))], 0)


async def ask(model: ScriptedModel, *messages: Message, said: list[Chunk] | None = None) -> Answer:
    prompt = Prompt(["sys"], list(messages), [ToolSpec("add", "", {})], output=OutputSpec({"type": "object"}))
    return await model.ask(prompt, Call("run-1", (said if said is not None else []).append))


async def test_a_model_is_asked_and_remembers() -> None:
    seen: list[Asked] = []

    def answer(request: Asked) -> str:
        seen.append(request)
        return "fine"

    model = ScriptedModel(answer, name="acme/one")
    said: list[Chunk] = []
    first = await ask(model, user("hi"), called("result", {"sum": 3}), said=said)
    assert (first.text, first.model, first.provider, first.response_id) == ("fine", "one", "acme", "resp-2")
    assert (model.calls, len(model.prompts), model.prompts[0].messages[0].text) == (1, 1, "hi")
    assert seen[0].results == [{"type": "json", "value": {"sum": 3}}]
    assert (seen[0].text, seen[0].calls, seen[0].tools, seen[0].schema) == ("hi", 1, ["add"], {"type": "object"})


@pytest.mark.parametrize(
    ("state", "more", "shown"),
    [
        ("output-error", {"error_text": "no luck"}, {"type": "error-text", "value": "no luck"}),
        ("output-denied", {}, {"type": "text", "value": "Tool call was not approved by the user"}),
    ],
)
async def test_what_a_tool_did_not_do_is_told_too(state: ToolState, more: dict[str, Json], shown: Json) -> None:
    answer = await ask(ScriptedModel(), user("!tool add {}"), called(state, **more))
    assert answer.text == f"Tool said: {json.dumps([shown], separators=(',', ':'))}"


async def test_the_same_conversation_is_answered_the_same_by_any_instance() -> None:
    answers = [await ask(ScriptedModel(), user("!saytool add {}")) for _ in range(2)]
    for answer in answers:
        answer.timestamp = 0
    assert answers[0] == answers[1]


async def test_pauses_use_the_given_clock() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    model = ScriptedModel([[Text("a b", pause=500), Delay(250), Spent(1, 2)]], sleep=sleep)
    answer = await ask(model, user("hi"))
    assert slept == [0.5, 0.5, 0.25]
    assert answer.usage.total_tokens == 3


async def test_errors_are_those_of_models() -> None:
    with pytest.raises(ModelRejectedError, match="kaboom"):
        await ask(ScriptedModel(), user("!error kaboom"))
    with pytest.raises(ModelUnavailableError, match="busy"):
        await ask(ScriptedModel(), user("!unavailable busy"))
    said: list[Chunk] = []
    with pytest.raises(ModelRejectedError, match="broke"):
        await ask(ScriptedModel(), user("!miderror broke"), said=said)
    assert [one.type for one in said] == ["response-metadata", "text-start", "text-delta", "text-delta", "text-end"]
    with pytest.raises(ModelRejectedError, match="the script has 0 turns"):
        await ask(ScriptedModel([]), user("hi"))
