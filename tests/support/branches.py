"""A server with branch environments, in memory or in files, and a client that names one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from perdure.embedding import make_node
from perdure.environments import Environments
from perdure.model.json import Json
from perdure.model.keys import Keys
from perdure.node import Node
from perdure.server import Guard, make_app
from perdure.server.environments import EnvironmentDoor
from perdure.testing import VirtualClock
from tests.support.wire import wire_app


class Branches:
    """A main node with an app, its environments, and requests to them."""

    def __init__(self, node: Node, environments: Environments, http: httpx2.AsyncClient, clock: VirtualClock) -> None:
        self.node = node
        self.environments = environments
        self.http = http
        self.clock = clock

    async def ask(
        self, method: str, path: str, env: str = "", body: Json = None, bearer: str = "", **headers: str
    ) -> httpx2.Response:
        """A request that names an environment, "" for none."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if env:
            sent["x-inngest-env"] = env
        if bearer:
            sent["authorization"] = f"Bearer {bearer}"
        return await self.http.request(method, path, json=body, headers=sent)

    async def send(self, env: str, name: str, key: str = "key", **data: Json) -> httpx2.Response:
        return await self.ask("POST", f"/e/{key}", env, {"name": name, "data": data})

    async def names(self, env: str, bearer: str = "") -> list[str]:
        """The names of the events that an environment has received."""
        answer = await self.ask("GET", "/v1/events?limit=100", env, bearer=bearer)
        assert answer.status_code == 200, answer.text
        return [event["name"] for event in answer.json()["data"]]


@asynccontextmanager
async def branched(
    db: str | Path = ":memory:", keys: Keys | None = None, most: int = 20, address: str = "http://perdure"
) -> AsyncGenerator[Branches, None]:
    """Serves a node with environments."""
    clock = VirtualClock()

    def make(db: str, keys: Keys | None, environment_id: str) -> Node:
        return make_node((), db, keys=keys, environment_id=environment_id, clock=clock)

    node = make_node(wire_app(), db, keys=keys, clock=clock)
    await node.start()
    guard = Guard(keys, kind="dev" if keys is None else "cloud")
    environments = Environments(node, str(db), guard, make, most=most)
    try:
        await environments.start()
        main = make_app(node, guard, environments=environments)
        transport = httpx2.ASGITransport(EnvironmentDoor(main, guard, environments, clock.now))
        async with httpx2.AsyncClient(transport=transport, base_url=address) as http:
            yield Branches(node, environments, http, clock)
    finally:
        await environments.stop()
        await node.stop()
