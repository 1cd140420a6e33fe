"""Child runs of durable agents: sub-agents and workflows, their rows, their questions; and what later runs answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import App, Context
from perdure.agents.agent import Agent, AgentFailedError
from perdure.agents.chunks import Chunk
from perdure.agents.context import ToolContext
from perdure.agents.durable import create_durable_agent
from perdure.agents.errors import ConflictError, GoneError, InvalidOptionError
from perdure.agents.memory import Memory
from perdure.agents.tools import tool
from perdure.model.json import Json
from perdure.testing import ScriptedModel
from perdure.testing.script import Fail, ToolCall
from tests.support.agent_world import ENGINES, agent_world, read

pytestmark = [pytest.mark.timeout(60), pytest.mark.parametrize("kind", ENGINES)]


@tool(requires_approval=True)
def send(to: str) -> str:
    """Sends."""
    return f"sent to {to}"


@tool(resume_schema={"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]})
def paint(what: str, ctx: ToolContext) -> str:
    """Paints."""
    if ctx.resume_data is None:
        ctx.suspend({"question": "Which colour?"})
    return f"{what} {ctx.resume_data['colour']}"


@tool
async def rest() -> str:
    """Takes its time."""
    await asyncio.sleep(0.2)
    return "rested"


def agent(id: str, *turns: Json, **declared: Json) -> Agent:
    return Agent(id, model=ScriptedModel(list(turns)), **declared)


def office(*calls: ToolCall) -> Agent:
    """An agent whose helper makes these calls."""
    helper = agent("helper", list(calls), "sent", tools=[send, paint, rest])
    turns: list[Json] = [[ToolCall("agent-helper", {"prompt": "x"}, "c1")], "done"]
    return agent("boss", *turns, agents={"helper": helper})


async def test_a_sub_agents_run_is_listed_and_belongs_to_its_parent(kind: str, tmp_path: Path) -> None:
    both: list[Json] = []

    def made(app: App) -> Agent:
        boss = office(ToolCall("send", {"to": "Ada"}, "h1"))
        both.append(boss.agents["helper"])
        return boss

    async with agent_world(kind, tmp_path, made) as world:
        run = await world.agent.stream("go", run_id="r-1")
        first = await read(run)
        (child,) = await world.agent.list_child_runs("r-1")
        assert (child.run_id, child.parent_run_id, child.agent_id) == ("r-1.c1", "r-1", "helper")
        assert (child.status, child.detail) == ("suspended", {"toolCallId": "c1"})
        helper = create_durable_agent(agent=both[0], app=App("elsewhere"), engine=world.agent.engine)
        assert (await helper.get_run("r-1.c1")).run_id == "r-1.c1"
        own = await read(await helper.observe("r-1.c1"))
        assert own[-1].type == "suspended" and {said.run_id for said in own} == {"r-1.c1"}
        assert [said["payload"]["output"] for said in first if said.type == "tool-output"] == [
            dict(said) for said in own[:-1]
        ]
        await read(await world.agent.approve_tool_call("r-1"))
        (child,) = await world.agent.list_child_runs("r-1")
        assert (child.status, child.finish_reason) == ("finished", "stop")
        assert (await read(await world.agent.observe("r-1.c1")))[-1].type == "finish"
        steps = await world.steps(run)
        assert [name for name in steps if name.startswith("sub:")] == ["sub:c1", "sub:c1/decide:h1", "sub:c1@1"]


async def test_a_question_of_a_child_may_be_answered_by_its_own_id(kind: str, tmp_path: Path) -> None:
    async with agent_world(kind, tmp_path, office(ToolCall("send", {"to": "Ada"}, "h1"))) as world:
        await read(await world.agent.stream("go", run_id="r-1"))
        assert [asked.tool_call_id for asked in await world.agent.open_questions("r-1.c1")] == ["h1"]
        rest = await read(await world.agent.approve_tool_call("r-1.c1", "h1"))
        assert [said.payload["result"] for said in rest if said.type == "tool-result"] == ["sent to Ada"]
        assert (await read(await world.agent.observe("r-1")))[-1].type == "finish"
        with pytest.raises(GoneError, match="the run is over"):
            await world.agent.decline_tool_call("r-1.c1", "h1")


async def test_a_child_that_is_ended_is_an_error_to_its_parent(kind: str, tmp_path: Path) -> None:
    async with agent_world(kind, tmp_path, office(ToolCall("rest", {}, "h1"))) as world:
        run = await world.agent.stream("go", run_id="r-1")
        async for said in run.full_stream:
            if said.type == "tool-output" and said.payload["output"]["type"] == "tool-call":
                break
        assert await world.agent.abort("r-1.c1")
        chunks = await read(await world.agent.observe("r-1"))
        errors = [said.payload["error"]["name"] for said in chunks if said.type == "tool-error"]
        assert (errors, chunks[-1].type) == (["AgentAbortedError"], "finish")


async def test_a_child_run_ends_with_its_parent(kind: str, tmp_path: Path) -> None:
    async with agent_world(kind, tmp_path, office(ToolCall("send", {"to": "Ada"}, "h1"))) as world:
        await read(await world.agent.stream("go", run_id="r-1"))
        assert await world.agent.abort("r-1")
        (child,) = await world.agent.list_child_runs("r-1")
        assert child.status == "aborted"


async def test_a_sub_agent_that_fails_is_a_failed_child_run(kind: str, tmp_path: Path) -> None:
    helper = agent("helper", [Fail("no such model", 404)])
    boss = agent("boss", [ToolCall("agent-helper", {"prompt": "x"}, "c1")], "I see", agents={"helper": helper})
    async with agent_world(kind, tmp_path, boss) as world:
        assert (await world.agent.generate("go", run_id="r-1")).text == "I see"
        (child,) = await world.agent.list_child_runs("r-1")
        assert (child.status, child.finish_reason) == ("failed", "error")


async def test_a_run_that_fails_raises_where_its_result_is_waited_for(kind: str, tmp_path: Path) -> None:
    async with agent_world(kind, tmp_path, agent("boss", [Fail("no such model", 404)])) as world:
        with pytest.raises(AgentFailedError, match="no such model") as failed:
            await world.agent.generate("go")
        assert failed.value.result.finish_reason == "error"


async def test_several_questions_of_one_sub_agent_are_told_apart(kind: str, tmp_path: Path) -> None:
    calls = [ToolCall("send", {"to": "Ada"}, "h1"), ToolCall("send", {"to": "Bob"}, "h2")]
    async with agent_world(kind, tmp_path, office(*calls)) as world:
        suspended = (await read(await world.agent.stream("go", run_id="r-1")))[-1]
        asked = {item["toolCallId"]: item["args"]["to"] for item in suspended.payload["questions"]}
        assert asked == {"c1>h1": "Ada", "c1>h2": "Bob"}
        with pytest.raises(InvalidOptionError, match="say which: c1>h1, c1>h2"):
            await world.agent.approve_tool_call("r-1", "c1")
        bob = next(item for item in suspended.payload["questions"] if item["args"]["to"] == "Bob")
        segment = await read(await world.agent.decline_tool_call("r-1", "c1", args_hash=bob["argsHash"]))
        assert [item["toolCallId"] for item in segment[-1].payload["questions"]] == ["c1"]
        with pytest.raises(ConflictError, match="declined already"):
            await world.agent.approve_tool_call("r-1", "c1>h2")
        with pytest.raises(InvalidOptionError, match="does not let its arguments be edited"):
            await world.agent.approve_tool_call("r-1", "c1", args={"to": "Eve"})
        chunks = await read(await world.agent.approve_tool_call("r-1", "c1"))
        inner = [said.payload["output"] for said in chunks if said.type == "tool-output"]
        assert [item["payload"]["result"] for item in inner if item["type"] == "tool-result"] == ["sent to Ada"]


async def test_what_a_sub_agent_asks_stands_in_the_thread_above_while_it_is_open(kind: str, tmp_path: Path) -> None:
    def made(app: App) -> Agent:
        boss = office(ToolCall("send", {"to": "Ada"}, "h1"), ToolCall("paint", {"what": "it"}, "h2"))
        boss.memory = Memory()
        return boss

    async with agent_world(kind, tmp_path, made) as world:

        async def noted() -> dict[str, list[str]]:
            page = await world.agent.engine.storage.messages("t")
            kinds = ("pendingToolApprovals", "suspendedTools")
            return {key: list(page.items[-1].metadata[key]) for key in kinds if key in page.items[-1].metadata}

        await read(await world.agent.stream("go", run_id="r-1", memory={"thread": "t", "resource": "u"}))
        assert await noted() == {"pendingToolApprovals": ["c1>h1"], "suspendedTools": ["c1>h2"]}
        await read(await world.agent.approve_tool_call("r-1", "c1>h1"))
        # Now that it is the only one about its call, it goes by the call's id, as `list_suspended_runs` has it.
        assert await noted() == {"suspendedTools": ["c1"]}
        await read(await world.agent.resume("r-1", {"colour": "red"}, tool_call_id="c1"))
        assert await noted() == {}


async def test_a_question_that_is_answered_leaves_the_others_in_the_thread(kind: str, tmp_path: Path) -> None:
    calls: list[Json] = [ToolCall("send", {"to": "Ada"}, "c1"), ToolCall("send", {"to": "Bob"}, "c2")]
    asking = agent("desk", calls, "done", tools=[send], memory=Memory())
    async with agent_world(kind, tmp_path, asking) as world:

        async def noted() -> list[str]:
            page = await world.agent.engine.storage.messages("t")
            return sorted(page.items[-1].metadata.get("pendingToolApprovals", {}))

        await read(await world.agent.stream("go", run_id="r-1", memory={"thread": "t", "resource": "u"}))
        assert await noted() == ["c1", "c2"]
        await read(await world.agent.approve_tool_call("r-1", "c1"))
        assert await noted() == ["c2"]
        await read(await world.agent.approve_tool_call("r-1", "c2"))
        assert await noted() == []


async def test_a_segment_ends_when_the_sub_agent_does_nothing_but_wait(kind: str, tmp_path: Path) -> None:
    calls = [ToolCall("send", {"to": "Ada"}, "h1"), ToolCall("rest", {}, "h2"), ToolCall("send", {"to": "Bob"}, "h3")]
    async with agent_world(kind, tmp_path, office(*calls)) as world:
        first = await read(await world.agent.stream("go", run_id="r-1"))
        assert {"type": "tool-result", "call": "h2"} in _inner(first)
        second = await read(await world.agent.approve_tool_call("r-1", "c1>h1"))
        assert _inner(second) == [{"type": "tool-result", "call": "h1"}]
        assert second[-1].type == "suspended"


async def test_all_decisions_are_looked_at_before_the_first_is_made(kind: str, tmp_path: Path) -> None:
    calls = [ToolCall("send", {"to": "Ada"}, "h1"), ToolCall("paint", {"what": "car"}, "h2")]
    async with agent_world(kind, tmp_path, office(*calls)) as world:
        await read(await world.agent.stream("go", run_id="r-1"))
        with pytest.raises(InvalidOptionError, match="resume_data"):
            await world.agent.decide_tool_calls("r-1", {"c1>h1": True, "c1>h2": {"color": "red"}})
        assert len(await world.agent.open_questions("r-1")) == 2
        await read(await world.agent.decide_tool_calls("r-1", {"c1>h1": True, "c1>h2": {"colour": "red"}}))
        assert not await world.agent.open_questions("r-1")


def _inner(chunks: list[Chunk]) -> list[Json]:
    """The results that sub-agents tell of."""
    said = [said.payload["output"] for said in chunks if said.type == "tool-output"]
    return [
        {"type": item["type"], "call": item["payload"]["toolCallId"]} for item in said if item["type"] == "tool-result"
    ]


async def test_a_workflow_tells_of_its_beginning_and_its_end(kind: str, tmp_path: Path) -> None:
    def made(app: App) -> Agent:
        @app.function("double")
        async def double(ctx: Context) -> int:
            return int(ctx.event.data["n"]) * 2

        call = ToolCall("workflow-double", {"inputData": {"n": 4}}, "c1")
        return agent("boss", [call], "eight", workflows={"double": double})

    async with agent_world(kind, tmp_path, made) as world:
        chunks = await read(await world.agent.stream("go", run_id="r-1"))
        inner = [said.payload["output"] for said in chunks if said.type == "tool-output"]
        assert [item["type"] for item in inner] == ["workflow-start", "workflow-finish"]
        assert inner[1]["payload"]["finalWorkflowResult"] == 8


async def test_a_later_run_closes_what_it_answers(kind: str, tmp_path: Path) -> None:
    again = ToolCall("paint", {"what": "car", "resumeData": {"colour": "red"}}, "c2")
    boss = agent(
        "boss", [ToolCall("paint", {"what": "car"}, "c1")], [again], "It is red.", tools=[paint], memory=Memory()
    )
    thread: Json = {"thread": "t-1", "resource": "u-1"}
    async with agent_world(kind, tmp_path, boss) as world:
        await read(await world.agent.stream("Paint it", run_id="r-1", memory=thread))
        result = await world.agent.generate("Red", run_id="r-2", memory=thread, auto_resume_suspended_tools=True)
        assert result.text == "It is red."
        assert [item.payload["result"] for item in result.tool_results] == ["car red"]
        assert (await world.agent.get_run("r-1")).status == "aborted"
        assert not (await world.agent.list_suspended_runs(thread_id="t-1")).items


async def test_scorers_judge_in_the_last_step(kind: str, tmp_path: Path) -> None:
    boss = agent("boss", "hello", scorers={"brief": lambda judged: len(judged.text)})
    async with agent_world(kind, tmp_path, boss) as world:
        run = await world.agent.stream("go")
        result = await run.output.result()
        assert result.scores == [{"scorer": "brief", "score": 5.0}]
        assert await world.steps(run) == ["llm:0", "finish"]
