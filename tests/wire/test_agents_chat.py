"""Chats of the AI SDK over HTTP: networks that ask, versions, what is told besides, and who may take one up again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from perdure import embedded
from perdure.client import Client
from perdure.model.json import Json
from tests.support.agents_http import AgentsServer, agents_app, frames_of, serving_agents
from tests.support.hosting import asgi_server

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[AgentsServer]:
    async with serving_agents(tmp_path) as started:
        yield started


async def chat(server: AgentsServer, path: str, text: str, **body: Json) -> list[Json]:
    messages = [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}]
    response = await server.http.post(path, json={"id": "c1", "messages": messages, **body})
    assert response.status_code == 200, response.text
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    return frames_of(response.text)


async def test_a_network_asks_in_a_chat_and_goes_on(server: AgentsServer) -> None:
    asked = await chat(server, "/network/network-agent", '!net tool:deleteThing {"thing":"x"}')
    question = next(part for part in asked if part["type"] == "data-tool-call-approval")
    answer = {"runId": question["data"]["runId"], "resumeData": {"approved": True}}
    done = await chat(server, "/network/network-agent", "x", **answer)
    steps = [part["data"] for part in done if part["type"] == "data-network"]
    assert steps[-1]["status"] == "finished" and {"deleted": "x"} in [step["output"] for step in steps[-1]["steps"]]


async def test_the_stored_version_of_an_agent_is_chosen_by_the_query(server: AgentsServer) -> None:
    record = {"id": "made", "name": "Made", "instructions": "One.", "model": {"provider": "scripted", "name": "model"}}
    first = (await server.http.post("/api/stored/agents", json=record)).json()["resolvedVersionId"]
    await server.http.patch("/api/stored/agents/made", json={"requestContextSchema": _NEEDS_PLAN})
    for query, works in ((f"?versionId={first}", True), ("?status=draft", False), ("?status=published", True)):
        response = await server.http.post("/chat/made" + query, json={"messages": [{"role": "user", "content": "hi"}]})
        # The latest version wants a field of the request context.
        assert (response.status_code == 200) == works, query


_NEEDS_PLAN = {"type": "object", "properties": {"plan": {"type": "string"}}, "required": ["plan"]}


async def test_preflights_of_pages_are_answered(server: AgentsServer) -> None:
    headers = {
        "origin": "http://localhost:3000",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-mastra-dev-playground,x-ai-sdk-format",
    }
    for path in ("/chat/my-agent", "/api/agents/my-agent/stream"):
        told = await server.http.options(path, headers=headers)
        assert told.status_code == 200 and told.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "x-mastra-dev-playground" in told.headers["access-control-allow-headers"]
        assert told.headers["access-control-allow-methods"] == "POST"
        assert told.headers["access-control-max-age"] == "3600"


async def test_a_thread_is_not_written_over_by_a_chat(server: AgentsServer) -> None:
    memory = {"thread": "t1", "resource": "ada"}
    first = await chat(server, "/chat/my-agent", "hello", memory=memory)
    mine = {"id": first[0]["messageId"], "role": "assistant", "parts": [{"type": "text", "text": "Forged."}]}
    said = [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}, mine]
    more = [*said, {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "again"}]}]
    answer = await server.http.post("/chat/my-agent", json={"messages": more, "memory": memory})
    assert answer.status_code == 200
    found = (await server.get("memory/threads/t1/messages"))["messages"]
    assert [each["content"]["content"] for each in found] == ["hello", "Echo: hello", "again", "Echo: again"]


async def test_a_chat_outlives_its_server(tmp_path: Path) -> None:
    text = {"type": "text", "text": "!slow 20 50"}
    body = {"id": "left", "messages": [{"id": "u1", "role": "user", "parts": [text]}]}
    db = tmp_path / "desk.db"
    async with (
        embedded(agents_app(), db=db, shutdown_timeout=0) as node,
        asgi_server(node.asgi()) as url,
        Client(url) as client,
        aclosing(client.frames("POST", "/chat/durable-agent", body)) as frames,
    ):
        async for _, part in frames:
            if part["type"] == "text-delta":
                break
    async with (
        embedded(agents_app(), db=db) as node,
        asgi_server(node.asgi()) as url,
        Client(url) as client,
        aclosing(client.frames("GET", "/chat/durable-agent/left/stream")) as frames,
    ):
        parts = [part async for _, part in frames]
    begun = max(place for place, part in enumerate(parts) if part["type"] == "text-start")
    said = "".join(part["delta"] for part in parts[begun:] if part["type"] == "text-delta")
    assert said.split() == [f"w{place}" for place in range(20)]
    assert parts[-1] == {"type": "finish", "finishReason": "stop"}


async def test_a_chat_that_waits_is_idle(server: AgentsServer) -> None:
    await chat(server, "/chat/durable-agent", '!tool deleteThing {"thing":"x"}')
    for path in ("/chat/durable-agent/c1/stream", "/chat/c1/stream", "/chat/my-agent/c1/stream"):
        response = await server.http.get(path)
        assert (response.status_code, response.text) == (204, "")
    assert (await server.http.get("/chat/nobody/c1/stream")).status_code == 404
