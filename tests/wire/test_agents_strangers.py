"""What a user of an app cannot reach of other users, whichever way is tried: by ids alone, and across apps."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure import App, embedded
from perdure.agents import Agent, Memory, create_durable_agent, tool
from perdure.model.json import Json
from perdure.model.keys import EventKey, Keys
from perdure.server import Guard, make_app
from perdure.testing import ScriptedModel
from tests.wire.test_agents_users import KEY, Clients, users_app

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Clients]:
    async with embedded(users_app(), db=tmp_path / "shop.db") as node:
        yield Clients(make_app(node, Guard(Keys((EventKey.parse("events"),), (KEY,)))))


async def _said(server: Clients, token: str, text: str) -> Json:
    body = {"messages": text, "memory": {"thread": f"of-{token}"}}
    await server.ok(token, "POST", "/api/agents/plain/generate", body)
    found = await server.ok(token, "GET", f"/api/memory/threads/of-{token}/messages")
    return found["messages"][0]


async def test_messages_of_others_are_not_included_in_a_page(server: Clients) -> None:
    secret = await _said(server, "token-ada", "my number is 4711")
    await _said(server, "token-eve", "hello")
    include = json.dumps([{"id": secret["id"], "withNextMessages": 5}])
    path = "/api/memory/threads/of-token-eve/messages?include="
    assert "4711" not in json.dumps(await server.ok("token-eve", "GET", path + include))
    # Whoever has a key of the server may ask for any.
    assert "4711" in json.dumps(await server.ok(KEY.bearer, "GET", path + include))


@pytest.mark.parametrize("agent", ["desk", "plain"])
async def test_a_run_without_a_thread_is_its_users_too(server: Clients, agent: str) -> None:
    asked = await server.ok(
        "token-ada", "POST", f"/api/agents/{agent}/generate", {"messages": '!tool pay {"cents": 5}'}
    )
    call = {"runId": asked["runId"], "toolCallId": asked["suspendPayload"]["toolCallId"]}
    path = f"/api/agents/{agent}"
    assert await server.status("token-eve", "POST", f"{path}/approve-tool-call-generate", call) == 403
    if agent == "desk":
        assert await server.status("token-eve", "POST", f"{path}/observe", call) == 403
        assert await server.status("token-eve", "GET", f"{path}/runs/{call['runId']}") == 403
        assert await server.status("token-eve", "POST", f"{path}/runs/{call['runId']}/abort") == 403
    done = await server.ok("token-ada", "POST", f"{path}/approve-tool-call-generate", call)
    assert done["toolResults"][0]["payload"]["result"] == 5


@tool(background=True)
async def research(topic: str) -> str:
    """Finds out."""
    return f"found {topic}"


async def test_tasks_of_others_are_not_followed(tmp_path: Path) -> None:
    app = users_app()
    create_durable_agent(agent=Agent("lab", model=ScriptedModel(), tools=[research]), app=app)
    async with embedded(app, db=tmp_path / "shop.db") as node:
        server = Clients(node.asgi())
        asked = {"messages": '!tool research {"topic": "gold"}', "memory": {"thread": "t"}}
        await server.ok("token-ada", "POST", "/api/agents/lab/generate", asked)
        await server.ok("token-ada", "POST", "/api/agents/lab/generate", {"messages": asked["messages"]})
        tasks = (await server.ok("token-ada", "GET", "/api/background-tasks"))["tasks"]
        assert len(tasks) == 2
        for task in tasks:
            for method, path in (
                ("GET", f"/api/background-tasks/stream?taskId={task['id']}"),
                ("GET", f"/api/background-tasks/{task['id']}"),
                ("POST", f"/api/background-tasks/{task['id']}/cancel"),
            ):
                assert await server.status("token-eve", method, path) == 403, path
        assert (await server.ok("token-eve", "GET", "/api/background-tasks"))["tasks"] == []


async def test_users_of_one_app_see_nothing_of_another(tmp_path: Path) -> None:
    first, second = users_app(), App("other")
    parts: Json = {"model": ScriptedModel(), "tools": [research]}
    create_durable_agent(agent=Agent("secret", memory=Memory(), **parts), app=second)
    keys = Keys([EventKey.parse("events")], [KEY])
    async with embedded([first, second], db=tmp_path / "two.db") as node:
        server = Clients(make_app(node, Guard(keys, kind="cloud")))
        stored = {"id": "kept", "name": "kept", "model": "test/x", "instructions": "hush", "appId": "other"}
        await server.ask(KEY.bearer, "POST", "/api/stored/agents", stored)
        assert list(await server.ok("token-ada", "GET", "/api/agents")) == ["desk", "plain"]
        assert list(await server.ok("token-ada", "GET", "/api/tools")) == ["pay", "who"]
        for method, path, body in (
            ("GET", "/api/tools/research", None),
            ("POST", "/api/tools/research/execute", {"data": {"topic": "x"}}),
            ("GET", "/api/memory/status?agentId=plain&agentId=secret", None),
            ("GET", "/api/memory/threads?networkId=secret", None),
            ("POST", "/api/memory/threads", {"agentId": "secret", "resourceId": "ada"}),
            ("GET", "/api/background-tasks?agentId=secret", None),
        ):
            assert await server.status("token-ada", method, path, body) == 404, path
            assert await server.status(KEY.bearer, method, path, body) == 200, path


@pytest.mark.parametrize("agent", ["desk", "plain"])
@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("run_id", {"runId": "a\0b"}),
        ("messages[0].id", {"messages": [{"id": "a\0b", "role": "user", "content": "hi"}]}),
        ("messages[0].id", {"messages": [{"id": "x" * 513, "role": "user", "content": "hi"}]}),
        ("memory.thread", {"memory": {"thread": "a\0b"}}),
        ("memory.thread.title", {"memory": {"thread": {"id": "t", "title": "a\0b"}}}),
    ],
)
async def test_what_no_store_can_keep_is_refused_before_a_run_begins(
    server: Clients, agent: str, field: str, body: Json
) -> None:
    asked = {"messages": "hi", "memory": {"thread": "t"}, **body}
    refused = await server.ask("token-ada", "POST", f"/api/agents/{agent}/generate", asked)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith(f"{field}: ")
