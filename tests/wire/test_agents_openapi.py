"""The OpenAPI document about agents: it has every route of the room, and nothing that is not one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from perdure import embedded
from perdure.model.json import Json
from perdure.model.roles import Role
from perdure.server.agents import make_agents_app
from perdure.server.catalogue import AGENTS, Operation
from perdure.server.openapi import document
from perdure.server.permissions import role_for
from tests.support.agents_http import AgentsServer, agents_app, serving_agents

pytestmark = pytest.mark.timeout(60)
DOCUMENT = document()


def routes_of(room: Json) -> list[Route]:
    """The routes behind whatever stands before them."""
    while not isinstance(room, Starlette):
        room = next(each for name, each in vars(room).items() if callable(each) and name.endswith(("room", "app")))
    return [route for route in room.routes if isinstance(route, Route)]


async def test_every_route_is_in_the_document(tmp_path: Path) -> None:
    async with embedded(agents_app(), db=tmp_path / "desk.db") as node:
        found = routes_of(make_agents_app(node))
    served = {(route.path, method.lower()) for route in found for method in route.methods or () if method != "HEAD"}
    assert served == {(each.path, each.method.lower()) for each in AGENTS}
    assert served <= {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_each_operation_asks_for_a_role() -> None:
    asked = {each.id: role_for(each.method, each.path.replace("{", "").replace("}", "")) for each in AGENTS}
    assert asked == {each.id: each.role for each in AGENTS}
    assert (asked["ListAgents"], asked["Generate"], asked["Chat"]) == (Role.VIEWER, Role.OPERATOR, Role.OPERATOR)
    assert (asked["ObserveRun"], asked["SubscribeToThread"]) == (Role.VIEWER, Role.VIEWER)
    assert (asked["CreateStoredAgent"], asked["CloneAgent"], asked["ChooseAgentModel"]) == (Role.ADMIN,) * 3


async def _ask(server: AgentsServer, operation: Operation, names: dict[str, str], body: Json) -> None:
    path = operation.path
    for name in ("agent", "tool", "run", "chat", "thread", "task", "stored", "version", "config"):
        path = path.replace("{" + name + "}", names.get(name, "nobody"))
    sent = {} if operation.method == "GET" else {"json": body}
    response = await asyncio.wait_for(server.http.request(operation.method, path, **sent), 30)
    documented = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    told = f"{operation.method} {path}: {response.status_code} {response.text[:200]}"
    if response.status_code == 204 and operation.tag == "chats":
        return
    assert response.status_code < 500 and str(response.status_code) in documented, told
    (media,) = documented[str(response.status_code)]["content"]
    assert response.headers["content-type"].startswith(media), told


# They tell what happens until their clients leave.
ENDLESS = {"SubscribeToThread", "StreamBackgroundTasks"}


async def test_what_is_not_there_and_what_is_empty_is_answered_as_documented(tmp_path: Path) -> None:
    async with serving_agents(tmp_path) as server:
        known = {"agent": "durable-agent", "tool": "weather"}
        for operation in AGENTS:
            if operation.id not in ENDLESS:
                for names in ({}, known):
                    for body in ({}, {"runId": "nobody", "messages": 5, "resourceId": 5}):
                        await _ask(server, operation, names, body)
