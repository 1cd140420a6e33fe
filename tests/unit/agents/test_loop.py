"""The loop over the journal of this process: what is said, in which order, and what the model is told."""

from __future__ import annotations

import asyncio

import pytest

from perdure.agents.agent import AgentFailedError
from perdure.agents.context import ToolContext
from perdure.agents.errors import ConflictError
from perdure.agents.messages import ToolPart, Usage
from perdure.agents.tools import client_tool, tool
from perdure.model.errors import NonRetriableError
from perdure.testing.script import Break, Fail, File, Finish, Piece, Reasoning, Source, Text, ToolCall
from tests.support.agent_runs import chunks_of, kinds, only, said_by, scripted

CALL = "tool-call-input-streaming-start tool-call-delta tool-call-input-streaming-end tool-call"
TEXT = "text-start text-delta text-end"


@tool
def add(x: int, y: int = 0) -> dict[str, int]:
    """Adds two numbers."""
    return {"sum": x + y}


@tool
async def boom() -> str:
    """Fails."""
    raise ValueError("tool exploded")


def calls(*wanted: ToolCall) -> list[ToolCall]:
    return list(wanted)


async def test_plain_text() -> None:
    agent, model = scripted("Hello durable world", instructions="be brief")
    said = await said_by(agent)
    assert kinds(said) == f"start step-start response-metadata {TEXT} step-finish finish"
    assert [chunk.index for chunk in said] == list(range(len(said)))
    assert said[0].payload == {"id": "a1", "messageId": "run-0-m0"}
    assert said[1].payload["stepId"] == "llm:0"
    assert said[-2].payload["stepResult"]["isContinued"] is False
    assert said[-1].payload["stepResult"]["reason"] == "stop"
    assert said[-1].payload["output"]["usage"] == {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    assert model.prompts[0].system == ["be brief"]
    assert [message.text for message in model.prompts[0].messages] == ["go"]


async def test_one_tool() -> None:
    agent, model = scripted([Text("let me add"), ToolCall("add", {"x": 3}, "c1")], "sum is 3", tools=[add])
    said = await said_by(agent)
    head = f"start step-start response-metadata {TEXT} {CALL} tool-result step-finish"
    assert kinds(said) == f"{head} step-start response-metadata {TEXT} step-finish finish"
    assert only(said, "tool-result") == [
        {"toolCallId": "c1", "toolName": "add", "args": {"x": 3}, "result": {"sum": 3}}
    ]
    first, last = only(said, "step-finish")
    assert (first["stepResult"]["reason"], first["stepResult"]["isContinued"]) == ("tool-calls", True)
    assert (last["messageId"], last["stepResult"]["isContinued"]) == ("run-0-m0", False)
    assert only(said, "finish")[0]["output"]["usage"]["totalTokens"] == 30
    told = model.prompts[1].messages[-1].parts[-1]
    assert isinstance(told, ToolPart)
    assert (told.tool_invocation.state, told.tool_invocation.result) == ("result", {"sum": 3})


async def test_parallel_tools_are_told_as_they_come_and_folded_in_call_order() -> None:
    first_may_end = asyncio.Event()

    @tool
    async def slow() -> str:
        """Waits for the other one."""
        await first_may_end.wait()
        return "slow"

    @tool
    async def quick() -> str:
        """Lets the other one end."""
        first_may_end.set()
        return "quick"

    agent, model = scripted(calls(ToolCall("slow", {}, "c1"), ToolCall("quick", {}, "c2")), "ok", tools=[slow, quick])
    said = await said_by(agent)
    assert [payload["toolCallId"] for payload in only(said, "tool-result")] == ["c2", "c1"]
    parts = [part for part in model.prompts[1].messages[-1].parts if isinstance(part, ToolPart)]
    assert [part.tool_invocation.result for part in parts] == ["slow", "quick"]
    assert kinds(said).count("step-finish") == 2


async def test_concurrency_is_limited() -> None:
    running, most = 0, 0

    @tool
    async def work(n: int) -> int:
        """Counts how many run beside it."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    agent, _ = scripted([ToolCall("work", {"n": n}, f"c{n}") for n in range(8)], "ok", tools=[work])
    await agent.generate("go", tool_call_concurrency=3)
    assert most == 3


async def test_an_error_of_a_tool_goes_to_the_model_without_its_stack() -> None:
    agent, model = scripted(calls(ToolCall("boom", {}, "c1")), "it failed", tools=[boom])
    said = await said_by(agent)
    assert only(said, "tool-error")[0]["error"] == {"name": "ValueError", "message": "tool exploded"}
    told = model.prompts[1].messages[-1].parts[-1]
    assert isinstance(told, ToolPart)
    assert (told.tool_invocation.state, told.tool_invocation.error_text) == ("output-error", "tool exploded")
    assert only(said, "finish")[0]["stepResult"]["reason"] == "stop"


async def test_an_unknown_tool_is_told_with_the_names_there_are() -> None:
    agent, _ = scripted(calls(ToolCall("nope", {}, "c1")), "no such tool", tools=[add, boom])
    error = only(await said_by(agent), "tool-error")[0]["error"]
    assert error["name"] == "ToolNotFoundError"
    assert 'Tool "nope" not found. Available tools: add, boom.' in error["message"]


async def test_wrong_arguments_are_a_result_that_the_model_can_mend() -> None:
    agent, _ = scripted(calls(ToolCall("add", {"x": "three"}, "c1")), "sorry", tools=[add])
    result = only(await said_by(agent), "tool-result")[0]["result"]
    assert result["error"] is True
    wrong = {"errors": ["Expected `int`, got `str`"], "fields": {}}
    assert result["validationErrors"] == {"errors": [], "fields": {"x": wrong}}
    agent, _ = scripted(calls(ToolCall("add", "{oops", "c1")), "sorry", tools=[add])
    assert only(await said_by(agent), "tool-result")[0]["result"]["error"] is True


async def test_a_model_that_fails_for_good() -> None:
    agent, _ = scripted([Fail("no such model", 400)])
    said = await said_by(agent)
    assert kinds(said) == "start step-start error step-finish finish"
    assert only(said, "finish")[0]["stepResult"]["reason"] == "error"
    assert "stack" not in only(said, "error")[0]["error"]
    agent, _ = scripted([Fail("no such model", 400)])
    with pytest.raises(AgentFailedError, match="no such model"):
        await agent.generate("go")


async def test_a_retry_takes_back_what_the_failed_attempt_said() -> None:
    agent, model = scripted([Text("partial answer"), Break()], "full answer")
    run = await agent.stream("go")
    said = await chunks_of(run)
    rollback = only(said, "step-rollback")
    assert rollback == [{"stepId": "llm:0", "fromIndex": 0, "attempt": 0}]
    assert await run.output.text == "full answer"
    assert len(await run.output.steps) == 1
    assert model.calls == 2
    assert kinds(said).endswith(f"step-rollback start step-start response-metadata {TEXT} step-finish finish")


async def test_the_last_attempt_keeps_what_it_said() -> None:
    broken: list[Piece] = [Text("partial answer"), Break()]
    agent, model = scripted(broken, broken, broken)
    run = await agent.stream("go")
    result = await run.output.result()
    assert model.calls == 3
    assert (result.text, result.finish_reason) == ("partial answer", "error")
    assert result.error is not None
    assert result.error["code"] == "connection"


async def test_fallback_models() -> None:
    _, first = scripted([Fail("busy", 503)])
    _, second = scripted("from the second")
    agent, _ = scripted(model=[{"model": first, "max_retries": 0}, second])
    assert (await agent.generate("go")).text == "from the second"


async def test_max_steps_is_said() -> None:
    agent, model = scripted(*[calls(ToolCall("add", {"x": n})) for n in range(9)], tools=[add])
    said = await said_by(agent)
    assert model.calls == 5
    assert only(said, "finish")[0]["stepResult"]["reason"] == "max-steps"
    assert only(said, "warning")[0]["code"] == "max-steps"
    assert kinds(said).endswith("tool-result step-finish warning finish")
    result = await agent.generate("go", max_steps=1)
    assert (result.finish_reason, len(result.steps)) == ("max-steps", 1)


async def test_client_tools_end_the_run() -> None:
    agent, model = scripted(calls(ToolCall("browser", {"x": 1}, "c1")))
    options = {"browser": {"id": "b", "description": "Shows.", "inputSchema": {"type": "object"}}}
    said = await said_by(agent, client_tools=options)
    assert kinds(said) == f"start step-start response-metadata {CALL} step-finish finish"
    assert only(said, "finish")[0]["stepResult"]["reason"] == "tool-calls"
    assert model.prompts[0].tools[0].name == "browser"


async def test_client_tools_beside_our_own() -> None:
    shows = client_tool("browser", "Shows.", {"type": "object"})
    agent, model = scripted(calls(ToolCall("add", {"x": 1}, "c1"), ToolCall("browser", {}, "c2")), tools=[add, shows])
    said = await said_by(agent)
    assert kinds(said).endswith("tool-result step-finish finish")
    assert only(said, "finish")[0]["stepResult"]["reason"] == "tool-calls"
    assert model.calls == 1


async def test_reasoning_sources_and_files() -> None:
    found = Source("https://example.org", "An example")
    agent, _ = scripted(
        [Reasoning("let me think"), found, File("aGk=", "text/plain"), Text("done"), Finish("tool-calls")]
    )
    result = await agent.generate("go")
    assert (result.reasoning_text, result.text) == ("let me think", "done")
    assert result.sources[0]["url"] == "https://example.org"
    assert (result.files[0].data, result.files[0].mime_type) == ("aGk=", "text/plain")
    assert result.finish_reason == "stop"


async def test_repeated_calls_are_refused() -> None:
    agent, _ = scripted(*[calls(ToolCall("add", {"x": 1}))] * 4, "enough", tools=[add])
    said = await said_by(agent, max_steps=9, repeated_call_limit=3)
    assert len(only(said, "tool-result")) == 3
    assert only(said, "tool-error")[0]["error"]["code"] == "REPEATED_CALL"


async def test_a_tool_is_tried_again_as_often_as_it_allows() -> None:
    attempts: list[tuple[int, str]] = []

    @tool(retries=2)
    async def flaky(ctx: ToolContext) -> str:
        """Fails twice."""
        attempts.append((ctx.attempt, ctx.idempotency_key))
        ctx.writer.write(f"attempt {ctx.attempt}")
        if ctx.attempt < 2:
            raise ConnectionError("try again")
        return "done"

    agent, _ = scripted(calls(ToolCall("flaky", {}, "c1")), "ok", tools=[flaky])
    said = await said_by(agent)
    assert attempts == [(n, "run-0/tool:c1") for n in range(3)]
    assert only(said, "tool-result")[0]["result"] == "done"
    assert [payload["stepId"] for payload in only(said, "step-rollback")] == ["tool:c1"] * 2


async def test_an_error_that_cannot_be_mended_is_not_tried_again() -> None:
    count = 0

    @tool(retries=5)
    def hopeless() -> str:
        """Fails for good."""
        nonlocal count
        count += 1
        raise NonRetriableError("no")

    agent, _ = scripted(calls(ToolCall("hopeless", {}, "c1")), "ok", tools=[hopeless])
    await agent.generate("go")
    assert count == 1


async def test_a_tool_that_takes_too_long() -> None:
    @tool(timeout=0.01)
    async def forever() -> None:
        """Never ends."""
        await asyncio.Event().wait()

    agent, _ = scripted(calls(ToolCall("forever", {}, "c1")), "ok", tools=[forever])
    error = only(await said_by(agent), "tool-error")[0]["error"]
    assert error == {"name": "TimeoutError", "message": "forever did not end within 10 ms"}


async def test_custom_chunks_of_a_tool() -> None:
    @tool
    def talks(ctx: ToolContext) -> str:
        """Says something, from a thread."""
        ctx.writer.write({"percent": 50})
        ctx.writer.custom("progress", {"percent": 60}, id="p")
        return "ok"

    agent, _ = scripted(calls(ToolCall("talks", {}, "c1")), "ok", tools=[talks])
    said = await said_by(agent)
    output = next(chunk for chunk in said if chunk.type == "tool-output")
    assert output == {
        "type": "tool-output",
        "runId": "run-0",
        "from": "USER",
        "payload": {"output": {"percent": 50}, "toolCallId": "c1", "toolName": "talks"},
    }
    assert {"type": "data-progress", "data": {"percent": 60}, "id": "p"} in said


async def test_a_result_that_is_no_json_is_an_error_of_the_tool() -> None:
    @tool
    def odd() -> object:
        """Gives what cannot be stored."""
        return object()

    agent, _ = scripted(calls(ToolCall("odd", {}, "c1")), "ok", tools=[odd])
    assert only(await said_by(agent), "tool-error")[0]["error"]["name"] == "UnserializableError"


async def test_abort_says_so_and_counts_what_is_known() -> None:
    begun = asyncio.Event()

    @tool
    async def forever() -> None:
        """Never ends."""
        begun.set()
        await asyncio.Event().wait()

    agent, _ = scripted([Text("wait"), ToolCall("forever", {}, "c1")], "ok", tools=[forever])
    run = await agent.stream("go")
    reading = asyncio.ensure_future(chunks_of(run))
    await begun.wait()
    assert await run.abort()
    said = await reading
    assert kinds(said).endswith("abort finish")
    assert only(said, "finish")[0]["stepResult"]["reason"] == "abort"
    assert (await run.output.result()).finish_reason == "abort"
    assert not await run.abort()


async def test_the_same_run_id_twice_is_a_conflict() -> None:
    agent, _ = scripted("one", "two")
    await agent.generate("go", run_id="mine")
    with pytest.raises(ConflictError, match="mine"):
        await agent.stream("go", run_id="mine")


async def test_tool_choice_and_active_tools() -> None:
    agent, model = scripted("a", "b", "c", tools=[add, boom])
    await agent.generate("go", tool_choice="none")
    await agent.generate("go", active_tools=["boom"])
    await agent.generate("go", tool_choice={"type": "tool", "toolName": "add"})
    assert [[spec.name for spec in prompt.tools] for prompt in model.prompts] == [[], ["boom"], ["add", "boom"]]
    assert model.prompts[2].tool_choice == {"type": "tool", "toolName": "add"}


async def test_instructions_system_and_context() -> None:
    agent, model = scripted("ok", instructions=lambda context: f"You serve {context['user']}.")
    await agent.generate(
        ["one", {"role": "system", "content": "Hurry."}, "two"],
        request_context={"user": "Ada"},
        system="More.",
        context=[{"role": "user", "content": "before"}],
    )
    prompt = model.prompts[0]
    assert prompt.system == ["You serve Ada.", "More.", "Hurry."]
    assert [message.text for message in prompt.messages] == ["before", "one", "two"]


async def test_usage_adds_up_and_steps_are_given() -> None:
    agent, _ = scripted(calls(ToolCall("add", {"x": 3}, "c1")), "sum", tools=[add])
    result = await agent.generate("go")
    assert result.usage == Usage(20, 10, 30)
    assert [step.finish_reason for step in result.steps] == ["tool-calls", "stop"]
    assert [(message.id, message.step_texts) for message in result.messages] == [("run-0-m0", ["", "sum"])]
    assert result.tool_results[0].payload["result"] == {"sum": 3}
