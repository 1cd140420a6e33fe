"""The Python client of agents on a server: every method that asks for something, and the same without awaiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure import embedded
from perdure.client import ApiError, Client
from perdure.client.agents import AgentChunk, AgentStream, ApprovalRequest, Finish, ThreadSubscription
from perdure.client.sync import Client as BlockingClient
from perdure.model.json import Json
from tests.support.agents_http import agents_app
from tests.support.hosting import asgi_server

pytestmark = pytest.mark.timeout(60)
BOTH = pytest.mark.parametrize("agent", ["my-agent", "durable-agent"])
DELETE = '!tool deleteThing {"thing":"x"}'
SAID = 'Tool said: [{"type":"json","value":{"deleted":"x"}}]'


@pytest.fixture
async def url(tmp_path: Path) -> AsyncGenerator[str]:
    async with embedded(agents_app(), db=tmp_path / "agents.db") as engine, asgi_server(engine.asgi()) as found:
        yield found


@pytest.fixture
async def client(url: str) -> AsyncGenerator[Client]:
    async with Client(url) as opened:
        yield opened


async def question(stream: AgentStream) -> ApprovalRequest:
    async with stream:
        async for chunk in stream:
            if isinstance(chunk, ApprovalRequest):
                return chunk
    raise AssertionError("nobody asked")


async def until_finish(heard: ThreadSubscription) -> AsyncGenerator[AgentChunk]:
    async for chunk in heard:
        yield chunk
        if isinstance(chunk, Finish):
            return


@BOTH
async def test_runs_questions_and_tools(client: Client, agent: str) -> None:
    desk = client.agent(agent)
    assert (await desk.details())["name"] and (await desk.tool("weather"))["id"] == "weather"
    assert await desk.execute_tool("weather", {"city": "Oslo"}) == {"city": "Oslo", "temperature": 21}
    result = await desk.generate('!json {"n":1}', structured_output={"schema": {"type": "object"}}, run_id=f"g-{agent}")
    assert (result.object, result.run_id, result.finish_reason) == ({"n": 1}, f"g-{agent}", "stop")
    asked = await question(desk.stream(DELETE))
    assert asked.run_id is not None and (asked.tool_name, asked.args) == ("deleteThing", {"thing": "x"})
    assert (await desk.suspended_runs())["total"] == 1
    assert (await desk.approve(asked.run_id, asked.tool_call_id).until_end()).text == SAID
    asked = await question(desk.stream(DELETE))
    declined = await desk.decline_generate(asked.run_id or "", asked.tool_call_id, reason="too risky")
    assert "too risky" in declined.text
    waits = await desk.generate('!tool askHuman {"question":"q"}')
    assert waits.is_suspended and waits.run_id is not None
    resumed = await desk.resume({"answer": "blue"}, run_id=waits.run_id).until_end()
    assert '"answer":"blue"' in resumed.text and resumed.finish_reason == "stop"
    with pytest.raises(ApiError) as refused:
        await desk.approve(waits.run_id, "call_1").until_end()
    assert refused.value.status in (404, 410)
    with pytest.raises(ApiError, match="Invalid request body") as wrong:
        await desk.generate([5])
    assert wrong.value.body["issues"][0]["field"] == "messages"


@BOTH
async def test_the_callers_own_tools(client: Client, agent: str) -> None:
    painted: list[str] = []

    def paint(color: str) -> dict[str, bool]:
        """Paints the page."""
        painted.append(color)
        return {"ok": True}

    desk, ok = client.agent(agent), '"ok":true'
    assert ok in (await desk.generate('!tool paint {"color":"red"}', client_tools=[paint])).text
    memory = {"thread": f"own-{agent}", "resource": "ada"}
    streamed = await desk.stream('!tool paint {"color":"blue"}', client_tools=[paint], memory=memory).until_end()
    mixed = '!tools weather {"city":"Rome"} | paint {"color":"grey"}'
    both = await desk.stream(mixed, client_tools=[paint]).until_end()
    assert ok in streamed.text and ok in both.text and "Rome" in both.text
    asked = await question(
        desk.stream('!chain deleteThing {"thing":"q"} | paint {"color":"black"}', client_tools=[paint])
    )
    after = await desk.approve(asked.run_id or "", asked.tool_call_id, client_tools=[paint]).until_end()
    assert painted == ["red", "blue", "grey", "black"] and after.finish_reason == "stop"


async def test_threads_and_what_they_hear(client: Client) -> None:
    desk, memory = client.agent("durable-agent"), client.memory
    thread = await memory.create_thread("durable-agent", "ada", thread_id="t1", title="Hello")
    assert thread["title"] == "Hello" and (await memory.threads(resource_id="ada"))["total"] == 1
    async with desk.subscribe_to_thread("t1", "ada") as heard:
        sent = await desk.send_message("hi there", thread_id="t1", resource_id="ada")
        ends = [chunk.run_id async for chunk in until_finish(heard)]
    assert sent["accepted"] and ends[-1] == sent["runId"]
    one = memory.thread("t1", agent_id="durable-agent")
    assert [each["role"] for each in (await one.messages())["messages"]] == ["signal", "assistant"]
    assert (await one.update(title="Bye"))["title"] == "Bye" and (await one.get())["title"] == "Bye"
    assert (await one.clone(new_thread_id="t2"))["thread"]["id"] == "t2"
    assert not await desk.abort_thread("t1", resource_id="ada")
    assert (await memory.status("durable-agent"))["result"] and (await memory.config("durable-agent"))["config"]
    assert await one.delete() == {"result": "Thread deleted"}
    with pytest.raises(ApiError, match="Thread not found"):
        await one.get()
    seen = [chunk async for chunk in desk.observe(sent["runId"])]
    rest = [chunk async for chunk in desk.observe(sent["runId"], after=str(seen[2].index))]
    assert [each.type for each in rest] == [each.type for each in seen[3:]]
    network = await client.agent("network-agent").network(
        "!net agent:researcher go", memory={"thread": "n1", "resource": "ada"}
    ).until_end()  # fmt: skip
    assert network.run_id is not None


async def test_what_is_stored_and_what_goes_on_beside(client: Client) -> None:
    model = {"provider": "scripted", "name": "model"}
    record = {"id": "made", "name": "Made", "instructions": "Be brief.", "model": model}
    assert (await client.stored_agents.create(record))["resolvedVersionId"]
    made = client.stored_agents.agent("made")
    await made.update({"instructions": "Be long.", "changeMessage": "longer"})
    (latest, first) = (await made.list_versions())["versions"]
    assert (latest["changeMessage"], first["versionNumber"]) == ("longer", 1)
    assert (await made.compare_versions(first["id"], latest["id"]))["diffs"][0]["field"] == "instructions"
    await made.activate_version(latest["id"])
    assert (await made.details())["instructions"] == "Be long."
    assert [each["id"] for each in (await client.stored_agents.list())["agents"]] == ["made"]
    old = await client.agent("made", version_id=first["id"]).details()
    assert old["instructions"] == "Be brief." and "made" in await client.agents(partial=True)
    assert (await made.delete())["success"]
    assert await client.background_tasks.list() == {"tasks": [], "total": 0}
    with pytest.raises(ApiError) as missing:
        await client.background_tasks.get("nobody")
    assert missing.value.status == 404
    assert "weather" in await client.tools() and (await client.tool("weather"))["id"] == "weather"
    assert (await client.model_providers())["providers"]


async def test_the_same_without_awaiting(url: str) -> None:
    def ask() -> list[Json]:
        with BlockingClient(url) as client:
            desk = client.agent("durable-agent")
            found: list[Json] = [desk.generate("Hello").text, next(iter(client.agents(partial=True)))]
            with desk.stream(DELETE) as stream:
                asked = next(chunk for chunk in stream if isinstance(chunk, ApprovalRequest))
            done = desk.approve(asked.run_id or "", asked.tool_call_id).until_end()
            read = [chunk.type for chunk in desk.observe(done.run_id or "")]
            return [*found, done.text, read[-1], client.memory.threads()["total"], client.health()]

    assert await asyncio.to_thread(ask) == ["Echo: Hello", "my-agent", SAID, "finish", 0, True]
    with pytest.raises(RuntimeError, match="await what"):
        BlockingClient(url).__enter__()
    with pytest.raises(RuntimeError, match="is not open"):
        BlockingClient(url).health()
