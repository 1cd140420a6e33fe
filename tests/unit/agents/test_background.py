"""Background tasks of runs in this process: what is said, what the model sees, and what comes of them."""

from __future__ import annotations

import asyncio

import pytest

from perdure.agents.agent import Agent
from perdure.agents.background import Background, BackgroundConfig
from perdure.agents.chunks import Chunk
from perdure.agents.context import ToolContext
from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.memory import Memory
from perdure.agents.messages import ToolPart
from perdure.agents.tools import Tool, tool
from perdure.model.json import Json
from perdure.testing.script import ToolCall, Turn
from tests.support.agent_runs import chunks_of, kinds, only, said_by, scripted
from tests.support.agent_storage import storing

pytestmark = pytest.mark.timeout(30)


class Lab:
    """A tool that goes on until it is let go, and an agent that has it."""

    def __init__(self, *turns: Turn, background: bool | Background = True, **declared: Json) -> None:
        self.gate = asyncio.Event()
        self.begun: list[Json] = []
        lab = self

        @tool(background=background)
        async def research(topic: str, ctx: ToolContext) -> dict[str, str]:
            """Finds out."""
            lab.begun.append([topic, ctx.attempt, ctx.idempotency_key])
            ctx.writer.write({"progress": "half"})
            await lab.gate.wait()
            if topic == "nothing":
                raise ValueError("nothing found")
            return {"topic": topic}

        self.tool = research
        self.agent, self.model = scripted(*turns, **{"tools": [research], **declared})

    async def until_idle(self, option: Json, **options: Json) -> list[Chunk]:
        """A run whose tasks end only after its first turn."""
        said: list[Chunk] = []
        async for item in (await self.agent.stream("go", until_idle=option, **options)).full_stream:
            said.append(item)
            if item.type == "finish":
                self.gate.set()
        return said


def call(topic: str = "sun", id: str = "c1", **more: Json) -> ToolCall:
    return ToolCall("research", {"topic": topic, **more}, id)


def task_of(chunks: list[Chunk]) -> str:
    found: str = only(chunks, "background-task-started")[0]["taskId"]
    return found


async def test_a_deferred_call_has_a_placeholder_and_the_run_goes_on() -> None:
    lab = Lab([call()], "I am on it")
    said = await said_by(lab.agent)
    assert kinds(said).endswith(
        "tool-call background-task-started tool-result step-finish step-start response-metadata "
        "text-start text-delta text-end step-finish finish"
    )
    placeholder = only(said, "tool-result")[0]
    task_id = task_of(said)
    assert placeholder["result"].startswith(f"Background task started. Task ID: {task_id}.")
    assert placeholder["providerMetadata"]["mastra"]["backgroundTask"] == {"taskId": task_id, "status": "running"}
    task = await lab.agent.get_background_task(task_id)
    assert (task.status, task.run_id, task.tool_call_id, task.args) == ("running", "run-0", "c1", {"topic": "sun"})
    lab.gate.set()
    heard = [item async for item in lab.agent.stream_background_task(task_id)]
    assert [item.type for item in heard] == [f"background-task-{kind}" for kind in ("running", "output", "completed")]
    assert heard[-1].payload["result"] == {"topic": "sun"}
    assert (await lab.agent.get_background_task(task_id)).result == {"topic": "sun"}
    assert lab.begun == [["sun", 0, "run-0/tool:c1"]]


async def test_until_idle_a_continuation_has_the_real_result() -> None:
    lab = Lab([call()], "I am on it", "It is a star")
    run = await lab.agent.stream("go", until_idle=True)
    reading = asyncio.ensure_future(chunks_of(run))
    while not lab.begun:
        await asyncio.sleep(0)
    lab.gate.set()
    said = await reading
    shown = kinds(said).split()
    first = shown.index("finish")
    assert shown[first:] == [
        "finish", "background-task-running", "background-task-output", "background-task-completed", "start",
        "step-start", "response-metadata", "text-start", "text-delta", "text-end", "step-finish", "finish",
    ]  # fmt: skip
    assert only(said, "finish")[0]["backgroundTaskPending"] is True
    assert "backgroundTaskPending" not in only(said, "finish")[1]
    assert [item.index for item in said] == list(range(len(said)))
    assert only(said, "background-task-output")[0]["payload"]["payload"]["output"] == {"progress": "half"}
    prompt = lab.model.prompts[2]
    parts = [part for message in prompt.messages for part in message.parts if isinstance(part, ToolPart)]
    assert [part.tool_invocation.result for part in parts] == [{"topic": "sun"}]
    assert "Completed: c1 (research)" in prompt.messages[-1].text
    result = await run.output.result()
    assert (result.text, result.finish_reason, len(result.steps)) == ("It is a star", "stop", 3)
    assert result.usage.total_tokens == 45


async def test_until_idle_waits_for_all_and_tells_of_failures() -> None:
    lab = Lab([call(id="c1"), call("nothing", "c2")], "two on it", "one of two")
    said = await lab.until_idle({"max_idle_ms": 5_000})
    assert sorted(item.type for item in said if item.type.startswith("background-task-") and "ed" in item.type) == [
        "background-task-completed", "background-task-failed", "background-task-started", "background-task-started",
    ]  # fmt: skip
    assert only(said, "background-task-failed")[0]["error"] == {"name": "ValueError", "message": "nothing found"}
    told = lab.model.prompts[2].messages[-1].text
    assert "Completed: c1" in told and "Failed: c2 (research)" in told and "nothing found" in told
    failed = [
        part.tool_invocation.state
        for message in lab.model.prompts[2].messages
        for part in message.parts
        if isinstance(part, ToolPart)
    ]
    assert failed == ["result", "output-error"]


async def test_until_idle_gives_up_after_its_time() -> None:
    lab = Lab([call()], "I am on it")
    run = await lab.agent.stream("go", until_idle={"max_idle_ms": 20})
    said = await chunks_of(run)
    assert kinds(said).endswith("step-finish finish finish")
    assert (await run.output.result()).finish_reason == "stop"
    assert (await lab.agent.get_background_task(task_of(said))).status == "running"
    assert await lab.agent.cancel_background_task(task_of(said))


async def test_a_result_comes_in_between_two_steps() -> None:
    lab = Lab([call()], [ToolCall("wait", {}, "c2")], "done")

    async def wait(args: dict[str, Json], ctx: ToolContext) -> str:
        lab.gate.set()
        task = (await agent.list_background_tasks()).items[0]
        async for _ in agent.stream_background_task(task.id):
            pass
        return "waited"

    agent = Agent("a1", model=lab.model, tools=[lab.tool, Tool("wait", "Waits.", {"type": "object"}, wait)])
    said = await said_by(agent)
    shown = kinds(said).split()
    assert shown[shown.index("background-task-completed") + 1 :][:2] == ["step-finish", "step-start"]
    assert shown.count("finish") == 1
    parts = [part for message in lab.model.prompts[2].messages for part in message.parts if isinstance(part, ToolPart)]
    assert parts[0].tool_invocation.result == {"topic": "sun"}
    assert "Completed: c1" in lab.model.prompts[2].messages[-1].text
    assert "Completed" not in lab.model.prompts[1].messages[-1].text


async def test_an_awaited_call_is_waited_for() -> None:
    lab = Lab([call()], "It is a star", background=Background("awaited"))
    lab.gate.set()
    said = await said_by(lab.agent)
    shown = kinds(said).split()
    assert shown[shown.index("tool-call") :][:7] == [
        "tool-call", "background-task-started", "background-task-running", "background-task-output", "tool-result",
        "background-task-completed", "step-finish",
    ]  # fmt: skip
    assert only(said, "tool-result")[0]["result"] == {"topic": "sun"}
    assert only(said, "tool-result")[0]["providerMetadata"]["mastra"]["backgroundTask"]["status"] == "completed"
    parts = [part for message in lab.model.prompts[1].messages for part in message.parts if isinstance(part, ToolPart)]
    assert parts[0].tool_invocation.result == {"topic": "sun"}


async def test_an_awaited_call_that_takes_too_long_is_deferred() -> None:
    config = BackgroundConfig(wait_timeout=20)
    lab = Lab([call()], "later", background=Background("awaited"), background_tasks=config)
    said = await said_by(lab.agent)
    assert only(said, "tool-result")[0]["result"].startswith("Background task started.")
    assert await lab.agent.cancel_background_task(task_of(said))


async def test_the_model_chooses_how_a_call_is_carried_out() -> None:
    lab = Lab([call(_background={"disposition": "foreground"})], "done")
    lab.gate.set()
    said = await said_by(lab.agent)
    assert not only(said, "background-task-started")
    assert only(said, "tool-result")[0]["args"] == {"topic": "sun"}
    schema = lab.model.prompts[0].tools[0].schema
    assert schema["properties"]["_background"]["properties"]["disposition"]["enum"][0] == "foreground"
    assert schema["required"] == ["topic"]
    assert any("- research (default: background)" in text for text in lab.model.prompts[0].system)

    lab = Lab([call(_background={"enabled": True, "timeoutMs": 5, "maxRetries": 1})], "done", background=False)
    lab.gate.set()
    said = await said_by(lab.agent)
    assert not only(said, "background-task-started")
    assert only(said, "tool-result")[0]["result"] == {"topic": "sun"}
    assert "_background" not in lab.model.prompts[0].tools[0].schema["properties"]


async def test_a_task_is_tried_again_and_has_its_time() -> None:
    tried: list[int] = []

    @tool(background=Background(retries=2))
    async def flaky(ctx: ToolContext) -> str:
        """Works at the third time."""
        tried.append(ctx.attempt)
        ctx.writer.write(ctx.attempt)
        if ctx.attempt < 2:
            raise ValueError("not yet")
        return "at last"

    @tool(background=Background(timeout=10))
    async def slow() -> str:
        """Takes for ever."""
        await asyncio.Event().wait()
        return ""

    agent, _ = scripted([ToolCall("flaky", {}, "c1"), ToolCall("slow", {}, "c2")], "on it", "done", tools=[flaky, slow])
    said = await said_by(agent, until_idle=True)
    assert tried == [0, 1, 2]
    tasks = {task.tool_name: task for task in (await agent.list_background_tasks()).items}
    assert (tasks["flaky"].status, tasks["flaky"].retry_count, tasks["flaky"].max_retries) == ("completed", 2, 2)
    assert tasks["slow"].status == "timed_out"
    assert "did not end within 10 ms" in only(said, "background-task-failed")[0]["error"]["message"]
    assert [payload["payload"]["payload"]["output"] for payload in only(said, "background-task-output")] == [2]


async def test_a_task_that_suspends_does_not_hold_the_run_and_goes_on_when_resumed() -> None:
    @tool(background=True)
    async def ask(ctx: ToolContext) -> Json:
        """Asks."""
        if ctx.resume_data is None:
            ctx.suspend({"question": "ok?"})
        return ctx.resume_data

    agent, _ = scripted([ToolCall("ask", {}, "c1")], "on it", tools=[ask])
    said = await said_by(agent, until_idle=True)
    task_id = task_of(said)
    assert kinds(said).endswith("finish finish")
    task = await agent.get_background_task(task_id)
    assert (task.status, task.suspend_payload) == ("suspended", {"question": "ok?"})
    await agent.resume_background_task(task_id, {"answer": "yes"})
    heard = [item.type async for item in agent.stream_background_task(task_id)]
    assert heard == [f"background-task-{kind}" for kind in ("running", "suspended", "resumed", "completed")]
    assert (await agent.get_background_task(task_id)).result == {"answer": "yes"}
    with pytest.raises(GoneError):
        await agent.resume_background_task(task_id, {})


async def test_tasks_are_listed_cancelled_and_streamed_together() -> None:
    lab = Lab([call(id="c1"), call("moon", "c2")], "two", [call("mars", "c1")], "one")
    heard: list[str] = []

    async def listen() -> None:
        async for item in lab.agent.stream_background_tasks():
            heard.append(f"{item.payload['toolCallId']} {item.type.removeprefix('background-task-')}")

    listening = asyncio.ensure_future(listen())
    await said_by(lab.agent)
    await said_by(lab.agent)
    page = await lab.agent.list_background_tasks(run_id="run-0")
    assert [task.args["topic"] for task in page.items] == ["sun", "moon"]
    page = await lab.agent.list_background_tasks(descending=True, per_page=2)
    assert ([task.args["topic"] for task in page.items], page.total, page.has_more) == (["mars", "moon"], 3, True)
    assert await lab.agent.cancel_background_task(page.items[1].id)
    assert not await lab.agent.cancel_background_task(page.items[1].id)
    with pytest.raises(GoneError):
        await lab.agent.resume_background_task(page.items[1].id, {})
    with pytest.raises(ConflictError):
        await lab.agent.resume_background_task(page.items[0].id, {})
    lab.gate.set()
    while len(heard) < 9:
        await asyncio.sleep(0.001)
    listening.cancel()
    assert sorted(heard) == sorted(
        [f"c1 {kind}" for kind in ("running", "output", "completed")] * 2
        + [f"c2 {kind}" for kind in ("running", "output", "cancelled")]
    )
    with pytest.raises(RunNotFoundError):
        await lab.agent.get_background_task("nobody")


async def test_what_a_task_came_to_stands_in_the_thread() -> None:
    async with storing() as storage:
        lab = Lab([call()], "I am on it", "It was a star", memory=Memory(storage=storage))
        memory: dict[str, Json] = {"thread": "t", "resource": "u"}
        said = await said_by(lab.agent, memory=memory)
        message = await storage.message("run-0-m0")
        assert message is not None and "Background task started" in str(message.parts)
        lab.gate.set()
        async for _ in lab.agent.stream_background_task(task_of(said)):
            pass
        message = await storage.message("run-0-m0")
        assert message is not None
        part = message.parts[0]
        assert isinstance(part, ToolPart)
        assert part.tool_invocation.result == {"topic": "sun"}
        assert part.provider_metadata is not None
        assert part.provider_metadata["mastra"]["backgroundTask"]["status"] == "completed"
        assert message.metadata["backgroundTasks"]["c1"]["taskId"] == task_of(said)
        await said_by(lab.agent, "and?", memory=memory)
        parts = [part for item in lab.model.prompts[-1].messages for part in item.parts if isinstance(part, ToolPart)]
        assert parts[0].tool_invocation.result == {"topic": "sun"}


async def test_a_continuation_keeps_what_belongs_into_the_thread() -> None:
    async with storing() as storage:
        lab = Lab([call()], "I am on it", "It is a star", memory=Memory(storage=storage))
        await lab.until_idle(True, memory={"thread": "t", "resource": "u"})
        kept = (await storage.messages("t")).items
        assert [item.text for item in kept] == ["go", "I am on it", "It is a star"]
        part = kept[1].parts[0]
        assert isinstance(part, ToolPart) and part.tool_invocation.result == {"topic": "sun"}


@pytest.mark.parametrize("idle", [True, {"max_idle_ms": 20}])
async def test_the_work_of_the_end_is_done_once(idle: Json) -> None:
    async with storing() as storage:
        memory = Memory(storage=storage, generate_title=True)
        lab = Lab([call()], "I am on it", *(["It is a star"] if idle is True else []), "The sun", memory=memory)
        scope: dict[str, Json] = {"thread": "t", "resource": "u"}
        if idle is True:
            said = await lab.until_idle(idle, memory=scope)
        else:
            said = await said_by(lab.agent, until_idle=idle, memory=scope)
            await lab.agent.cancel_background_task(task_of(said))
        assert kinds(said).split().count("finish") == 2
        assert kinds(said).split().count("step-finish") == (3 if idle is True else 2)
        thread = await storage.thread("t")
        assert thread is not None and thread.title == "The sun"


async def test_arguments_that_do_not_fit_make_no_task() -> None:
    lab = Lab([ToolCall("research", {"subject": 1}, "c1")], "I see")
    said = await said_by(lab.agent)
    assert only(said, "tool-result")[0]["result"]["error"] is True
    assert not only(said, "background-task-started")
    assert (await lab.agent.list_background_tasks()).total == 0


async def test_a_call_that_needs_approval_is_a_task_once_it_is_approved() -> None:
    lab = Lab([call()], "on it", "done")
    lab.tool.requires_approval = True
    said = await said_by(lab.agent, until_idle=True)
    assert kinds(said).endswith("tool-call tool-call-approval suspended")
    lab.gate.set()
    said = await chunks_of(await lab.agent.approve_tool_call("run-0", "c1"))
    assert only(said, "background-task-completed")[0]["result"] == {"topic": "sun"}
    assert lab.begun[0][0] == "sun"


async def test_a_continuation_has_steps_of_its_own() -> None:
    lab = Lab([call()], "on it", [call("moon", "c2")], "and on it", max_steps=2)
    said = await lab.until_idle(True)
    assert [item["stepResult"]["reason"] for item in only(said, "finish")][-1] in ("stop", "max-steps")
    assert lab.begun[1][0] == "moon"
    assert len(only(said, "step-start")) == 4


async def test_tools_that_only_a_run_has_are_carried_out_in_it() -> None:
    @tool(background=True)
    def theirs() -> str:
        """Of this run alone."""
        return "mine"

    agent, model = scripted([ToolCall("theirs", {}, "c1")], "done", background_tasks=BackgroundConfig("all"))
    said = await said_by(agent, toolsets=[[theirs]])
    assert only(said, "tool-result")[0]["result"] == "mine"
    assert "_background" not in model.prompts[0].tools[0].schema.get("properties", {})


async def test_a_sub_agent_may_be_a_task() -> None:
    helper, _ = scripted("42", description="Knows numbers.")
    config = BackgroundConfig({"agent-helper": True})
    agent, _ = scripted(
        [ToolCall("agent-helper", {"prompt": "6 * 7?"}, "c1")], "on it", "It is 42",
        agents={"helper": helper}, background_tasks=config,
    )  # fmt: skip
    said = await said_by(agent, until_idle=True)
    assert only(said, "background-task-completed")[0]["result"]["text"] == "42"
    inner = [payload["payload"]["payload"]["output"]["type"] for payload in only(said, "background-task-output")]
    assert inner[0] == "start" and inner[-1] == "finish"
