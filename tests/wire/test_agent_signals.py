"""Signals and memory with durable agents: on the engine of the process, and on a server that calls a served app."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.durable import AgentRuns
from perdure.agents.errors import InvalidOptionError
from perdure.agents.memory import Memory, SemanticRecall, WorkingMemory
from perdure.agents.signals import Signals, Subscription
from perdure.agents.storage import AgentStorage
from perdure.agents.tools import Tool
from perdure.model.ids import UlidFactory
from perdure.model.json import Json
from perdure.testing import HashingEmbedder, ScriptedModel
from perdure.testing.script import ToolCall
from tests.support.agent_world import ENGINES, AgentWorld, agent_world, kinds, text_of

HERE: Json = {"thread_id": "t", "resource_id": "u"}
MEMORY: Json = {"thread": "t", "resource": "u"}


class Gate:
    """A tool that waits until the test lets it go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.tool = Tool("wait", "Waits.", {"type": "object"}, self._wait)

    async def _wait(self, args: dict[str, Json], ctx: Json) -> Json:
        self.entered.set()
        await self.go.wait()
        return "done"


class Office(AgentWorld):
    """A world with what sends signals to it."""

    @property
    def storage(self) -> AgentStorage:
        return self.agent.engine.storage

    def signals(self) -> Signals:
        ids = UlidFactory(self.storage.now, os.urandom)
        return Signals(self.storage, AgentRuns(self.agent, ids=ids))


@asynccontextmanager
async def office(kind: str, folder: Path, agent: Agent, **options: Json) -> AsyncGenerator[Office]:
    async with agent_world(kind, folder, agent, **options) as world, asyncio.timeout(20):
        yield Office(world.agent, world.node, world.app)


async def until(heard: Subscription, kind: str) -> list[Chunk]:
    """What is said up to a kind of chunk."""
    said: list[Chunk] = []
    async for each in heard:
        said.append(each)
        if each.type == kind:
            break
    return said


def texts(model: ScriptedModel, call: int) -> list[str]:
    """The texts of a prompt's messages."""
    return [message.text for message in model.prompts[call].messages]


async def said_in(storage: AgentStorage) -> list[tuple[str, str]]:
    """What the thread holds, by role and text."""
    return [(message.role, message.text) for message in (await storage.messages("t")).items]


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_message_wakes_an_idle_thread_and_followers_hear_it(kind: str, tmp_path: Path) -> None:
    model = ScriptedModel(["Hello, Ann.", "Still here."])
    async with office(kind, tmp_path, Agent("desk", model=model, memory=Memory())) as world:
        signals = world.signals()
        async with signals.subscribe("t", "u") as heard:
            first = await signals.send_message("desk", "Hello", **HERE)
            said = await until(heard, "finish")
            assert {each.run_id for each in said} == {first.run_id}
            assert (kinds(said)[0], kinds(said)[-1], text_of(said)) == ("start", "finish", "Hello, Ann.")
            told = [each["data"]["contents"] for each in said if each.type == "data-user-message"]
            assert told == ["Hello"]
            await signals.send_message("desk", "And now?", **HERE)
            assert text_of(await until(heard, "finish")) == "Still here."
        assert texts(model, 1) == ["Hello", "Hello, Ann.", "And now?"]
        assert [text for _, text in await said_in(world.storage)] == ["Hello", "Hello, Ann.", "And now?", "Still here."]


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_signal_enters_between_two_calls_of_the_model(kind: str, tmp_path: Path) -> None:
    gate, model = Gate(), ScriptedModel([[ToolCall("wait", {})], "I have seen it."])
    async with office(kind, tmp_path, Agent("desk", model=model, memory=Memory(), tools=[gate.tool])) as world:
        run = await world.agent.stream("Begin", memory=MEMORY)
        await gate.entered.wait()
        alert = {"type": "alert", "contents": "fire", "attributes": {"level": 3}}
        accepted = await world.signals().send_signal("desk", alert, **HERE)
        assert accepted.run_id == run.run_id
        gate.go.set()
        said = [each async for each in run.full_stream]
        assert kinds(said).count("data-signal") == 1
        assert texts(model, 1)[-1] == '<alert level="3">fire</alert>'
        assert [role for role, _ in await said_in(world.storage)] == ["user", "assistant", "signal", "assistant"]


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_message_that_comes_while_the_last_answer_is_given_is_answered(kind: str, tmp_path: Path) -> None:
    speaking, go = asyncio.Event(), asyncio.Event()

    async def pause(_: float) -> None:
        speaking.set()
        await go.wait()

    from perdure.testing.script import Delay, Text

    model = ScriptedModel([[Text("One"), Delay(1), Text(" moment.")], "Here I am."], sleep=pause)
    async with office(kind, tmp_path, Agent("desk", model=model, memory=Memory())) as world:
        run = await world.agent.stream("Begin", memory=MEMORY)
        await speaking.wait()
        assert (await world.signals().send_message("desk", "Hurry!", **HERE)).run_id == run.run_id
        go.set()
        said = [each async for each in run.full_stream]
        assert text_of(said) == "One moment.Here I am."
        assert texts(model, 1)[-1] == "Hurry!"


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_queued_message_waits_for_the_run_before_it(kind: str, tmp_path: Path) -> None:
    gate, model = Gate(), ScriptedModel([[ToolCall("wait", {})], "First.", "Second."])
    async with office(kind, tmp_path, Agent("desk", model=model, memory=Memory(), tools=[gate.tool])) as world:
        signals = world.signals()
        async with signals.subscribe("t", "u") as heard:
            run = await world.agent.stream("Begin", memory=MEMORY)
            await gate.entered.wait()
            queued = await signals.queue_message("desk", "Then this", **HERE)
            assert queued.run_id != run.run_id
            gate.go.set()
            assert text_of(await until(heard, "finish")) == "First."
            following = await until(heard, "finish")
            assert (text_of(following), following[0].run_id) == ("Second.", queued.run_id)
        assert texts(model, 2)[-3:] == ["Begin", "First.", "Then this"]


@pytest.mark.parametrize("kind", ENGINES)
async def test_the_active_run_of_a_thread_is_aborted_by_whoever_knows_the_thread(kind: str, tmp_path: Path) -> None:
    gate, model = Gate(), ScriptedModel([[ToolCall("wait", {})], "never said"])
    async with office(kind, tmp_path, Agent("desk", model=model, memory=Memory(), tools=[gate.tool])) as world:
        run = await world.agent.stream("Begin", memory=MEMORY)
        await gate.entered.wait()
        signals = world.signals()
        assert await signals.abort_thread("t", "u", expected_run_id=run.run_id)
        said = [each async for each in run.full_stream]
        assert "never said" not in text_of(said)
        assert await world.status(run) == "aborted"
        assert not await signals.abort_thread("t", "u")


@pytest.mark.parametrize("kind", ENGINES)
async def test_what_was_learned_is_remembered_by_the_next_run(kind: str, tmp_path: Path) -> None:
    notes = WorkingMemory(template="# Name:")
    recall = SemanticRecall(top_k=1, before=0, after=0)
    memory = Memory(
        last_messages=1, working_memory=notes, semantic_recall=recall, embedder=HashingEmbedder(), generate_title=True
    )
    turns: Json = [
        [ToolCall("updateWorkingMemory", {"memory": "# Name: Ann"})],
        "Pleased to meet you.",
        "Ann and her cat",
        "Tom, I think.",
    ]
    model = ScriptedModel(turns)
    async with office(kind, tmp_path, Agent("desk", model=model, memory=memory)) as world:
        for text in ("I am Ann, and my cat is called Tom.", "What is the name of my cat?"):
            run = await world.agent.stream(text, memory=MEMORY)
            await run.output.text
            assert await world.status(run) == "finished"
        thread = await world.storage.thread("t")
        assert thread is not None and thread.title == "Ann and her cat"
        assert await world.storage.resource_memory("u") == "# Name: Ann"
        assert "# Name: Ann" in "".join(model.prompts[-1].system)
        assert "I am Ann, and my cat is called Tom." in texts(model, len(model.prompts) - 1)
        assert await said_in(world.storage) == [
            ("user", "I am Ann, and my cat is called Tom."),
            ("assistant", "Pleased to meet you."),
            ("user", "What is the name of my cat?"),
            ("assistant", "Tom, I think."),
        ]


@pytest.mark.parametrize("kind", ENGINES)
async def test_an_agent_brings_signals_to_its_threads_itself(kind: str, tmp_path: Path) -> None:
    model = ScriptedModel(["Hello.", "Noted.", "One after the other."])
    async with agent_world(kind, tmp_path, Agent("desk", model=model, memory=Memory())) as world:
        async with world.agent.subscribe_to_thread("t", "u") as heard:
            first = await world.agent.send_message("Hello", thread_id="t", resource_id="u")
            said = await until(heard, "finish")
            assert ({each.run_id for each in said}, text_of(said)) == ({first.run_id}, "Hello.")
            signal = {"type": "reminder", "contents": "Back up the disk."}
            await world.agent.send_signal(signal, thread_id="t", resource_id="u")
            assert text_of(await until(heard, "finish")) == "Noted."
            await world.agent.queue_message("And now?", thread_id="t", resource_id="u")
            assert text_of(await until(heard, "finish")) == "One after the other."
        with pytest.raises(InvalidOptionError, match=r"signal\.type"):
            await world.agent.send_signal({"contents": "x"}, thread_id="t", resource_id="u")
