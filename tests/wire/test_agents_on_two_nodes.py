"""Durable agents on two nodes of one PostgreSQL: what is asked on one is answered, read and aborted on the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from perdure import App, embedded
from perdure.agents.agent import Agent
from perdure.agents.durable import AgentRuns, DurableAgent, DurableRun, create_durable_agent
from perdure.agents.memory import Memory
from perdure.agents.signals import Signals
from perdure.model.ids import UlidFactory
from perdure.node import Node
from perdure.testing import ScriptedModel
from perdure.testing.script import ToolCall
from tests.support.agent_desk import Desk
from tests.support.agent_world import kinds, read, text_of
from tests.support.valkey import ValkeyServer
from tests.wire.test_agent_signals import HERE, MEMORY, Gate

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["database", "bus"])
def bus(request: pytest.FixtureRequest) -> str | None:
    """Which way the nodes' news travel."""
    server: ValkeyServer = request.getfixturevalue("valkey_server")
    return server.url if request.param == "bus" else None


@asynccontextmanager
async def two_nodes(
    url: str, bus: str | None, make: Callable[[], Agent]
) -> AsyncGenerator[list[tuple[Node, DurableAgent]]]:
    """Two nodes that have the same agent."""
    async with AsyncExitStack() as stack:
        nodes: list[tuple[Node, DurableAgent]] = []
        for _ in range(2):
            app = App("office")
            agent = create_durable_agent(agent=make(), app=app)
            nodes.append((await stack.enter_async_context(embedded(app, db=url, bus=bus, shutdown_timeout=2)), agent))
        if bus is not None:
            await soon(lambda: _are(all(node.has_bus for node, _ in nodes)))
        yield nodes


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def _are(value: bool) -> bool:
    return value


async def is_(agent: DurableAgent, run: DurableRun, status: str) -> bool:
    return (await agent.get_run(run.run_id)).status == status


async def test_what_one_node_asks_is_approved_on_the_other(postgres_url: str, bus: str | None) -> None:
    desk = Desk()
    async with two_nodes(postgres_url, bus, lambda: desk.agent) as ((_, here), (_, there)):
        run = await here.stream('!tool refund {"cents": 900}')
        assert kinds(await read(run))[-2:] == ["tool-call-approval", "suspended"]
        assert [found.run_id for found in (await there.list_suspended_runs()).items] == [run.run_id]
        rest = await read(await there.approve_tool_call(run.run_id, by="ada"))
        assert kinds(rest)[0] == "tool-result" and kinds(rest)[-1] == "finish"
        assert desk.done == [("refund", 900)]
        await soon(lambda: is_(here, run, "finished"))
        # Whoever begins anew reads the same, wherever.
        whole = [await read(await agent.observe(run.run_id)) for agent in (here, there)]
        assert whole[0] == whole[1] and whole[0][-1].type == "finish"


async def test_a_run_is_aborted_and_signalled_from_the_other_node(postgres_url: str, bus: str | None) -> None:
    gate = Gate()
    models: list[ScriptedModel] = []

    def make() -> Agent:
        models.append(ScriptedModel([[ToolCall("wait", {})], "I have seen it.", [ToolCall("wait", {})], "never said"]))
        return Agent("desk", model=models[-1], memory=Memory(), tools=[gate.tool])

    async with two_nodes(postgres_url, bus, make) as ((_, here), (node, there)):
        storage = there.engine.storage
        signals = Signals(storage, AgentRuns(there, ids=UlidFactory(node.clock.now, os.urandom)))
        run = await here.stream("Begin", memory=MEMORY)
        await asyncio.wait_for(gate.entered.wait(), 30)
        following = asyncio.create_task(_read_all(there, run.run_id))
        accepted = await signals.send_signal("desk", {"type": "alert", "contents": "fire"}, **HERE)
        assert accepted.run_id == run.run_id
        gate.go.set()
        said = await read(run)
        assert kinds(said).count("data-signal") == 1 and text_of(said) == "I have seen it."
        assert await following == said

        gate.entered.clear()
        gate.go.clear()
        run = await here.stream("Once more", memory=MEMORY)
        await asyncio.wait_for(gate.entered.wait(), 30)
        assert await signals.abort_thread("t", "u", expected_run_id=run.run_id)
        assert "never said" not in text_of(await read(run))
        await soon(lambda: is_(here, run, "aborted"))
        assert await there.get_run(run.run_id) == await here.get_run(run.run_id)


async def _read_all(agent: DurableAgent, run_id: str) -> list[object]:
    return list(await read(await agent.observe(run_id)))
