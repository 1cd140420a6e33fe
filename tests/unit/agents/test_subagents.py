"""Sub-agents and workflows as tools, and toolsets of MCP servers."""

from __future__ import annotations

import logging

import pytest
from mcp.server.mcpserver import MCPServer

from perdure import App, Context
from perdure.agents.context import ToolContext
from perdure.agents.errors import ConflictError
from perdure.agents.mcp_tools import McpError, McpToolset
from perdure.agents.options import OptionError
from perdure.agents.tools import tool
from perdure.model.errors import ConfigError
from perdure.testing.script import Fail, ToolCall
from tests.support.agent_runs import chunks_of, kinds, only, said_by, scripted


@tool(requires_approval=True)
def send(to: str) -> str:
    """Sends."""
    return f"sent to {to}"


async def test_a_sub_agent_is_told_the_conversation_above_it() -> None:
    helper, helped = scripted("42", instructions="Count.")
    turns = [ToolCall("add", {"x": 1}, "c0")], [ToolCall("agent-helper", {"prompt": "6 * 7?"}, "c1")]
    agent, _ = scripted(*turns, "42.", instructions="Delegate.", agents={"helper": helper}, tools=[add])
    await said_by(agent, "What is it?")
    asked = helped.prompts[0]
    assert asked.system == ["Count.", "Delegate."]
    assert [message.text for message in asked.messages] == ["What is it?", "6 * 7?"]


@tool
def add(x: int) -> int:
    """Adds."""
    return x + 1


async def test_a_task_is_handed_over_and_its_chunks_are_forwarded() -> None:
    helper, helped = scripted("42", description="Knows numbers.")
    agent, model = scripted(
        [ToolCall("agent-helper", {"prompt": "6 * 7?"}, "c1")], "It is 42.", agents={"helper": helper}
    )
    said = await said_by(agent)
    spec = model.prompts[0].tools[0]
    assert (spec.name, spec.description) == ("agent-helper", "Knows numbers.")
    inner = [payload["output"] for payload in only(said, "tool-output")]
    assert [chunk["type"] for chunk in inner][:2] == ["start", "step-start"]
    assert {chunk["runId"] for chunk in inner} == {"run-0.c1"}
    result = only(said, "tool-result")[0]["result"]
    assert result["text"] == "42"
    assert helped.prompts[0].messages[-1].text == "6 * 7?"
    part = model.prompts[1].messages[-1].parts[0]
    assert part.provider_metadata == {"mastra": {"modelOutput": {"type": "text", "value": "42"}}}  # type: ignore[union-attr]


async def test_an_approval_in_a_sub_agent_is_asked_under_the_outer_call() -> None:
    helper, _ = scripted([ToolCall("send", {"to": "Ada"}, "h1")], "it is sent", tools=[send])
    agent, _ = scripted([ToolCall("agent-helper", {"prompt": "send it"}, "c1")], "done", agents={"helper": helper})
    said = await said_by(agent)
    assert kinds(said).endswith("tool-output tool-call-approval suspended")
    inner = only(said, "tool-output")[-1]["output"]
    assert (inner["type"], inner["payload"]["toolCallId"]) == ("tool-call-approval", "h1")
    outer = only(said, "tool-call-approval")[0]
    assert (outer["toolCallId"], outer["toolName"], outer["args"]) == ("c1", "send", {"to": "Ada"})
    run = await agent.approve_tool_call("run-0", "c1")
    said = await chunks_of(run)
    assert only(said, "tool-result")[0]["result"]["text"] == "it is sent"
    assert await run.output.text == "done"


async def test_a_sub_agent_may_ask_several_things_at_once() -> None:
    calls = [ToolCall("send", {"to": "Ada"}, "h1"), ToolCall("send", {"to": "Bob"}, "h2")]
    helper, _ = scripted(calls, "sent", tools=[send])
    agent, _ = scripted([ToolCall("agent-helper", {"prompt": "send it"}, "c1")], "done", agents={"helper": helper})
    said = await said_by(agent)
    assert [payload["toolCallId"] for payload in only(said, "tool-call-approval")] == ["c1", "c1>h2"]
    asked = only(said, "suspended")[0]["questions"]
    assert [(item["toolCallId"], item["args"]["to"]) for item in asked] == [("c1>h1", "Ada"), ("c1>h2", "Bob")]
    with pytest.raises(ConflictError, match="name the tool call: c1>h1, c1>h2"):
        await agent.approve_tool_call("run-0", "c1")
    said = await chunks_of(await agent.decline_tool_call("run-0", "c1>h2"))
    assert [item["toolCallId"] for item in only(said, "suspended")[0]["questions"]] == ["c1"]
    said = await chunks_of(await agent.approve_tool_call("run-0", "c1"))
    inner = {payload["output"]["type"]: payload["output"] for payload in only(said, "tool-output")}
    assert inner["tool-result"]["payload"]["result"] == "sent to Ada"


async def test_what_may_be_answered_is_up_to_the_tool_of_the_sub_agent() -> None:
    @tool(requires_approval=True, edit_args=True)
    def pay(cents: int) -> int:
        return cents

    @tool(resume_schema={"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]})
    def paint(ctx: ToolContext) -> str:
        if ctx.resume_data is None:
            ctx.suspend("Which colour?")
        return str(ctx.resume_data["colour"])

    for name, args in (("pay", {"cents": 1}), ("send", {"to": "Ada"}), ("paint", {})):
        helper, _ = scripted([ToolCall(name, args, "h1")], "ok", tools=[pay, send, paint])
        agent, _ = scripted([ToolCall("agent-helper", {"prompt": "x"}, "c1")], "done", agents={"helper": helper})
        await agent.generate("go")
        if name == "pay":
            said = await chunks_of(await agent.approve_tool_call("run-0", args={"cents": 2}))
            assert 2 in [payload["output"]["payload"].get("result") for payload in only(said, "tool-output")]
        elif name == "send":
            with pytest.raises(OptionError, match="does not let its arguments be edited"):
                await agent.approve_tool_call("run-0", args={"to": "Eve"})
        else:
            with pytest.raises(OptionError, match="'colour' is a required property"):
                await agent.resume_stream({"color": "red"}, run_id="run-0")
            assert (await agent.resume_generate({"colour": "red"}, run_id="run-0")).text == "done"


async def test_a_sub_agent_that_fails_is_an_error_of_the_call() -> None:
    helper, _ = scripted([Fail("no such model", 404)])
    agent, _ = scripted(
        [ToolCall("agent-helper", {"prompt": "x"}, "c1"), ToolCall("agent-helper", {}, "c2")],
        "I see",
        agents={"helper": helper},
    )
    said = await said_by(agent)
    assert "no such model" in only(said, "tool-error")[0]["error"]["message"]
    assert only(said, "tool-result")[0]["result"]["error"] is True


async def test_a_workflow_is_a_tool() -> None:
    app = App("shop")

    @app.function("double")
    async def double(ctx: Context) -> int:
        """Doubles a number."""
        return int(ctx.event.data["n"]) * 2

    @app.function("broken")
    async def broken(ctx: Context) -> None:
        raise ValueError("out of paper")

    agent, model = scripted(
        [
            ToolCall("workflow-double", {"inputData": {"n": 4}}, "c1"),
            ToolCall("workflow-broken", {"inputData": {}}, "c2"),
            ToolCall("workflow-double", {}, "c3"),
        ],
        "eight",
        workflows={"double": double, "broken": broken},
    )
    said = await said_by(agent)
    assert model.prompts[0].tools[0].description == "Doubles a number."
    results = {payload["toolCallId"]: payload["result"] for payload in only(said, "tool-result")}
    assert results["c1"] == {"result": 8, "runId": "run-0.c1"}
    assert results["c3"]["error"] is True
    assert only(said, "tool-error")[0]["error"] == {"name": "ValueError", "message": "out of paper"}
    inner = [payload["output"] for payload in only(said, "tool-output") if payload["toolCallId"] == "c1"]
    assert [(item["type"], item["runId"], item["from"]) for item in inner] == [
        ("workflow-start", "run-0.c1", "WORKFLOW"),
        ("workflow-finish", "run-0.c1", "WORKFLOW"),
    ]
    assert inner[0]["payload"] == {"workflowId": "double"}
    assert (inner[1]["payload"]["workflowStatus"], inner[1]["payload"]["finalWorkflowResult"]) == ("success", 8)
    failed = [payload["output"] for payload in only(said, "tool-output") if payload["toolCallId"] == "c2"][-1]
    assert failed["payload"]["workflowStatus"] == "failed"


async def test_a_network_hands_the_task_over() -> None:
    helper, _ = scripted(description="Knows numbers.")
    agent, _ = scripted(agents={"helper": helper})
    run = await agent.network("!net agent:helper 6 * 7", max_steps=3)
    said = await chunks_of(run)
    assert said[0].type == "routing-agent-start"
    assert said[-1].type == "network-execution-event-finish"
    result = await run.output.result()
    assert result.finish_reason == "stop"
    assert result.text == said[-1].payload["result"]
    assert result.usage.total_tokens > 0


def calculator() -> MCPServer:
    server = MCPServer("calculator")

    @server.tool()
    def add(x: int, y: int = 1) -> int:
        """Adds two numbers."""
        return x + y

    @server.tool()
    def divide(x: int) -> str:
        raise ValueError("by zero")

    return server


async def test_tools_of_an_mcp_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    server = calculator()
    calc = McpToolset(lambda: server, prefix="calc")
    agent, model = scripted(
        [ToolCall("calc_add", {"x": 3}, "c1"), ToolCall("calc_divide", {"x": 3}, "c2")], "4", toolsets={"calc": calc}
    )
    said = await said_by(agent)
    assert [spec.name for spec in model.prompts[0].tools] == ["calc_add", "calc_divide"]
    assert only(said, "tool-result")[0]["result"] == {"result": 4}
    assert only(said, "tool-error")[0]["error"]["code"] == "MCP_TOOL_ERROR"
    only_add = McpToolset(lambda: server, prefix="calc", only=["add"], requires_approval=True)
    agent, _ = scripted([ToolCall("calc_add", {"x": 3}, "c1")], "4", toolsets={"calc": only_add})
    assert list(await agent.list_tools()) == ["calc_add"]
    assert (await agent.generate("go")).finish_reason == "suspended"
    assert (await agent.approve_tool_call_generate("run-0")).text == "4"


async def test_an_mcp_server_that_is_not_there() -> None:
    with pytest.raises(McpError, match="'gone' cannot be reached"):
        await McpToolset("http://127.0.0.1:9/mcp", prefix="gone").tools()
    with pytest.raises(ConfigError, match="prefix"):
        McpToolset("http://127.0.0.1:9/mcp", prefix="")
