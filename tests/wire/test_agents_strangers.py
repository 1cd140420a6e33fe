"""What a user of an app cannot reach of other users, whichever way is tried: by ids alone, sideways, and across apps."""

from __future__ import annotations

import asyncio
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
    asked = await server.ok("token-ada", "POST", f"/api/agents/{agent}/generate", {"messages": '!tool pay {"cents": 5}'})
    call = {"runId": asked["runId"], "toolCallId": asked["suspendPayload"]["toolCallId"]}
    path = f"/api/agents/{agent}"
    assert await server.status("token-eve", "POST", f"{path}/approve-tool-call-generate", call) == 403
    if agent == "desk":
        assert await server.status("token-eve", "POST", f"{path}/observe", call) == 403
        assert await server.status("token-eve", "GET", f"{path}/runs/{call['runId']}") == 403
        assert await server.status("token-eve", "POST", f"{path}/runs/{call['runId']}/abort") == 403
    done = await server.ok("token-ada", "POST", f"{path}/approve-tool-call-generate", call)
    assert done["toolResults"][0]["payload"]["result"] == 5
