"""Agents of pydantic-ai on each engine that carries durable agents out, and over the stub of OpenAI's server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai import Agent

from perdure import App, Context
from perdure.agents.pydantic_ai import PerdureDurability
from perdure.model.json import Json
from perdure.testing import OpenAIStub
from tests.support.agent_world import ENGINES, agent_world, kinds, read, text_of
from tests.unit.agents.pydantic_ai.test_durability import Scripted, call

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_run_with_tools_and_a_question(engine: str, tmp_path: Path) -> None:
    script = Scripted(
        ["let me ", call(1, "add", '{"a": 1, "b": 2}', "c1"), call(2, "refund", '{"cents": 5}', "c2")],
        ["all ", "done"],
    )
    agent: Agent[object, Json] = Agent(script.model, name="desk")
    done: list[str] = []

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        done.append("add")
        return a + b

    @agent.tool_plain(requires_approval=True)
    def refund(cents: int) -> str:
        done.append("refund")
        return "ok"

    async with agent_world(engine, tmp_path, agent) as world:
        run = await world.agent.stream("go", run_id="r1")
        first = await read(run)
        assert kinds(first)[-2:] == ["tool-call-approval", "suspended"] and done == ["add"]
        resumed = await world.agent.approve_tool_call("r1", "c2")
        second = await read(resumed)
        assert kinds(second)[0] == "tool-result" and kinds(second)[-1] == "finish"
        assert text_of(second) == "all done" and done == ["add", "refund"]
        assert await world.status(run) == "finished"
        whole = await read(await world.agent.observe("r1"))
        said = [*first[:-1], *second]
        assert [one.index for one in whole] == [one.index for one in said]
        steps = [name for name in await world.steps(run) if name.split(":")[0] in ("llm", "tool", "finish")]
        assert sorted(steps) == ["finish", "llm:0", "llm:1", "tool:c1", "tool:c2"]


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_capability_in_a_function(engine: str, tmp_path: Path) -> None:
    script = Scripted([call(0, "add", '{"a": 1, "b": 2}', "c1")], ["three"])
    agent: Agent[object, Json] = Agent(script.model, name="clerk", capabilities=[PerdureDurability()])
    answers: list[str] = []

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    def more(app: App, engine: Json) -> None:
        @app.function("sum", trigger="shop/sum")
        async def sum_up(ctx: Context) -> str:
            answers.append(str((await agent.run("go")).output))
            return answers[-1]

    other: Agent[object, Json] = Agent(Scripted().model, name="other")
    async with agent_world(engine, tmp_path, other, more=more) as world:
        await world.node.ingest([{"name": "shop/sum"}])
        async with asyncio.timeout(20):
            while not answers:
                await asyncio.sleep(0.01)
    assert answers == ["three"] and len(script.seen) == 2


async def test_over_the_stub_of_openais_server(perdure_openai_stub: OpenAIStub, tmp_path: Path) -> None:
    agent: Agent[object, Json] = Agent("openai:gpt-test", name="desk")

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    async with agent, agent_world("local", tmp_path, agent) as world:
        result = await world.agent.generate('!saytool add {"a": 1, "b": 2}')
        assert result.text == 'Tool said: [{"type":"json","value":3}]'
        assert perdure_openai_stub.calls == 2
