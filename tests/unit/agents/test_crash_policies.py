"""What becomes of tools when their process dies: the policy of a durable agent holds for the agents below it, too."""

from __future__ import annotations

from perdure import App
from perdure.agents.agent import Agent
from perdure.agents.context import ToolContext
from perdure.agents.durable import create_durable_agent
from perdure.agents.tools import tool
from perdure.testing import ScriptedModel


@tool
def plain() -> int:
    return 1


@tool(on_crash="at_most_once")
def own() -> int:
    return 1


@tool(retries=2)
def retried() -> int:
    return 1


@tool(steps=True)
async def stepped(ctx: ToolContext) -> int:
    return 1


def test_the_policy_is_for_all_tools_that_say_nothing_themselves() -> None:
    helper = Agent("helper", model=ScriptedModel(), tools=[plain, own])
    boss = Agent("boss", model=ScriptedModel(), tools=[plain, retried, stepped], agents={"helper": helper})
    helper.agents["boss"] = boss
    durable = create_durable_agent(agent=boss, app=App("office"), on_tool_crash="ask")
    changed = durable.agent
    assert isinstance(changed, Agent)
    assert {name: found.on_crash for name, found in changed.tools.items()} == {
        "plain": "ask",
        "retried": "retry",
        "stepped": "retry",
    }
    inner = changed.agents["helper"]
    assert {name: found.on_crash for name, found in inner.tools.items()} == {"plain": "ask", "own": "at_most_once"}
    assert inner.agents["boss"] is changed
    assert plain.on_crash == "retry"
    assert boss.tools["plain"] is plain
