"""Questions to people: approval of tool calls, and tools that suspend."""

from __future__ import annotations

import asyncio

import pytest

from perdure.agents.context import ToolContext
from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.messages import ToolInvocation, ToolPart
from perdure.agents.options import OptionError
from perdure.agents.responding import args_hash
from perdure.agents.tools import tool
from perdure.model.json import Json
from perdure.testing.models import ScriptedModel
from perdure.testing.script import Text, ToolCall
from tests.support.agent_runs import chunks_of, kinds, only, said_by, scripted

done: list[str] = []


@tool(requires_approval=True, edit_args=True)
async def danger(x: int) -> dict[str, int]:
    """Deletes."""
    done.append(f"danger {x}")
    return {"deleted": x}


@tool
async def safe(x: int) -> int:
    """Reads."""
    done.append(f"safe {x}")
    return x


@tool(resume_schema={"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]})
async def ask(ctx: ToolContext) -> dict[str, str]:
    """Asks for a colour."""
    done.append(f"ask {ctx.resume_data}")
    if ctx.resume_data is None:
        ctx.suspend({"question": "color?"})
    return {"answer": ctx.resume_data["color"]}


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def told(model: ScriptedModel, prompt: int = 1) -> list[ToolInvocation]:
    """The tool calls that the model was told of."""
    messages = model.prompts[prompt].messages
    return [part.tool_invocation for message in messages for part in message.parts if isinstance(part, ToolPart)]


async def test_approve() -> None:
    agent, model = scripted([Text("deleting"), ToolCall("danger", {"x": 9}, "c1")], "deleted", tools=[danger])
    said = await said_by(agent)
    assert kinds(said).endswith("tool-call tool-call-approval suspended")
    asked = only(said, "tool-call-approval")[0]
    assert asked["args"] == {"x": 9}
    assert asked["argsHash"] == args_hash("danger", {"x": 9})
    assert asked["resumeSchema"].startswith('{"type":"object"')
    assert only(said, "suspended")[0]["type"] == "approval"
    assert done == []
    run = await agent.approve_tool_call("run-0", "c1")
    said = await chunks_of(run)
    text = "text-start text-delta text-end"
    assert kinds(said) == f"tool-result step-finish step-start response-metadata {text} step-finish finish"
    assert done == ["danger 9"]
    result = await run.output.result()
    assert [step.text for step in result.steps] == ["deleting", "deleted"]
    approval = told(model)[0].approval
    assert approval is not None
    assert approval.approved


async def test_decline() -> None:
    agent, model = scripted([ToolCall("danger", {"x": 9}, "c1")], "all right", tools=[danger])
    await agent.generate("go")
    said = await chunks_of(await agent.decline_tool_call("run-0", "c1", reason="too risky"))
    assert only(said, "tool-output-denied") == [
        {
            "toolCallId": "c1",
            "toolName": "danger",
            "args": {"x": 9},
            "approval": {"id": "c1", "approved": False, "reason": "too risky"},
        }
    ]
    assert done == []
    call = told(model)[0]
    assert (call.state, call.approval and call.approval.reason) == ("output-denied", "too risky")


async def test_siblings_go_on_and_questions_are_answered_in_any_order() -> None:
    turn = [ToolCall("danger", {"x": 1}, "c1"), ToolCall("safe", {"x": 5}, "c2"), ToolCall("danger", {"x": 2}, "c3")]
    agent, _ = scripted(turn, "both", tools=[danger, safe])
    said = await said_by(agent)
    assert only(said, "tool-result")[0]["result"] == 5
    assert [question["toolCallId"] for question in only(said, "suspended")[0]["questions"]] == ["c1", "c3"]
    with pytest.raises(ConflictError, match="2 decisions"):
        await agent.approve_tool_call("run-0")
    said = await chunks_of(await agent.approve_tool_call("run-0", "c3"))
    assert kinds(said) == "tool-result suspended"
    said = await chunks_of(await agent.decline_tool_call("run-0"))
    assert kinds(said).startswith("tool-output-denied step-finish step-start")
    assert done == ["safe 5", "danger 2"]


async def test_a_decision_counts_once() -> None:
    agent, _ = scripted([ToolCall("danger", {"x": 9}, "c1")], "done", tools=[danger])
    await agent.generate("go")
    await agent.approve_tool_call_generate("run-0", "c1")
    with pytest.raises(GoneError):
        await agent.approve_tool_call("run-0", "c1")
    with pytest.raises(RunNotFoundError):
        await agent.approve_tool_call("run-7")
    assert done == ["danger 9"]


async def test_arguments_may_be_edited_where_the_tool_allows_it() -> None:
    agent, model = scripted([ToolCall("danger", {"x": 9}, "c1")], "done", tools=[danger])
    await agent.generate("go")
    await chunks_of(await agent.approve_tool_call("run-0", args={"x": 3}))
    assert done == ["danger 3"]
    assert told(model)[0].args == {"x": 3}

    @tool(requires_approval=True)
    def fixed(x: int) -> int:
        """Must stay as it is."""
        return x

    agent, _ = scripted([ToolCall("fixed", {"x": 9}, "c1")], "done", tools=[fixed])
    await agent.generate("go")
    with pytest.raises(OptionError, match="args"):
        await agent.approve_tool_call("run-0", args={"x": 3})


async def test_an_approval_that_nobody_gives_in_time() -> None:
    @tool(requires_approval=True, approval_timeout=0.01)
    def urgent() -> str:
        """Cannot wait."""
        return "done"

    agent, _ = scripted([ToolCall("urgent", {}, "c1")], "too late", tools=[urgent])
    run = await agent.stream("go")
    await chunks_of(run)
    while not agent._runs["run-0"].over:
        await asyncio.sleep(0.01)
    denied = only(agent._runs["run-0"].log.chunks, "tool-output-denied")[0]
    assert "in time" in denied["approval"]["reason"]


async def test_suspend_and_resume() -> None:
    agent, _ = scripted([ToolCall("ask", {}, "c1")], "blue it is", tools=[ask])
    result = await agent.generate("go")
    assert result.finish_reason == "suspended"
    assert result.suspend_payload is not None
    assert result.suspend_payload["suspendPayload"] == {"question": "color?"}
    with pytest.raises(OptionError, match="color"):
        await agent.resume_generate({"colour": "blue"}, run_id="run-0")
    result = await agent.resume_generate({"color": "blue"}, run_id="run-0")
    assert result.text == "blue it is"
    assert result.tool_results[0].payload["result"] == {"answer": "blue"}
    assert done == ["ask None", "ask {'color': 'blue'}"]


async def test_approval_and_then_suspension_of_one_call() -> None:
    @tool(requires_approval=True)
    async def both(ctx: ToolContext) -> Json:
        """Needs approval, and an answer."""
        if ctx.resume_data is None:
            ctx.suspend()
        return ctx.resume_data

    agent, _ = scripted([ToolCall("both", {}, "c1")], "ok", tools=[both])
    await agent.generate("go")
    result = await agent.approve_tool_call_generate("run-0")
    assert result.finish_reason == "suspended"
    assert [question.round for question in agent.open_questions("run-0")] == [1]
    result = await agent.resume_generate({"n": 1}, run_id="run-0")
    assert result.tool_results[0].payload["result"] == {"n": 1}


async def test_declining_a_suspension() -> None:
    @tool
    async def asks(ctx: ToolContext) -> None:
        """Asks."""
        ctx.suspend()

    agent, _ = scripted([ToolCall("asks", {}, "c1")], "ok", tools=[asks])
    await agent.generate("go")
    said = await chunks_of(await agent.decline_tool_call("run-0", reason="no"))
    assert only(said, "tool-output-denied")[0]["approval"]["reason"] == "no"


async def test_rules_of_approval() -> None:
    async def big(args: dict[str, Json]) -> bool:
        return bool(args["x"] > 5)

    def broken(args: dict[str, Json]) -> bool:
        raise ValueError("cannot tell")

    @tool(requires_approval=lambda args: args["x"] > 5)
    async def own(x: int) -> int:
        """Has a rule of its own, which overrides the run's."""
        return x

    turn = [ToolCall("own", {"x": 1}, "c1"), ToolCall("safe", {"x": 1}, "c2"), ToolCall("safe", {"x": 9}, "c3")]
    agent, _ = scripted(turn, "ok", tools=[own, safe], policies={"big": big, "broken": broken})
    result = await agent.generate("go", require_tool_approval="big")
    assert [question["toolCallId"] for question in result.questions] == ["c3"]
    agent, _ = scripted(turn, "ok", tools=[own, safe], policies={"big": big, "broken": broken})
    result = await agent.generate("go", require_tool_approval=broken)
    assert [question["toolCallId"] for question in result.questions] == ["c2", "c3"]
    agent, _ = scripted(turn, "ok", tools=[own, safe])
    result = await agent.generate("go", require_tool_approval=True)
    assert [question["toolCallId"] for question in result.questions] == ["c2", "c3"]


async def test_a_call_that_waits_holds_no_slot() -> None:
    turn = [ToolCall("danger", {"x": 1}, "c1"), ToolCall("safe", {"x": 2}, "c2")]
    agent, _ = scripted(turn, "ok", tools=[danger, safe])
    await agent.generate("go", tool_call_concurrency=1)
    assert done == ["safe 2"]


async def test_what_a_tool_did_in_a_step_is_not_done_again_after_it_suspended() -> None:
    @tool(steps=True)
    async def order(ctx: ToolContext) -> Json:
        """Orders, asks, and sends."""
        receipt = await ctx.step("charge", charge)
        if ctx.resume_data is None:
            ctx.suspend({"to": "?"})
        return [receipt, ctx.resume_data]

    def charge() -> str:
        done.append("charge")
        return "receipt"

    agent, _ = scripted([ToolCall("order", {}, "c1")], "ok", tools=[order])
    await agent.generate("go")
    result = await agent.resume_generate("Ada", run_id="run-0")
    assert result.tool_results[0].payload["result"] == ["receipt", "Ada"]
    assert done == ["charge"]
