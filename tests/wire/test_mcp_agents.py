"""Agents over MCP: they are asked as tools, and what waits for a person is decided by tools, forms and tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import mcp_types as types
import pytest
from mcp import Client

from perdure import App, embedded
from perdure.agents import Agent
from perdure.model.json import Json
from perdure.server import make_app
from perdure.testing import ScriptedModel
from tests.support.agents_http import AgentsServer, serving_agents
from tests.support.hosting import asgi_server
from tests.support.mcp import Rpc
from tests.support.stored_agents import serving_stored
from tests.support.wire import wire_app

PATIENCE = 30.0
DELETES = '!tool deleteThing {"thing": "x"}'
ASKS = '!tool askHuman {"question": "Which one?"}'
KNOWS_TASKS: Json = {
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}
}


@pytest.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[AgentsServer, None]:
    async with serving_agents(tmp_path_factory.mktemp("agents")) as found:
        yield found


@pytest.fixture
def rpc(desk: AgentsServer) -> Rpc:
    return Rpc(desk.http, "/mcp?toolsets=agents")


async def test_every_agent_is_a_tool(desk: AgentsServer, rpc: Rpc) -> None:
    tools = {each["name"]: each for each in (await rpc.result("tools/list"))["tools"]}
    assert {f"ask_{id}" for id in desk.node.agents} <= tools.keys()
    assert "The main test agent" in tools["ask_my-agent"]["description"]
    listed = (await rpc.call("list_agents"))["structuredContent"]["agents"]
    assert {each["id"] for each in listed} == set(desk.node.agents)
    reading = await Rpc(desk.http, "/mcp?toolsets=agents&readonly=1").result("tools/list")
    assert [each["name"] for each in reading["tools"]] == ["list_agents", "list_suspended_runs"]


async def test_a_stored_agent_is_asked_by_its_id() -> None:
    async with serving_stored(":memory:") as server:
        await server.create()
        rpc = Rpc(server.http, "/mcp?toolsets=agents")
        assert "my-stored" in {each["id"] for each in (await rpc.call("list_agents"))["structuredContent"]["agents"]}
        found = await rpc.call("ask_agent", agentId="my-stored", message="hello")
        assert found["structuredContent"]["text"] == "Echo: hello"
        # One without a tool to approve, and one that is not there.
        assert (await rpc.call("list_suspended_runs"))["structuredContent"]["total"] == 0
        missing = await rpc.call("ask_agent", agentId="nobody", message="hello")
        assert missing["isError"] and "nobody" in missing["content"][0]["text"]


@pytest.mark.parametrize("agent", ["plain-agent", "durable-agent"])
async def test_an_agent_answers(rpc: Rpc, agent: str) -> None:
    found = await rpc.call(f"ask_{agent}", message="hello")
    assert found["content"][0]["text"] == "Echo: hello"
    assert found["structuredContent"].items() >= {"finishReason": "stop", "text": "Echo: hello"}.items()
    failed = await rpc.call(f"ask_{agent}", message="!error no")
    assert failed["isError"] and "no" in failed["content"][0]["text"]
    alone = await rpc.call(f"ask_{agent}", message="hello", threadId="t")
    assert "threadId needs resourceId" in alone["content"][0]["text"]


async def test_a_conversation_goes_on(rpc: Rpc) -> None:
    thread = {"threadId": "t-1", "resourceId": "ada"}
    await rpc.call("ask_my-agent", message="one", **thread)
    told = await rpc.call("ask_my-agent", message="!prompt", **thread)
    assert "one" in told["content"][0]["text"]


@pytest.mark.parametrize("agent", ["my-agent", "durable-agent"])
async def test_tools_decide_what_waits(rpc: Rpc, agent: str) -> None:
    async def waits(message: str) -> Json:
        found = (await rpc.call(f"ask_{agent}", message=message))["structuredContent"]
        assert found["finishReason"] == "suspended" and "approve_tool_call" in found["message"]
        run = {"agentId": agent, "runId": found["runId"]}
        listed = (await rpc.call("list_suspended_runs", agentId=agent))["structuredContent"]["runs"]
        assert run["runId"] in {each["runId"] for each in listed}
        return run

    approved = await rpc.call("approve_tool_call", **await waits(DELETES))
    assert "deleted" in approved["structuredContent"]["text"]
    declined = await rpc.call("decline_tool_call", reason="too dear", **await waits(DELETES))
    assert "too dear" in declined["structuredContent"]["text"]
    run = await waits(ASKS)
    wrong = await rpc.call("approve_tool_call", **run)
    assert wrong["isError"] and "waits for an approval" in wrong["content"][0]["text"]
    resumed = await rpc.call("resume_run", resumeData={"answer": "the red one"}, **run)
    assert resumed["structuredContent"]["finishReason"] == "stop"
    assert "the red one" in resumed["structuredContent"]["text"]
    over = await rpc.call("resume_run", resumeData={"answer": "again"}, **run)
    assert over["isError"] and "list_suspended_runs" in over["content"][0]["text"]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_person_behind_the_client_decides(desk: AgentsServer, mode: Json) -> None:
    asked: list[str] = []

    async def answer(context: Json, params: Json) -> types.ElicitResult:
        asked.append(params.message)
        if "Approve" in params.message:
            return types.ElicitResult(action="accept", content={"approve": True})
        return types.ElicitResult(action="accept", content={"answer": "the blue one"})

    async with asyncio.timeout(PATIENCE), asgi_server(desk.node.asgi()) as url:
        address = f"{url}/mcp?toolsets=agents"
        async with Client(address, mode=mode, elicitation_callback=answer) as client:
            deleted = await client.call_tool("ask_durable-agent", {"message": DELETES})
            told = await client.call_tool("ask_my-agent", {"message": ASKS})
    assert "deleted" in deleted.structured_content["text"]
    assert "the blue one" in told.structured_content["text"]
    assert 'deleteThing with {"thing":"x"}' in asked[0] and asked[1] == "Which one?"


async def task(http: httpx2.AsyncClient, method: str, id: str, **params: Json) -> Json:
    named = Rpc(http, "/mcp?toolsets=agents", **{"mcp-name": id})
    return await named.result(f"tasks/{method}", taskId=id, meta=KNOWS_TASKS, **params)


async def until(http: httpx2.AsyncClient, id: str, status: str) -> Json:
    async with asyncio.timeout(PATIENCE):
        while (found := await task(http, "get", id))["status"] != status:
            await asyncio.sleep(0.02)
    return found


async def test_a_durable_agents_run_is_a_task(desk: AgentsServer, rpc: Rpc) -> None:
    begun = {"arguments": {"message": DELETES}, "meta": KNOWS_TASKS}
    made = await rpc.result("tools/call", name="ask_durable-agent", **begun)
    assert made["resultType"] == "task"
    waits = await until(desk.http, made["taskId"], "input_required")
    ((key, question),) = waits["inputRequests"].items()
    assert question["method"] == "elicitation/create"
    answers: Json = {key: {"action": "accept", "content": {"approve": True}}, "other": {"action": "accept"}}
    await task(desk.http, "update", made["taskId"], inputResponses=answers)
    done = await until(desk.http, made["taskId"], "completed")
    assert "deleted" in done["result"]["structuredContent"]["text"]
    other = await rpc.result("tools/call", name="ask_durable-agent", arguments={"message": ASKS}, meta=KNOWS_TASKS)
    await until(desk.http, other["taskId"], "input_required")
    await task(desk.http, "cancel", other["taskId"])
    await until(desk.http, other["taskId"], "cancelled")
    plain = await rpc.result("tools/call", name="ask_plain-agent", arguments={"message": "hi"}, meta=KNOWS_TASKS)
    assert plain["structuredContent"]["text"] == "Echo: hi"


@pytest.mark.parametrize("id", ["agent:", "agent:durable-agent:nothing", "agent:plain-agent:x", "agent:none:x"])
async def test_a_task_that_there_is_not(desk: AgentsServer, id: str) -> None:
    named = Rpc(desk.http, "/mcp?toolsets=agents", **{"mcp-name": id})
    for method in ("get", "cancel"):
        assert (await named.error(f"tasks/{method}", taskId=id, meta=KNOWS_TASKS))["code"] == -32602


async def test_the_api_tells_where_a_durable_run_stands(desk: AgentsServer) -> None:
    done = await desk.post("durable-agent/generate", {"messages": "hello"})
    found = await desk.get(f"agents/durable-agent/runs/{done['runId']}")
    assert (found["status"], found["finishReason"], found["agentId"]) == ("finished", "stop", "durable-agent")
    assert (await desk.post(f"durable-agent/runs/{done['runId']}/abort", {})) == {"aborted": False}
    assert "error" in await desk.get("agents/durable-agent/runs/none", 404)
    assert "error" in await desk.get(f"agents/my-agent/runs/{done['runId']}", 404)


async def test_without_agents_there_are_no_such_tools() -> None:
    async with embedded(wire_app(), db=":memory:") as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
            assert (await Rpc(http, "/mcp?toolsets=agents").result("tools/list"))["tools"] == []


async def test_what_an_app_asks_of_its_users_tools_ask_too(tmp_path: Path) -> None:
    app = App("desk")
    app.add_agent(Agent("helper", model=ScriptedModel()))
    app.set_users(lambda token: {"id": token} if token == "ada-token" else None)
    async with embedded(app, db=tmp_path / "desk.db") as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
            nobody = await Rpc(http).call("ask_helper", message="hello")
            assert nobody["isError"] and "HTTP 401" in nobody["content"][0]["text"]
            known = await Rpc(http, authorization="Bearer ada-token").call("ask_helper", message="hello")
            assert known["structuredContent"]["text"] == "Echo: hello"
