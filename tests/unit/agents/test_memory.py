"""What an agent remembers: history, notes, what is near in meaning, titles; and who may have it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from perdure.agents.context import ToolContext
from perdure.agents.errors import AccessDeniedError, AgentError, InvalidOptionError
from perdure.agents.memory import (
    Memory,
    MemoryScope,
    RecentTokens,
    SemanticRecall,
    Titles,
    WithoutToolCalls,
    WorkingMemory,
)
from perdure.agents.messages import Message, TextPart, ToolInvocation, ToolPart
from perdure.agents.signals import parse_signal, signal_message
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.testing import HashingEmbedder
from tests.support.agent_storage import said, storing

REQUEST: Json = {"thread": "t", "resource": "u"}
PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "pets": {"type": "object", "required": ["cat"]}},
    "required": ["name"],
}


@asynccontextmanager
async def remembering(memory: Memory, request: Json = None) -> AsyncGenerator[tuple[Memory, MemoryScope]]:
    """A memory on a storage of its own, and the conversation that is asked for."""
    async with storing() as storage:
        used = memory.use(storage)
        scope = used.scope(request or REQUEST)
        assert scope is not None
        yield used, scope


def call(name: str = "weather", id: str = "c1") -> ToolPart:
    return ToolPart(ToolInvocation("result", id, name, {"memory": "x"}, {"ok": True}))


async def report(memory: Memory, scope: MemoryScope, value: Json) -> Json:
    """What the model hears when it reports notes."""
    (tool,) = memory.tools(scope)
    context = ToolContext.__new__(ToolContext)
    return await tool.call(tool.read_args({"memory": value}), context)


async def test_the_first_turn_creates_the_thread_and_remembers_nothing() -> None:
    request = {"thread": {"id": "t", "title": "Trip", "metadata": {"a": 1}}, "resource": "u"}
    async with remembering(Memory(), request) as (memory, scope):
        found = await memory.load(scope, [said("in")])
        assert (found.messages, found.system, found.tools) == ([], [], [])
        thread = await memory.storage.thread("t")
        assert thread is not None and (thread.resource_id, thread.title, thread.metadata) == ("u", "Trip", {"a": 1})


async def test_the_last_messages_are_remembered_without_what_was_just_said() -> None:
    async with remembering(Memory(last_messages=3)) as (memory, scope):
        await memory.save(scope, [said(f"m{n}") for n in range(5)])
        found = await memory.load(scope, [said("in")])
        assert [each.id for each in found.messages] == ["m2", "m3", "m4"]
        await memory.save(scope, [said("in"), said("answer", role="assistant")])
        again = await memory.load(scope, [said("in")], exclude=["answer"], until=found.until)
        assert again.messages == found.messages, "later steps of the run see the same history"
        following = await memory.load(scope, [said("next")])
        assert [each.id for each in following.messages] == ["m4", "in", "answer"]


async def test_saving_again_changes_nothing() -> None:
    async with remembering(Memory()) as (memory, scope):
        for _ in range(3):
            await memory.save(scope, [said("in"), said("answer", "yes", role="assistant")])
        page = await memory.storage.messages("t")
        assert [each.id for each in page.items] == ["in", "answer"]


@pytest.mark.parametrize("transient", [True, False])
async def test_transient_signals_are_not_kept(transient: bool) -> None:
    async with remembering(Memory()) as (memory, scope):
        body = {"type": "alert", "contents": "fire", "transient": transient}
        signal = parse_signal(body, ids=lambda: "s1", now=1)
        await memory.save(scope, [signal_message(signal, None, None), said("in")])
        kept = [each.id for each in (await memory.storage.messages("t")).items]
        assert kept == (["in"] if transient else ["s1", "in"])


@pytest.mark.parametrize("off", [0, False])
async def test_without_history_nothing_is_read_and_nothing_kept(off: Json) -> None:
    async with remembering(Memory()) as (memory, scope):
        await memory.save(scope, [said("m")])
        without = memory.scope({**REQUEST, "options": {"lastMessages": off}})
        assert without is not None
        assert (await memory.load(without, [])).messages == []
        await memory.save(without, [said("lost")])
        assert (await memory.storage.messages("t")).total == 1


@pytest.mark.parametrize(
    "request_",
    [{**REQUEST, "options": {"readOnly": True}}, {**REQUEST, "read_only": True}, {**REQUEST, "readOnly": True}],
)
async def test_read_only_reads_and_keeps_nothing(request_: Json) -> None:
    async with remembering(Memory(working_memory=True)) as (memory, scope):
        await memory.save(scope, [said("m")])
        reading = memory.scope(request_)
        assert reading is not None
        found = await memory.load(reading, [])
        assert ([each.id for each in found.messages], found.tools) == (["m"], [])
        await memory.save(reading, [said("lost")])
        assert (await memory.storage.messages("t")).total == 1
        missing = memory.scope({**request_, "thread": "never used"})
        assert missing is not None
        await memory.load(missing, [])
        assert await memory.storage.thread("never used") is None


async def test_a_thread_of_somebody_else_is_refused() -> None:
    async with remembering(Memory()) as (memory, scope):
        await memory.save(scope, [said("secret")])
        for options in ({}, {"readOnly": True}, {"lastMessages": 0}):
            foreign = memory.scope({"thread": "t", "resource": "bob", "options": options})
            assert foreign is not None
            with pytest.raises(AccessDeniedError):
                await memory.load(foreign, [])
        foreign = memory.scope({"thread": "t", "resource": "bob"})
        assert foreign is not None
        with pytest.raises(AccessDeniedError):
            await memory.save(foreign, [said("mine")])


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"resource": "u"}, "memory.thread: must be"),
        ({"thread": {"title": "x"}, "resource": "u"}, "memory.thread: must be"),
        ({"thread": "t"}, "memory.resource: a resource id is needed"),
        ([], "memory: must be an object"),
        ({**REQUEST, "options": {"lastMessages": -1}}, "lastMessages: must be a whole number"),
        ({**REQUEST, "options": {"lastMessages": "10"}}, "lastMessages: must be a whole number"),
        ({**REQUEST, "options": {"semanticRecall": True}}, "semanticRecall: this memory has no embedder"),
        ({**REQUEST, "options": {"workingMemory": {"scope": "world"}}}, 'workingMemory.scope: must be "resource"'),
        ({**REQUEST, "options": {"workingMemory": {"template": 5}}}, "workingMemory.template: must be a text"),
        ({**REQUEST, "options": {"generateTitle": 5}}, "generateTitle: must be an object"),
        ({**REQUEST, "options": {"readOnly": "yes"}}, "readOnly: must be true or false"),
    ],
)
def test_a_request_that_cannot_be_used_names_its_field(request_: Json, text: str) -> None:
    with pytest.raises(InvalidOptionError, match=text) as caught:
        Memory().scope(request_)
    assert caught.value.status == 400


def test_no_request_is_no_conversation() -> None:
    assert Memory().scope(None) is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"last_messages": -1}, "last_messages: must be 0 or more"),
        ({"semantic_recall": True}, "semantic_recall: needs an embedder"),
        ({"working_memory": WorkingMemory(template="x", schema={})}, "a template or a schema"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: Json, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Memory(**options)


def test_a_memory_without_a_storage_says_so() -> None:
    with pytest.raises(AgentError, match="there is no storage yet"):
        _ = Memory().storage


async def test_notes_in_markdown_are_shown_and_replaced() -> None:
    async with remembering(Memory(working_memory=WorkingMemory(template="# Name:"))) as (memory, scope):
        found = await memory.load(scope, [])
        assert found.system[0].startswith("WORKING_MEMORY_SYSTEM_INSTRUCTION:")
        assert "<working_memory_template>\n# Name:\n" in found.system[0]
        assert [tool.name for tool in found.tools] == ["updateWorkingMemory"]
        assert await report(memory, scope, "# Name: Ann") == {"success": True}
        found = await memory.load(scope, [])
        assert "<working_memory_data>\n# Name: Ann\n</working_memory_data>" in found.system[0]
        other = memory.scope({"thread": "another", "resource": "u"})
        assert other is not None
        assert "# Name: Ann" in (await memory.load(other, [])).system[0], "all threads of the resource share them"
        assert await memory.working_memory("t", "u") == "# Name: Ann"


async def test_notes_of_a_thread_are_its_own() -> None:
    async with remembering(Memory(working_memory=WorkingMemory(scope="thread"))) as (memory, scope):
        await report(memory, scope, "# Trip")
        other = memory.scope({"thread": "another", "resource": "u"})
        assert other is not None
        assert "# Trip" not in (await memory.load(other, [])).system[0]
        assert "# Trip" in (await memory.load(scope, [])).system[0]


async def test_notes_of_a_schema_are_merged() -> None:
    async with remembering(Memory(working_memory=WorkingMemory(schema=PERSON))) as (memory, scope):
        (tool,) = memory.tools(scope)
        assert "required" not in tool.input_schema["properties"]["memory"]
        assert await report(memory, scope, {"name": "Ann", "pets": {"cat": 1, "dog": 2}}) == {"success": True}
        assert await report(memory, scope, {"pets": {"dog": None}}) == {"success": True}
        assert await memory.working_memory("t", "u") == '{"name":"Ann","pets":{"cat":1}}'
        tool_answer = await tool.call({"memory": "not an object"}, ToolContext.__new__(ToolContext))
        assert tool_answer["success"] is False
        assert await memory.working_memory("t", "u") == '{"name":"Ann","pets":{"cat":1}}'


async def test_notes_that_are_read_only_have_no_tool() -> None:
    async with remembering(Memory(working_memory=WorkingMemory(read_only=True))) as (memory, scope):
        await memory.set_working_memory("t", "u", "# Ann")
        found = await memory.load(scope, [])
        assert found.tools == [] and "# Ann" in found.system[0] and "cannot change" in found.system[0]


async def test_a_run_may_turn_notes_off_and_on() -> None:
    async with remembering(Memory(working_memory=True)) as (memory, _):
        off = memory.scope({**REQUEST, "options": {"workingMemory": {"enabled": False}}})
        assert off is not None and memory.tools(off) == []
        assert Memory().scope({**REQUEST, "options": {"working_memory": {"schema": PERSON}}}) is not None


async def test_calls_that_keep_notes_are_not_kept_as_messages() -> None:
    async with remembering(Memory(working_memory=True)) as (memory, scope):
        update, weather = call("updateWorkingMemory"), call("weather", "c2")
        await memory.save(
            scope,
            [
                Message("both", "assistant", [update, weather], 1),
                Message("text", "assistant", [update, TextPart("Done.")], 1),
                Message("only", "assistant", [update], 1),
            ],
        )
        kept = (await memory.storage.messages("t")).items
        assert [(each.id, each.parts) for each in kept] == [("both", [weather]), ("text", [TextPart("Done.")])]


async def test_what_is_near_in_meaning_is_recalled_with_its_neighbours() -> None:
    embedder = HashingEmbedder()
    settings = SemanticRecall(top_k=1, before=1, after=1)
    async with remembering(Memory(last_messages=2, semantic_recall=settings, embedder=embedder)) as (memory, scope):
        texts = [
            "hello",
            "my cat is called Tom",
            "a fine name for a cat",
            "what is the time",
            "noon",
            "bye",
            "good bye",
        ]
        roles = ("user", "assistant")
        spoken = [said(f"m{n}", text, role=roles[n % 2]) for n, text in enumerate(texts)]  # type: ignore[arg-type]
        await memory.save(scope, spoken)
        await memory.finish(scope, spoken)
        assert memory.needs_finish(scope)
        question = said("in", "how is my cat called")
        found = await memory.load(scope, [question])
        assert [each.id for each in found.messages] == ["m0", "m1", "m2", "m5", "m6"]
        calls = len(embedder.calls)
        again = await memory.load(scope, [question], until=found.until)
        assert again.messages == found.messages
        assert len(embedder.calls) == calls, "what was found is not searched for again"


async def test_what_was_said_elsewhere_is_quoted() -> None:
    memory_ = Memory(semantic_recall=SemanticRecall(top_k=1, before=0, after=1), embedder=HashingEmbedder())
    async with remembering(memory_, {"thread": "old", "resource": "u"}) as (memory, old):
        spoken = [said("q", "where did I park the car"), said("a", "in street seven", role="assistant")]
        await memory.save(old, spoken)
        await memory.finish(old, spoken)
        new, alone, foreign = (
            memory.scope({"thread": "new", "resource": resource, "options": {"semanticRecall": options}})
            for resource, options in (("u", True), ("u", {"scope": "thread"}), ("bob", True))
        )
        assert new is not None and alone is not None and foreign is not None
        found = await memory.load(new, [said("in", "where is the car")])
        assert found.messages == []
        assert "user: where did I park the car\nassistant: in street seven" in found.system[0]
        assert (await memory.load(alone, [said("in", "where is the car")])).system == []
        foreign = memory.scope({"thread": "his", "resource": "bob"})
        assert foreign is not None
        assert (await memory.load(foreign, [said("in", "where is the car")])).system == []


async def test_what_is_too_far_is_not_recalled() -> None:
    settings = SemanticRecall(threshold=0.5, before=0, after=0)
    async with remembering(Memory(last_messages=1, semantic_recall=settings, embedder=HashingEmbedder())) as (
        memory,
        scope,
    ):
        spoken = [said("m0", "blue green red"), said("m1", "end")]
        await memory.save(scope, spoken)
        await memory.finish(scope, spoken)
        assert [each.id for each in (await memory.load(scope, [said("in", "one two")])).messages] == ["m1"]
        assert [each.id for each in (await memory.load(scope, [said("in", "red blue")])).messages] == ["m0", "m1"]
        assert [each.message_id for each in await memory.search("green", "t", "u", settings)] == ["m0"]


async def test_a_long_message_is_found_by_its_end() -> None:
    async with remembering(Memory(last_messages=1, semantic_recall=True, embedder=HashingEmbedder())) as (
        memory,
        scope,
    ):
        spoken = [said("m0", "filler " * 900 + "zebra crossing"), said("m1", "x"), said("m2", "y")]
        await memory.save(scope, spoken)
        await memory.finish(scope, spoken)
        await memory.finish(scope, spoken)
        assert (await memory.search("zebra crossing", "t", "u"))[0].message_id == "m0"


async def test_a_thread_gets_its_title_once() -> None:
    memory_ = Memory(generate_title=Titles(model="openai/gpt-small"))
    async with remembering(memory_) as (memory, scope):
        spoken = [said("in", "Plan a trip to Rome"), said("out", "With pleasure.", role="assistant")]
        await memory.save(scope, spoken)
        prompt = await memory.title_prompt(scope, spoken)
        assert prompt is not None and prompt.model == "openai/gpt-small"
        assert prompt.user == "User: Plan a trip to Rome\nAssistant: With pleasure."
        assert await memory.title_prompt(scope, []) is None
        assert await memory.set_title(scope, ' "A trip to Rome" \nas you wished') == "A trip to Rome"
        assert await memory.title_prompt(scope, spoken) is None
        thread = await memory.storage.thread("t")
        assert thread is not None and thread.title == "A trip to Rome"


async def test_filters_choose_what_the_model_sees() -> None:
    async def newest_first(messages: list[Message]) -> list[Message]:
        return messages[::-1]

    filters = [WithoutToolCalls(), RecentTokens(4), newest_first]
    async with remembering(Memory(filters=filters)) as (memory, scope):  # type: ignore[arg-type]
        await memory.save(
            scope,
            [
                said("old", "twelve chars"),
                Message("tool", "assistant", [call()], 1),
                Message("mixed", "assistant", [call(id="c2"), TextPart("8 chars.")], 1),
                said("new", "5 ch."),
            ],
        )
        found = await memory.load(scope, [])
        assert [(each.id, len(each.parts)) for each in found.messages] == [("new", 1), ("mixed", 1)]
        assert (await memory.storage.messages("t")).total == 4
    kept = WithoutToolCalls(exclude=["other"])([Message("m", "assistant", [call()], 1)])
    assert len(kept[0].parts) == 1


def test_the_settings_are_told_as_the_protocol_tells_them() -> None:
    memory = Memory(semantic_recall=True, embedder=HashingEmbedder(), working_memory=WorkingMemory(template="# T"))
    assert memory.config() == {
        "lastMessages": 10,
        "semanticRecall": {"topK": 4, "messageRange": {"before": 1, "after": 1}, "scope": "resource"},
        "generateTitle": False,
        "workingMemory": {"enabled": True, "scope": "resource", "template": "# T"},
    }
