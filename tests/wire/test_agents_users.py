"""Users of an app at its agents: who comes in, what belongs to whom, and what only the server may set."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from perdure import App, embedded
from perdure.agents import Agent, Memory, create_durable_agent, tool
from perdure.agents.context import ToolContext
from perdure.client import ApiError, Client
from perdure.model.json import Json
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app
from perdure.testing import ScriptedModel
from tests.support.hosting import asgi_server

pytestmark = pytest.mark.timeout(60)
USERS: dict[str, dict[str, Json]] = {
    "token-ada": {"id": "ada"},
    "token-eve": {"id": "eve"},
    "token-old": {"id": "old", "role": "viewer"},
    "token-out": {"id": "out", "banned": True},
}
KEY = SigningKey.parse("signkey-prod-" + "ab" * 32)


@tool(requires_approval=True)
def pay(cents: int) -> int:
    """Pays."""
    return cents


@tool
def who(ctx: ToolContext) -> Json:
    """Tells what the server has said of the caller."""
    return {key: value for key, value in ctx.request_context.items() if key != "plan"}


def users_app() -> App:
    app = App("shop")
    parts: Json = {"model": ScriptedModel(), "tools": [pay, who]}
    create_durable_agent(agent=Agent("desk", memory=Memory(working_memory=True), **parts), app=app)
    app.add_agent(Agent("plain", memory=Memory(), **parts))

    async def authenticate(token: str) -> Json:
        if token == "broken":
            raise ValueError("not a token")
        return USERS.get(token)

    app.set_users(
        authenticate,
        resource=lambda user: user["id"],
        authorize=lambda user, method, path: not user.get("banned"),
        role=lambda user: user.get("role", "operator"),
    )
    return app


class Clients:
    """A server, and how each user asks it."""

    def __init__(self, app: Json) -> None:
        self.app = app

    async def ask(self, token: str | None, method: str, path: str, body: Json = None) -> httpx2.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=20) as http:
            return await http.request(method, path, json=body, headers=headers)

    async def ok(self, token: str | None, method: str, path: str, body: Json = None) -> Json:
        response = await self.ask(token, method, path, body)
        assert response.status_code == 200, response.text
        return response.json()

    async def status(self, token: str | None, method: str, path: str, body: Json = None) -> int:
        return (await self.ask(token, method, path, body)).status_code


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Clients]:
    async with embedded(users_app(), db=tmp_path / "shop.db") as node:
        yield Clients(make_app(node, Guard(Keys((EventKey("events"),), (KEY,)))))


async def test_only_users_and_keys_come_in(server: Clients) -> None:
    for token in (None, "nobody", "broken"):
        response = await server.ask(token, "GET", "/api/agents")
        assert (response.status_code, response.json()) == (401, {"error": "Invalid or expired token"})
    assert (await server.ask("token-out", "GET", "/api/agents")).json() == {"error": "Access denied"}
    assert list(await server.ok("token-ada", "GET", "/api/agents")) == ["desk", "plain"]
    assert await server.status(None, "GET", "/api/agents?apiKey=token-ada") == 200
    assert await server.status(KEY.bearer, "GET", "/api/agents") == 200
    # Tokens of users open nothing but agents.
    assert await server.status("token-ada", "GET", "/v1/events") == 401
    preflight = {"messages": "hi"}
    assert await server.status("token-old", "POST", "/api/agents/desk/generate", preflight) == 403
    assert await server.status("token-ada", "POST", "/api/stored/agents", {"name": "x"}) == 403


@pytest.mark.parametrize("agent", ["desk", "plain"])
async def test_what_a_user_does_belongs_to_that_user(server: Clients, agent: str) -> None:
    body = {"messages": "hello", "memory": {"thread": "t1", "resource": "eve"}}
    await server.ok("token-ada", "POST", f"/api/agents/{agent}/generate", body)
    (thread,) = (await server.ok("token-ada", "GET", "/api/memory/threads?resourceId=eve"))["threads"]
    assert thread["resourceId"] == "ada"
    assert (await server.ok("token-eve", "GET", "/api/memory/threads?resourceId=ada"))["threads"] == []
    (message, _) = (await server.ok("token-ada", "GET", "/api/memory/threads/t1/messages"))["messages"]
    mine = {"resourceId": "ada", "threadId": "t1"}
    for method, path, asked in (
        ("GET", "/api/memory/threads/t1", None),
        ("DELETE", "/api/memory/threads/t1", None),
        ("POST", "/api/memory/threads/t1/transfer", {"resourceId": "eve"}),
        ("GET", f"/api/memory/threads/t1/messages?agentId={agent}&resourceId=ada", None),
        ("GET", "/api/memory/threads/t1/working-memory?agentId=desk&resourceId=ada", None),
        ("POST", "/api/memory/messages/delete", {"messageIds": [message["id"]]}),
        ("POST", f"/api/agents/{agent}/generate", body),
        ("POST", f"/api/agents/{agent}/threads/subscribe", mine),
        ("POST", f"/api/agents/{agent}/threads/abort", mine),
        ("POST", f"/api/agents/{agent}/send-message", {**mine, "message": "hi"}),
        ("POST", f"/chat/{agent}", {"messages": [{"role": "user", "content": "x"}], "memory": body["memory"]}),
    ):
        assert await server.status("token-eve", method, path, asked) == 403, path
    # Callers with a key of the server speak for anybody.
    assert (await server.ok(KEY.bearer, "GET", "/api/memory/threads/t1"))["resourceId"] == "ada"


@pytest.mark.parametrize("agent", ["desk", "plain"])
async def test_a_run_is_answered_by_whom_it_belongs_to(server: Clients, agent: str) -> None:
    body = {"messages": '!tool pay {"cents": 5}', "memory": {"thread": f"p-{agent}"}}
    asked = await server.ok("token-ada", "POST", f"/api/agents/{agent}/generate", body)
    call = {"runId": asked["runId"], "toolCallId": asked["suspendPayload"]["toolCallId"]}
    approval = {"id": f"{call['runId']}::{call['toolCallId']}", "approved": True}
    part = {"type": "tool-pay", "toolCallId": call["toolCallId"], "state": "approval-responded", "approval": approval}
    for path, sent in (
        ("approve-tool-call-generate", call),
        ("resume-stream", {**call, "resumeData": {"approved": True}}),
        ("signals", {"runId": call["runId"], "signal": {"type": "user", "contents": "x"}}),
    ):
        assert await server.status("token-eve", "POST", f"/api/agents/{agent}/{path}", sent) == 403, path
    chat = {"messages": [{"role": "user", "parts": []}, {"id": "a", "role": "assistant", "parts": [part]}]}
    assert await server.status("token-eve", "POST", f"/chat/{agent}", chat) == 403
    if agent == "desk":
        assert await server.status("token-eve", "POST", "/api/agents/desk/observe", call) == 403
        assert await server.status("token-eve", "GET", f"/api/agents/desk/runs/{call['runId']}/stream") == 403
    assert (await server.ok("token-eve", "GET", f"/api/agents/{agent}/suspended-runs"))["total"] == 0
    assert (await server.ok("token-ada", "GET", f"/api/agents/{agent}/suspended-runs"))["total"] == 1
    done = await server.ok("token-ada", "POST", f"/api/agents/{agent}/approve-tool-call-generate", call)
    assert done["toolResults"][0]["payload"]["result"] == 5


async def test_only_the_server_says_who_asks(server: Clients) -> None:
    context = {"mastra__resourceId": "eve", "mastra__user": {"id": "eve"}, "plan": "gold"}
    body = {"messages": "!tool who {}", "requestContext": context}
    found = await server.ok("token-ada", "POST", "/api/agents/plain/generate", body)
    told = found["toolResults"][0]["payload"]["result"]
    assert told == {"mastra__resourceId": "ada", "mastra__user": {"id": "ada"}}
    service = await server.ok(KEY.bearer, "POST", "/api/agents/plain/generate", body)
    assert service["toolResults"][0]["payload"]["result"] == {}


async def test_users_come_in_where_the_server_is_mounted(tmp_path: Path) -> None:
    async with embedded(users_app(), db=tmp_path / "shop.db") as node:
        clients = Clients(Starlette(routes=[Mount("/perdure", node.asgi())]))
        assert await clients.status(None, "GET", "/perdure/api/agents") == 401
        asked = await clients.ok("token-ada", "POST", "/perdure/api/agents/desk/generate", {"messages": "hi"})
        assert asked["text"] == "Echo: hi"


async def test_the_python_client_shows_a_token(tmp_path: Path) -> None:
    async with embedded(users_app(), db=tmp_path / "shop.db") as node, asgi_server(node.asgi()) as url:
        async with Client(url, bearer="token-ada") as client:
            assert (await client.agent("desk").generate("hi", memory={"thread": "t1"})).text == "Echo: hi"
        async with Client(url, bearer="nobody") as client:
            with pytest.raises(ApiError, match="Invalid or expired token"):
                await client.agents()


async def test_a_server_without_keys_asks_for_tokens_too(tmp_path: Path) -> None:
    async with embedded(users_app(), db=tmp_path / "open.db") as node:
        clients = Clients(node.asgi())
        assert await clients.status(None, "GET", "/api/agents") == 401
        assert await clients.status("token-ada", "GET", "/api/agents") == 200


async def test_users_of_one_app_open_no_door_to_another(tmp_path: Path) -> None:
    other = App("other")
    other.add_agent(Agent("secret", model=ScriptedModel()))
    keys = Keys([EventKey.parse("events")], [KEY])
    async with embedded([users_app(), other], db=tmp_path / "two.db") as node:
        clients = Clients(make_app(node, Guard(keys, kind="cloud")))
        body: Json = {"messages": "hi"}
        for token in (None, "token-ada", "nonsense"):
            assert await clients.status(token, "POST", "/api/agents/secret/generate", body) == 401
            assert await clients.status(token, "GET", "/api/agents/secret") == 401
        assert await clients.status(KEY.bearer, "GET", "/api/agents/secret") == 200
        assert await clients.status("token-ada", "GET", "/api/agents/plain") == 200
