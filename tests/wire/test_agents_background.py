"""Background tasks of durable agents, on the engine of the process and on a server that calls a served app alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure.agents.agent import Agent
from perdure.agents.background import Background, BackgroundConfig
from perdure.agents.chunks import Chunk
from perdure.agents.context import ToolContext
from perdure.agents.durable import DurableRun
from perdure.agents.durable.tasks import EngineBook
from perdure.agents.errors import ConflictError, GoneError, InvalidOptionError, RunNotFoundError
from perdure.agents.memory import Memory
from perdure.agents.messages import ToolPart
from perdure.agents.storage import Task
from perdure.agents.tools import Tool, tool
from perdure.engine.agents.records import TaskStatus
from perdure.model.errors import RunFailedError
from perdure.model.json import Json
from perdure.testing import ScriptedModel
from tests.support.agent_world import ENGINES, AgentWorld, agent_world, kinds, read

pytestmark = pytest.mark.timeout(60)
TASK = "background-task-"


class Lab:
    """An agent with tools that go on until they are let go."""

    def __init__(self) -> None:
        self.model = ScriptedModel()
        self.gate = asyncio.Event()
        self.begun: list[str] = []
        self.agent = Agent("lab", model=self.model, tools=self._tools(), memory=Memory(), version="1")

    def _tools(self) -> list[Tool]:
        @tool(background=True)
        async def research(topic: str, ctx: ToolContext) -> dict[str, str]:
            """Finds out."""
            self.begun.append(topic)
            ctx.writer.write({"progress": "half"})
            await self.gate.wait()
            if topic == "nothing":
                raise ValueError("nothing found")
            return {"topic": topic}

        @tool(background=Background("awaited", retries=1))
        async def count(n: int, ctx: ToolContext) -> int:
            """Counts, at the second time."""
            ctx.writer.write(ctx.attempt)
            if ctx.attempt == 0:
                raise ValueError("not yet")
            return n + 1

        @tool(background=True, resume_schema={"type": "object", "required": ["code"]})
        async def ask(ctx: ToolContext) -> Json:
            """Asks."""
            if ctx.resume_data is None:
                ctx.suspend({"question": "code?"})
            return ctx.resume_data["code"]

        return [research, count, ask]


@pytest.fixture(params=ENGINES)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[tuple[Lab, AgentWorld], None]:
    made = Lab()
    async with agent_world(request.param, tmp_path, made.agent) as world:
        yield made, world
        made.gate.set()


def of(chunks: list[Chunk], kind: str) -> list[Json]:
    return [said.payload for said in chunks if said.type == kind]


async def read_and_let_go(run: DurableRun, gate: asyncio.Event) -> list[Chunk]:
    """The chunks of a run whose tasks end only after its first turn."""
    said: list[Chunk] = []
    async for item in run.full_stream:
        said.append(item)
        if item.type == "finish":
            gate.set()
    return said


CALL = '!tool research {"topic": "sun"}'


async def test_a_deferred_call_goes_on_after_its_run(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    run = await world.agent.stream(CALL, memory={"thread": "t", "resource": "u"})
    said = await read(run)
    started = of(said, TASK + "started")[0]
    assert started["toolCallId"] == "call_1"
    task_id = started["taskId"]
    assert of(said, "tool-result")[0]["result"].startswith(f"Background task started. Task ID: {task_id}.")
    assert kinds(said)[-1] == "finish"
    assert await world.status(run) == "finished"
    assert await world.steps(run) == ["llm:0", "tool:call_1", "llm:1"]
    made.gate.set()
    heard = [item async for item in world.agent.stream_background_task(task_id)]
    assert kinds(heard) == [TASK + kind for kind in ("running", "output", "completed")]
    assert heard[-1].payload["result"] == {"topic": "sun"}
    task = await world.agent.get_background_task(task_id)
    assert (task.status, task.result, task.thread_id) == ("completed", {"topic": "sun"}, "t")
    page = await world.agent.list_background_tasks(run_id=run.run_id, statuses=["completed"])
    assert [item.id for item in page.items] == [task_id]
    message = await world.agent.engine.storage.message(f"{run.run_id}-m0")
    assert message is not None
    part = message.parts[0]
    assert isinstance(part, ToolPart) and part.tool_invocation.result == {"topic": "sun"}
    assert (await world.agent.list_active_runs()).total == 0


async def test_until_idle_the_same_run_goes_on(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    run = await world.agent.stream(CALL, until_idle=True, memory={"thread": "t", "resource": "u"})
    said = await read_and_let_go(run, made.gate)
    shown = kinds(said)
    assert shown[shown.index("finish") :] == [
        "finish", TASK + "running", TASK + "output", TASK + "completed", "start", "step-start", "response-metadata",
        "text-start", "text-delta", "text-end", "step-finish", "finish",
    ]  # fmt: skip
    assert [item.index for item in said] == sorted({item.index for item in said})
    assert {item.run_id for item in said} == {run.run_id}
    result = await run.output.result()
    assert result.text.startswith("Tool said: ")
    assert (len(result.steps), result.usage.total_tokens) == (3, 45)
    task_id = of(said, TASK + "started")[0]["taskId"]
    assert await world.steps(run) == [
        "llm:0", "tool:call_1", "llm:1", f"bg:{task_id}@1", f"bg:{task_id}@1/look", "llm:2",
    ]  # fmt: skip
    assert made.begun == ["sun"]
    again = await world.agent.observe(run.run_id)
    assert [dict(item) for item in await read(again)] == [dict(item) for item in said]
    kept = (await world.agent.engine.storage.messages("t")).items
    assert [message.role for message in kept] == ["user", "assistant", "assistant"]


async def test_a_reader_may_come_at_any_place(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    run = await world.agent.stream(CALL, until_idle=True)
    said = await read_and_let_go(run, made.gate)
    whole = [dict(item) for item in said]
    first = [item.type for item in said].index("finish")
    for place in (0, first - 1, first, first + 1, first + 4, len(said) - 2):
        again = await world.agent.observe(run.run_id, offset=said[place].index)
        assert [dict(item) for item in await read(again)] == whole[place + 1 :]
        assert (await again.output.result()).text == await run.output.text
    settled = await world.agent.observe(run.run_id, view="settled")
    assert [dict(item) for item in await read(settled)] == whole


async def test_a_run_that_waits_for_its_tasks_can_be_aborted(lab: tuple[Lab, AgentWorld]) -> None:
    _, world = lab
    run = await world.agent.stream(CALL, until_idle=True)
    said: list[Chunk] = []
    async for item in run.full_stream:
        said.append(item)
        if item.type == "finish" and item.payload.get("backgroundTaskPending"):
            assert await world.agent.abort(run.run_id)
    assert kinds(said)[-2:] == ["abort", "finish"]
    # Its task ends with it, though nobody has let go of the gate.
    task_id = of(said, TASK + "started")[0]["taskId"]
    assert [item.type async for item in world.agent.stream_background_task(task_id)][-1] == TASK + "cancelled"


async def test_a_long_run_id_has_tasks_too(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    made.gate.set()
    said = await read(await world.agent.stream(CALL, run_id="r" * 200))
    task_id = of(said, TASK + "started")[0]["taskId"]
    assert len(task_id) == 37
    assert [item.type async for item in world.agent.stream_background_task(task_id)][-1] == TASK + "completed"


async def test_several_tasks_and_a_failure(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    calls = '!tools research {"topic": "a"} | research {"topic": "nothing"} | research {"topic": "b"}'
    said = await read_and_let_go(await world.agent.stream(calls, until_idle=True), made.gate)
    assert [item["result"] for item in of(said, TASK + "completed")] == [{"topic": "a"}, {"topic": "b"}]
    assert of(said, TASK + "failed")[0]["error"] == {"name": "ValueError", "message": "nothing found"}
    assert len(of(said, "finish")) == 2
    assert sorted(made.begun) == ["a", "b", "nothing"]


async def test_an_awaited_call_is_waited_for_and_tried_again(lab: tuple[Lab, AgentWorld]) -> None:
    _, world = lab
    run = await world.agent.stream('!tool count {"n": 1}')
    said = await read(run)
    shown = kinds(said)
    assert shown[shown.index("tool-call") :][:7] == [
        "tool-call", TASK + "started", TASK + "running", TASK + "output", "tool-result", TASK + "completed",
        "step-finish",
    ]  # fmt: skip
    assert of(said, "tool-result")[0]["result"] == 2
    assert [item["payload"]["payload"]["output"] for item in of(said, TASK + "output")] == [1]
    task_id = of(said, TASK + "started")[0]["taskId"]
    assert await world.steps(run) == [
        "llm:0", "tool:call_1", f"bg:{task_id}", f"bg:{task_id}/look", "tool:call_1@1", "llm:1",
    ]  # fmt: skip
    task = await world.agent.get_background_task(task_id)
    assert (task.retry_count, task.max_retries, task.timeout_ms) == (1, 1, 300_000)


async def test_a_suspended_task_lets_the_run_end_and_is_resumed(lab: tuple[Lab, AgentWorld]) -> None:
    _, world = lab
    run = await world.agent.stream("!tool ask {}", until_idle=True)
    said = await read(run)
    assert kinds(said)[-3:] == ["text-end", "step-finish", "finish"]
    task_id = of(said, TASK + "started")[0]["taskId"]
    task = await world.agent.get_background_task(task_id)
    assert (task.status, task.suspend_payload) == ("suspended", {"question": "code?"})
    with pytest.raises(InvalidOptionError):
        await world.agent.resume_background_task(task_id, {"word": 1})
    await world.agent.resume_background_task(task_id, {"code": 42})
    heard = [item async for item in world.agent.stream_background_task(task_id)]
    assert kinds(heard) == [TASK + kind for kind in ("running", "suspended", "resumed", "completed")]
    assert (await world.agent.get_background_task(task_id)).result == 42
    with pytest.raises(GoneError):
        await world.agent.resume_background_task(task_id, {"code": 42})


async def test_a_task_is_cancelled_and_the_run_is_told(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    run = await world.agent.stream(CALL, until_idle=True)
    said: list[Chunk] = []
    task_id = ""
    async for item in run.full_stream:
        said.append(item)
        if item.type == "finish" and len(of(said, "finish")) == 1:
            while not made.begun:
                await asyncio.sleep(0.01)
            task_id = of(said, TASK + "started")[0]["taskId"]
            with pytest.raises(ConflictError):
                await world.agent.resume_background_task(task_id, {})
            assert await world.agent.cancel_background_task(task_id)
            assert not await world.agent.cancel_background_task(task_id)
    assert len(of(said, TASK + "cancelled")) == 1
    assert "the background task was cancelled" in await run.output.text
    assert [item.type async for item in world.agent.stream_background_task(task_id)][-1] == TASK + "cancelled"
    with pytest.raises(RunNotFoundError):
        await world.agent.get_background_task("nobody")


async def test_all_tasks_are_streamed_together(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    made.gate.set()
    await read(await world.agent.stream('!tools research {"topic": "a"} | research {"topic": "b"}'))
    heard: list[str] = []
    chunks = world.agent.stream_background_tasks()
    async for item in chunks:
        heard.append(item.type.removeprefix(TASK))
        if len(heard) == 6:
            break
    await chunks.aclose()
    assert sorted(heard) == sorted(["running", "output", "completed"] * 2)


async def test_a_run_stops_waiting_after_its_time(lab: tuple[Lab, AgentWorld]) -> None:
    made, world = lab
    run = await world.agent.stream(CALL, until_idle={"maxIdleMs": 300})
    said = await read(run)
    assert kinds(said)[-1] == "finish"
    assert await run.output.finish_reason == "stop"
    assert await world.status(run) == "finished"
    made.gate.set()


async def test_at_most_five_tasks_of_an_agent_go_on_at_once(tmp_path: Path) -> None:
    made = Lab()
    async with agent_world("local", tmp_path, made.agent) as world:
        calls = "!tools " + " | ".join(f'research {{"topic": "{n}"}}' for n in range(7))
        run = await world.agent.stream(calls, until_idle=True)
        said: list[Chunk] = []
        async for item in run.full_stream:
            said.append(item)
            if item.type == "finish" and not made.gate.is_set():
                async with asyncio.timeout(5):
                    while len(made.begun) < 5:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                assert len(made.begun) == 5
                tasks = (await world.agent.list_background_tasks()).items
                assert Counter(task.status for task in tasks) == {"running": 5, "pending": 2}
                made.gate.set()
        assert len(of(said, TASK + "completed")) == 7


async def test_an_event_alone_starts_no_task(tmp_path: Path) -> None:
    made = Lab()
    async with agent_world("local", tmp_path, made.agent) as world:
        run = await world.agent.stream(CALL)
        said = await read(run)
        task_id = of(said, TASK + "started")[0]["taskId"]
        work: dict[str, Json] = {
            **{"taskId": task_id, "agentId": "lab", "toolName": "research", "toolCallId": "call_1", "messageId": ""},
            **{"args": {"topic": "sun"}, "timeout": 1000, "retries": 0, "input": {}, "appId": "office"},
        }
        while not made.begun:
            await asyncio.sleep(0.005)
        for forged in (work, {**work, "taskId": "task-other"}, {**work, "args": {"topic": "gold"}}):
            other = await world.node.trigger("office-agent-tasks", forged)
            with pytest.raises(RunFailedError, match="background task"):
                await other.result()
        await asyncio.sleep(0.1)
        assert made.begun == ["sun"]
        assert (await world.agent.get_background_task(task_id)).status == "running"
        made.gate.set()
        assert [item.type async for item in world.agent.stream_background_task(task_id)][-1] == TASK + "completed"


async def test_a_task_whose_run_fails_for_good_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Lab()
    made.gate.set()
    noted = EngineBook.note

    async def note(self: EngineBook, task_id: str, status: TaskStatus, **more: Json) -> Task:
        if status == "completed":
            raise OSError("disk full")
        return await noted(self, task_id, status, **more)

    monkeypatch.setattr(EngineBook, "note", note)
    async with agent_world("local", tmp_path, made.agent) as world:
        said = await read(await world.agent.stream(CALL, until_idle=True))
        assert of(said, TASK + "failed")[0]["error"]["message"] == "disk full"


async def test_an_agent_that_says_so_has_no_tasks(tmp_path: Path) -> None:
    made = Lab()
    made.gate.set()
    made.agent.background_tasks = BackgroundConfig(disabled=True)
    async with agent_world("local", tmp_path, made.agent) as world:
        said = await read(await world.agent.stream(CALL))
        assert of(said, "tool-result")[0]["result"] == {"topic": "sun"}
        assert "agent-tasks" not in world.app.functions
