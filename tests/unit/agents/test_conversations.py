"""Runs with a memory and an inbox: what the model is told of earlier, what is kept, what comes in meanwhile."""

from __future__ import annotations

from perdure.agents.bare import BareJournal, ChunkLog
from perdure.agents.context import ToolContext
from perdure.agents.errors import AgentError
from perdure.agents.inbox import RunInbox
from perdure.agents.journal import Delegation
from perdure.agents.loop import run_loop
from perdure.agents.memory import Memory
from perdure.agents.messages import DataPart, Message, ToolPart
from perdure.agents.ports import Arrived, Services
from perdure.agents.recollection import recollection_of
from perdure.agents.signals import parse_signal
from perdure.agents.starting import prepare_start
from perdure.agents.storage import AgentStorage
from perdure.agents.tools import Tool, tool
from perdure.model.json import Json
from perdure.testing.models import ScriptedModel
from perdure.testing.script import Text, ToolCall
from tests.support.agent_runs import kinds, no_pause, only, said_by, scripted
from tests.support.agent_storage import a_run, storing

THREAD: Json = {"thread": "t", "resource": "u"}


@tool
def add(x: int) -> int:
    """Adds."""
    return x + 1


async def kept(storage: AgentStorage) -> list[Message]:
    return (await storage.messages("t")).items


async def test_history_is_told_and_what_was_said_is_kept() -> None:
    async with storing() as storage:
        agent, model = scripted(
            [Text("let me"), ToolCall("add", {"x": 1}, "c1")], "two", "again", tools=[add], memory=Memory().use(storage)
        )
        await agent.generate("what is 1 + 1?", memory=THREAD)
        stored = await kept(storage)
        assert [(message.id, message.role) for message in stored] == [
            ("run-0-u0", "user"),
            ("run-0-m0", "assistant"),
        ]
        assert stored[1].step_texts == ["let me", "two"]
        assert stored[1].metadata == {"modelId": "scripted", "provider": "test"}
        call = stored[1].parts[1]
        assert isinstance(call, ToolPart)
        assert (call.tool_invocation.state, call.tool_invocation.result) == ("result", 2)
        await agent.generate("and again?", memory=THREAD)
        told = [message.text for message in model.prompts[2].messages]
        assert told == ["what is 1 + 1?", "let metwo", "and again?"]
        assert [message.text for message in model.prompts[1].messages] == ["what is 1 + 1?", "let me"]


async def test_a_question_stands_in_the_thread_while_it_is_open() -> None:
    @tool(requires_approval=True)
    def pay(x: int) -> int:
        """Pays."""
        return x

    async with storing() as storage:
        agent, _ = scripted([ToolCall("pay", {"x": 1}, "c1")], "paid", tools=[pay], memory=Memory().use(storage))
        await agent.generate("go", memory=THREAD)
        asked = (await kept(storage))[-1]
        part = asked.parts[0]
        assert isinstance(part, ToolPart)
        assert part.tool_invocation.state == "call"
        pending = asked.metadata["pendingToolApprovals"]["c1"]
        assert (pending["toolName"], pending["args"], pending["type"], pending["runId"]) == (
            "pay",
            {"x": 1},
            "approval",
            "run-0",
        )
        await agent.approve_tool_call_generate("run-0")
        _, answered, after = await kept(storage)
        assert answered.metadata == {"modelId": "scripted", "provider": "test", "mastra": {"responseBoundary": True}}
        assert (after.id, after.text) == ("run-0-m1", "paid")
        part = answered.parts[0]
        assert isinstance(part, ToolPart)
        assert part.tool_invocation.state == "result"
        assert part.tool_invocation.approval is not None


async def test_data_that_a_tool_says_is_kept_unless_it_is_transient() -> None:
    @tool
    def talks(ctx: ToolContext) -> str:
        """Says something."""
        ctx.writer.custom("progress", {"percent": 10}, id="p")
        ctx.writer.custom("progress", {"percent": 90}, id="p")
        ctx.writer.custom("note", "passing", transient=True)
        return "ok"

    async with storing() as storage:
        agent, _ = scripted([ToolCall("talks", {}, "c1")], "done", tools=[talks], memory=Memory().use(storage))
        await agent.generate("go", memory=THREAD)
        parts = (await kept(storage))[1].parts
        assert parts[1] == DataPart({"type": "data-progress", "data": {"percent": 90}, "id": "p"})


async def test_a_foreign_thread_is_refused() -> None:
    async with storing() as storage:
        await storage.create_thread("somebody", id="t")
        agent, model = scripted("never", memory=Memory().use(storage))
        said = await said_by(agent, memory=THREAD)
        assert kinds(said) == "start step-start error step-finish finish"
        assert only(said, "error")[0]["error"]["name"] == "AccessDeniedError"
        assert model.calls == 0


async def test_notes_and_titles() -> None:
    async with storing() as storage:
        memory = Memory(working_memory=True, generate_title=True).use(storage)
        notes = [ToolCall("updateWorkingMemory", {"memory": "# Ada"}, "c1")]
        agent, model = scripted(notes, "noted", "A fine title", memory=memory)
        said = await said_by(agent, "I am Ada", memory=THREAD)
        assert only(said, "tool-error") == []
        assert await memory.working_memory("t", "u") == "# Ada"
        thread = await storage.thread("t")
        assert thread is not None
        assert thread.title == "A fine title"
        assert kinds(said).endswith("step-finish finish")
        assert "text-delta" in kinds(said)
        assert len([item for item in said if item.type == "finish"]) == 1
        assert model.calls == 3


async def signalled(storage: AgentStorage, text: str, **more: Json) -> None:
    body = {"type": "user-message", "contents": text, **more}
    signal = parse_signal(body, ids=lambda: f"s-{text}", now=1)
    assert await storage.put_signal("run-0", signal.id, signal.to_json())


async def never(journal: BareJournal, delegation: Delegation) -> Json:
    raise AgentError(delegation.key)


async def test_signals_enter_between_model_calls_and_before_the_end() -> None:
    async with storing() as storage:

        @tool
        async def work() -> str:
            """Meanwhile somebody says something."""
            await signalled(storage, "hurry")
            return "ok"

        def answer(asked: Json) -> Json:
            if asked.request == 0:
                return [ToolCall("work", {}, "c1")]
            return f"answer {asked.request}"

        agent, _ = scripted(tools=[work], memory=Memory().use(storage))
        start = prepare_start(agent, "go", {"memory": THREAD}, new_id="run-0", now=0)
        await storage.put_run(a_run("run-0"))
        journal = BareJournal("run-0", ChunkLog(), lambda: 0, delegate=never, sleep=no_pause)

        class Late(RunInbox):
            """Somebody writes just before the run would end."""

            async def close(self, step_id: str) -> list[Arrived]:
                if step_id == "llm:1":
                    await signalled(storage, "wait")
                return await super().close(step_id)

        model = ScriptedModel(answer)
        start.closures.model = model
        services = Services(recollection_of(agent, start.request), Late(storage, start.request), start.closures)
        result = await run_loop(agent, journal, start.request, services)
        assert result.text == "answer 2"
        said = journal.log.chunks
        assert kinds(said).count("data-user-message step-finish step-start") == 2
        assert [message.text for message in model.prompts[1].messages][-1] == "hurry"
        assert [message.text for message in model.prompts[2].messages][-2:] == ["answer 1", "wait"]
        assert [message.role for message in await kept(storage)] == [
            *("user", "assistant", "signal", "assistant", "signal", "assistant"),
        ]
        assert not await storage.put_signal("run-0", "late", {"type": "x", "contents": "late"})


async def test_a_call_of_a_tool_of_the_memory() -> None:
    async with storing() as storage:
        memory = Memory(working_memory=True).use(storage)
        agent, _ = scripted([ToolCall("updateWorkingMemory", {"memory": "x"}, "c1")], "ok", memory=memory)
        tools: dict[str, Tool] = await agent.list_tools()
        assert tools == {}
        result = await agent.generate("go", memory=THREAD)
        assert len(result.tool_results) == 1


async def test_results_of_the_caller_go_into_the_calls_of_the_thread() -> None:
    async with storing() as storage:
        agent, model = scripted([ToolCall("browser", {"x": 1}, "c1")], "red it is", memory=Memory().use(storage))
        shown: Json = {"browser": {"description": "Shows.", "inputSchema": {"type": "object"}}}
        first = await agent.generate("what colour?", memory=THREAD, client_tools=shown)
        assert first.finish_reason == "tool-calls"
        result = {"type": "tool-result", "toolCallId": "c1", "toolName": "browser", "input": {"x": 1}, "result": "red"}
        second = await agent.generate([{"role": "tool", "content": [result]}], memory=THREAD, client_tools=shown)
        assert second.text == "red it is"
        told = [part for message in model.prompts[1].messages for part in message.parts if isinstance(part, ToolPart)]
        assert [(part.tool_invocation.state, part.tool_invocation.result) for part in told] == [("result", "red")]
        stored = await kept(storage)
        assert [message.role for message in stored] == ["user", "assistant", "assistant"]
        call = stored[1].parts[0]
        assert isinstance(call, ToolPart)
        assert call.tool_invocation.result == "red"


async def test_the_model_may_resume_what_suspended_in_an_earlier_turn() -> None:
    @tool(resume_schema={"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]})
    def paint(ctx: ToolContext) -> str:
        """Paints."""
        if ctx.resume_data is None:
            ctx.suspend({"question": "color?"})
        return f"painted {ctx.resume_data['color']}"

    again = ToolCall("paint", {"resumeData": {"color": "red"}}, "c2")
    agent, model = scripted([ToolCall("paint", {}, "c1")], [again], "done", tools=[paint])
    assert (await agent.generate("paint it")).finish_reason == "suspended"
    result = await agent.generate("red, please", auto_resume_suspended_tools=True)
    assert result.tool_results[0].payload["result"] == "painted red"
    assert "resumeData" in model.prompts[1].tools[0].schema["properties"]
    assert "resumeData" in model.prompts[1].system[0]
    assert "resumeData" not in model.prompts[0].tools[0].schema["properties"]
