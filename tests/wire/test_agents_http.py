"""Agents over HTTP: what is told of them, their runs, how mistakes of callers are answered, and who hears what."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from perdure import embedded
from perdure.agents import Agent
from perdure.model.json import Json, decode
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.sdk.app import App
from perdure.server import Guard, make_app
from perdure.server.agents import make_agents_app
from perdure.testing import ScriptedModel
from tests.support.agents_http import AgentsServer, agents_app, frames_of, kinds, serving_agents
from tests.support.hosting import asgi_server

pytestmark = pytest.mark.timeout(60)
BOTH = pytest.mark.parametrize("agent", ["my-agent", "durable-agent"])
ASK = {"messages": '!tool deleteThing {"thing":"a"}'}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[AgentsServer]:
    async with serving_agents(tmp_path) as started:
        yield started


async def test_agents_are_listed_by_id_with_their_schemas_as_texts(server: AgentsServer) -> None:
    found = await server.get("agents")
    assert list(found)[:3] == ["my-agent", "plain-agent", "noted-agent"] and list(found)[-1] == "durable-bg"
    assert found["durable-agent"]["name"] == "Durable Agent" and found["my-agent"]["hasDraft"] is False
    schema = decode(found["my-agent"]["tools"]["weather"]["inputSchema"])["json"]
    assert schema["required"] == ["city"]
    assert "inputSchema" not in (await server.get("agents?partial=true"))["my-agent"]["tools"]["weather"]


async def test_a_tool_is_carried_out_outside_of_runs(server: AgentsServer) -> None:
    told = await server.post("my-agent/tools/weather/execute", {"data": {"city": "Oslo"}})
    assert told == {"city": "Oslo", "temperature": 21}
    refused = await server.post("my-agent/tools/weather/execute", {"data": {"city": 5}})
    assert refused["error"] is True and list(refused["validationErrors"]["fields"]) == ["city"]
    assert await server.post("my-agent/tools/deleteThing/execute", {"data": {"thing": "x"}}) == {"deleted": "x"}
    assert await server.post("my-agent/tools/failTool/execute", {"data": {}}, 500) == {"error": "tool exploded"}
    await server.post("my-agent/tools/askHuman/execute", {"data": {"question": "?"}}, 400)
    assert await server.post("my-agent/tools/nope/execute", {"data": {}}, 404) == {"error": "Tool not found"}


@BOTH
async def test_generate_tells_of_steps_messages_and_tokens(server: AgentsServer, agent: str) -> None:
    memory = {"thread": f"t-{agent}", "resource": "ada"}
    body = {"messages": '!saytool weather {"city":"Paris"}', "memory": memory}
    result = await server.post(f"{agent}/generate", body)
    assert [step["stepType"] for step in result["steps"]] == ["initial", "tool-result"]
    assert [step["finishReason"] for step in result["steps"]] == ["tool-calls", "stop"]
    raw = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
    total = {"inputTokens": 20, "outputTokens": 10, "totalTokens": 30, "raw": raw}
    assert result["usage"] == result["totalUsage"] == total
    (message,) = result["response"]["dbMessages"]
    shown = [part["type"] for part in message["content"]["parts"]]
    assert shown == ["text", "tool-invocation", "step-start", "text"]
    drawn = [part["type"] for part in result["response"]["uiMessages"][0]["parts"]]
    assert drawn == ["text", "tool-weather", "step-start", "text"]
    assert [each["role"] for each in result["response"]["messages"]] == ["assistant", "tool", "assistant"]
    assert [each["role"] for each in result["messages"]] == ["user", "assistant"]
    assert result["rememberedMessages"] == []
    again = await server.post(f"{agent}/generate", {**body, "messages": "again"})
    assert again["rememberedMessages"][0]["role"] == "user"


async def test_the_ends_of_steps_tell_of_all_steps_and_of_no_request(server: AgentsServer) -> None:
    frames = await server.stream("my-agent/stream", {"messages": '!saytool weather {"city":"Paris"}'})
    told = "start step-start text-start text-delta text-end tool-call-input-streaming-start tool-call-delta "
    told += "tool-call-input-streaming-end tool-call tool-result step-finish step-start text-start text-delta text-end "
    assert kinds(frames) == told + "step-finish finish"
    ends = [frame["payload"] for frame in frames if frame["type"].endswith("finish")]
    assert [len(end["output"]["steps"]) for end in ends] == [1, 2, 2]
    assert [end["stepResult"]["reason"] for end in ends] == ["tool-calls", "stop", "stop"]
    assert ends[-1]["output"]["usage"]["totalTokens"] == 30
    assert ends[-1]["messages"]["user"][0]["role"] == "user"
    assert all(frame["payload"]["request"] == {} for frame in frames if frame["type"] == "step-start")
    # One message of the assistant for the whole run.
    ids = {frame["payload"]["messageId"] for frame in frames if "messageId" in frame.get("payload", {})}
    assert len(ids) == 1


@BOTH
async def test_a_question_is_answered_once(server: AgentsServer, agent: str) -> None:
    asked = await server.post(f"{agent}/generate", ASK)
    assert (asked["finishReason"], asked["steps"], asked["usage"]) == ("suspended", [], {})
    assert asked["suspendPayload"]["toolName"] == "deleteThing"
    assert decode(asked["resumeSchema"])["required"] == ["approved"]
    pending = asked["messages"][-1]["content"]["metadata"]["pendingToolApprovals"]
    assert pending["call_1"]["runId"] == asked["runId"]
    call = {"runId": asked["runId"], "toolCallId": "call_1"}
    (run,) = (await server.get(f"agents/{agent}/suspended-runs"))["runs"]
    assert run["runId"] == asked["runId"] and run["toolCalls"][0]["requiresApproval"] is True
    wrong = await server.post(f"{agent}/approve-tool-call", {**call, "toolCallId": "wrong"}, 404)
    assert "not suspended" in wrong["error"]
    result = await server.post(f"{agent}/approve-tool-call-generate", call)
    assert result["toolResults"][0]["payload"]["result"] == {"deleted": "a"}
    assert [each["role"] for each in result["messages"]] == ["user", "assistant", "assistant"]
    response = await server.http.post(f"/api/agents/{agent}/approve-tool-call", json=call)
    assert response.status_code in (409, 410) and "could not find a suspended run" in response.json()["error"]
    assert (await server.get(f"agents/{agent}/suspended-runs"))["total"] == 0


async def test_who_declines_is_streamed_how_the_run_goes_on(server: AgentsServer) -> None:
    asked = await server.stream("my-agent/stream", ASK)
    assert kinds(asked).endswith("tool-call tool-call-approval")
    assert "argsHash" not in asked[-1]["payload"]
    body = {"runId": asked[0]["runId"], "toolCallId": "call_1", "reason": "not that one"}
    frames = await server.stream("my-agent/decline-tool-call", body)
    assert (
        kinds(frames) == "tool-output-denied step-finish step-start text-start text-delta text-end step-finish finish"
    )
    assert "not that one" in frames[-1]["payload"]["output"]["text"]


async def test_of_two_questions_the_one_that_is_left_is_asked_again(server: AgentsServer) -> None:
    asked = await server.stream(
        "my-agent/stream", {"messages": '!tools deleteThing {"thing":"x"} | askHuman {"question":"?"}'}
    )
    run_id = asked[0]["runId"]
    frames = await server.stream("my-agent/approve-tool-call", {"runId": run_id, "toolCallId": "call_1"})
    assert kinds(frames) == "tool-result tool-call-suspended"
    body = {"runId": run_id, "resumeData": {"answer": "blue"}}
    rest = await server.stream("my-agent/resume-stream", body)
    assert rest[0]["payload"]["result"] == {"question": "?", "answer": "blue"} and rest[-1]["type"] == "finish"


async def test_the_stream_of_a_durable_run_goes_on_over_its_questions(server: AgentsServer) -> None:
    going = asyncio.create_task(server.stream("durable-agent/stream", {**ASK, "runId": "d1"}))
    while not (await server.get("agents/durable-agent/suspended-runs"))["runs"]:
        await asyncio.sleep(0.01)
    answer = await server.stream("durable-agent/approve-tool-call", {"runId": "d1", "toolCallId": "call_1"})
    whole = await going
    assert whole[-len(answer) :] == answer
    observed = await server.stream("durable-agent/observe", {"runId": "d1"})
    assert [each["data"]["type"] for each in observed] == [each["type"] for each in whole]
    rest = await server.stream("durable-agent/observe", {"runId": "d1", "offset": observed[5]["index"]})
    assert rest[0]["index"] == observed[5]["index"] and len(rest) == len(observed) - 5
    assert await server.stream("durable-agent/recover", {"runId": "d1"}) == whole


async def test_a_network_is_streamed_and_its_questions_answered(server: AgentsServer) -> None:
    frames = await server.stream("network-agent/network", {"messages": "!net agent:researcher Look it up"})
    told = [frame["type"] for frame in frames if not frame["type"].startswith("agent-execution-event-")]
    assert told[:4] == ["routing-agent-start", "routing-agent-end", "agent-execution-start", "agent-execution-end"]
    assert told[-2:] == ["network-validation-end", "network-execution-event-finish"]
    for route, seen in (("approve", {"deleted": "x"}), ("decline", None)):
        memory = {"thread": f"n-{route}", "resource": "ada"}
        body = {"messages": '!net tool:deleteThing {"thing":"x"}', "memory": memory}
        asked = await server.stream("network-agent/network", body)
        assert asked[-1]["type"] == "tool-execution-approval"
        assert decode(asked[-1]["payload"]["resumeSchema"])["required"] == ["approved"]
        rest = await server.stream(f"network-agent/{route}-network-tool-call", {"runId": asked[0]["runId"]})
        ends = [frame["payload"]["result"] for frame in rest if frame["type"] == "tool-execution-end"]
        assert rest[-1]["type"] == "network-execution-event-finish" and (seen is None or ends == [seen])
    assert "Memory" in (await server.post("plain-agent/network", {"messages": "x"}, 400))["error"]


async def test_browsers_come_back_to_their_place(server: AgentsServer) -> None:
    await server.post("durable-agent/generate", {"messages": "Hello", "runId": "b1"})
    whole = await server.http.get("/api/agents/durable-agent/runs/b1/stream")
    ids = [int(line[4:]) for line in whole.text.split("\n") if line.startswith("id: ")]
    assert ids == sorted(ids) and whole.text.startswith(f"id: {ids[0]}\ndata: ")
    path, headers = "/api/agents/durable-agent/runs/b1/stream", {"last-event-id": str(ids[2])}
    rest = await server.http.get(path, headers=headers)
    assert frames_of(rest.text) == frames_of(whole.text)[3:]
    await server.get("agents/durable-agent/runs/nope/stream", 404)
    await server.get("agents/my-agent/runs/b1/stream", 400)


async def test_the_results_of_a_clients_tools_are_another_run(server: AgentsServer) -> None:
    tools = {"paint": {"id": "p", "description": "", "inputSchema": {"type": "object"}}}
    body = {"messages": [{"role": "user", "content": "!tool paint {}"}], "clientTools": tools, "runId": "c1"}
    frames = await server.stream("my-agent/stream", body)
    assert frames[-1]["payload"]["stepResult"] == {"reason": "tool-calls", "isContinued": False}
    call = {
        "role": "assistant",
        "content": [{"type": "tool-call", "toolCallId": "call_1", "toolName": "paint", "input": {}}],
    }
    result = {"type": "tool-result", "toolCallId": "call_1", "toolName": "paint", "result": "red"}
    messages = [*body["messages"], call, {"role": "tool", "content": []}, {"role": "tool", "content": [result]}]
    rest = await server.stream("my-agent/stream", {**body, "messages": messages})
    assert rest[0]["runId"].startswith("c1.") and "red" in rest[-1]["payload"]["output"]["text"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "messages"),
        ({"messages": {"role": "user"}}, 400, "messages"),
        ({"messages": ""}, 400, None),
        ({"messages": "x", "maxSteps": "3"}, 400, "maxSteps"),
        ({"messages": "x", "maxSteps": True}, 400, "maxSteps"),
        ({"messages": "x", "maxSteps": 0}, 400, None),
        ({"messages": "x", "memory": {"resource": "u"}}, 400, "memory.thread"),
        ({"messages": "x", "memory": {"thread": "t"}}, 400, None),
        ({"messages": "x", "clientTools": {"a": 1}}, 400, "clientTools.a"),
        ({"messages": "x", "structuredOutput": {"schema": 1}}, 400, "structuredOutput.schema"),
        ({"messages": "x", "toolChoice": "some"}, 400, None),
        ({"messages": [{"role": "boss", "content": "x"}]}, 400, None),
        ([], 400, "root"),
    ],
)
async def test_a_mistake_in_a_body_is_named(server: AgentsServer, body: Json, status: int, field: str | None) -> None:
    for route in ("generate", "stream"):
        told = await server.post(f"my-agent/{route}", body, status)
        assert [issue["field"] for issue in told.get("issues", [])] == ([field] if field else [])


async def test_what_there_is_not_is_told_so(server: AgentsServer) -> None:
    for path in ("nope/generate", "nope/stream", "nope/approve-tool-call"):
        assert await server.post(path, {"messages": "x"}, 404) == {"error": "Agent with id nope not found"}
    response = await server.http.post("/api/agents/my-agent/generate", content=b"{")
    assert response.status_code == 400 and response.json()["issues"][0]["field"] == "body"
    for method, path in (("PUT", "/api/agents"), ("GET", "/api/agents/"), ("GET", "/api/agents/my-agent/nope")):
        response = await server.http.request(method, path)
        assert (response.status_code, response.text) == (404, "404 Not Found")
    assert await server.post("my-agent/generate", {"messages": "!error kaboom"}, 500) == {"error": "kaboom"}


async def test_threads_belong_to_their_resource(server: AgentsServer) -> None:
    memory = {"thread": "mine", "resource": "ada"}
    await server.post("my-agent/generate", {"messages": "one", "memory": memory})
    for agent in ("my-agent", "durable-agent"):
        for route in ("generate", "stream"):
            body = {"messages": "x", "memory": {**memory, "resource": "eve"}}
            assert "different resource" in (await server.post(f"{agent}/{route}", body, 403))["error"]
    await server.get("memory/threads/mine?resourceId=eve", 403)
    found = await server.get("memory/threads/mine/messages?perPage=1")
    assert (found["total"], found["hasMore"], found["messages"][0]["role"]) == (2, True, "assistant")
    assert (await server.get("memory/threads?resourceId=eve"))["threads"] == []


async def test_a_client_cannot_set_what_is_the_servers_to_say(server: AgentsServer) -> None:
    seen: list[Json] = []

    def instructions(context: dict[str, Json]) -> str:
        seen.append(context)
        return "Be brief."

    server.node.apps[0].add_agent(Agent("late", model=ScriptedModel(), instructions=instructions))
    context = {"mastra__resourceId": "eve", "team": "qa"}
    await server.post("late/generate", {"messages": "x", "requestContext": context})
    assert seen == [{"team": "qa"}]


async def test_the_run_of_a_plain_agent_ends_when_its_client_leaves(tmp_path: Path) -> None:
    slow = {"messages": "!slow 6 150", "runId": "gone"}
    async with (
        embedded(agents_app(), db=tmp_path / "a.db") as node,
        asgi_server(make_agents_app(node, silence=0.05)) as url,
        httpx2.AsyncClient(base_url=url, timeout=20) as http,
    ):
        await leave(http, "durable-agent", slow)
        rest = await http.get("/api/agents/durable-agent/runs/gone/stream")
        assert frames_of(rest.text)[-1]["payload"]["stepResult"]["reason"] == "stop"
        await leave(http, "my-agent", {**slow, "messages": "!slow 60 150"})
        async with asyncio.timeout(5):
            # 410 once it is over; while it goes on, it asks nothing: 404.
            body = {"runId": "gone", "toolCallId": "x"}
            while (await http.post("/api/agents/my-agent/approve-tool-call", json=body)).status_code != 410:
                await asyncio.sleep(0.02)


async def leave(http: httpx2.AsyncClient, agent: str, body: Json) -> None:
    """Begins a stream, and leaves once it has said a word, and nothing for a while."""
    async with http.stream("POST", f"/api/agents/{agent}/stream", json=body) as response:
        heard = ""
        async for text in response.aiter_text():
            heard += text
            if "heartbeat" in heard and "text-delta" in heard:
                return


async def test_a_stream_that_the_server_cuts_off_does_not_say_that_it_is_done(tmp_path: Path) -> None:
    async with (
        embedded(agents_app(), db=tmp_path / "a.db") as node,
        asgi_server(node.asgi()) as url,
        httpx2.AsyncClient(base_url=url, timeout=20) as http,
    ):
        heard = ""
        body = {"messages": "!slow 60 100"}
        with pytest.raises(httpx2.RemoteProtocolError):
            async with http.stream("POST", "/api/agents/durable-agent/stream", json=body) as response:
                async for text in response.aiter_text():
                    heard += text
                    if "text-delta" in heard:
                        node.streams.hang_up()
        assert "text-delta" in heard and "[DONE]" not in heard


async def test_a_question_is_answered_after_a_restart(tmp_path: Path) -> None:
    async with serving_agents(tmp_path) as server:
        asked = await server.post("durable-agent/generate", {**ASK, "memory": {"thread": "t", "resource": "ada"}})
    async with serving_agents(tmp_path) as server:
        (run,) = (await server.get("agents/durable-agent/suspended-runs?threadId=t"))["runs"]
        assert run["runId"] == asked["runId"] and run["toolCalls"][0]["args"] == {"thing": "a"}
        call = {"runId": run["runId"], "toolCallId": run["toolCalls"][0]["toolCallId"]}
        result = await server.post("durable-agent/approve-tool-call-generate", call)
        assert (result["finishReason"], len(result["steps"])) == ("stop", 2)
        messages = (await server.get("memory/threads/t/messages?agentId=durable-agent"))["messages"]
        assert [each["role"] for each in messages] == ["user", "assistant", "assistant"]


async def test_with_keys_only_who_shows_one_is_answered(tmp_path: Path) -> None:
    keys = Keys([EventKey.parse("event")], [SigningKey.parse("signkey-prod-00ff")])
    async with embedded(agents_app(), db=tmp_path / "a.db") as node:
        transport = httpx2.ASGITransport(make_app(node, Guard(keys, kind="cloud")))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure.example") as http:
            for path in ("/api/agents", "/api/agents/my-agent", "/api/memory/threads"):
                refused = await http.get(path)
                assert (refused.status_code, refused.json()) == (401, {"error": "Invalid or expired token"})
            asked = {"authorization": "Bearer signkey-prod-00ff"}
            assert (await http.get("/api/agents", headers=asked)).status_code == 200


def test_an_app_takes_agents_only() -> None:
    with pytest.raises(ValueError, match="must be an agent"):
        App("a").add_agent("an agent")


def test_a_server_without_agents_loads_nothing_of_them() -> None:
    program = """
import asyncio, sys, httpx2, perdure
async def main():
    async with perdure.embedded(perdure.App("a"), db=":memory:") as node:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(node.asgi()), base_url="http://x") as http:
            print((await http.get("/api/agents")).text, (await http.get("/api/agents/a")).status_code)
            print(any(name.startswith("perdure.agents") for name in sys.modules))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["{}", "404", "False"]
