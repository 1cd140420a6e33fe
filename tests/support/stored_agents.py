"""An app whose parts stored agents may name, and a server of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from perdure import App, Context, embedded
from perdure.model.json import Json, decode
from perdure.testing import ScriptedModel
from tests.support.agents_http import AgentsServer, agents_app

MODEL: Json = {"provider": "mock/acme", "name": "mock-model"}
FIRST: Json = {
    "id": "my-stored", "name": "My Assistant", "instructions": "You are a helpful assistant.", "model": MODEL,
}  # fmt: skip


def stored_app() -> App:
    """The agents of `agents_app`, a model, a scorer and a function besides."""
    app = agents_app()
    app.add_model("mock/acme/mock-model", ScriptedModel(name="mock/acme/mock-model"))
    app.add_model("mock/other", ScriptedModel(name="mock/other"))
    app.add_scorer("brief", lambda judged: 1.0)

    @app.function("upper-wf", trigger="test/upper")
    async def upper(ctx: Context) -> str:
        return str(ctx.event.data["text"]).upper()

    return app


class StoredServer(AgentsServer):
    """A server of stored agents."""

    async def ask(self, method: str, path: str, body: Json = None, status: int = 200) -> Json:
        """Asks below `/api/stored/agents`; the answer."""
        response = await self.http.request(method, f"/api/stored/agents{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    async def create(self, **fields: Json) -> Json:
        """A new stored agent; its record."""
        return await self.ask("POST", "", {**FIRST, **fields})

    async def edit(self, id: str = "my-stored", **fields: Json) -> Json:
        """An edited one."""
        return await self.ask("PATCH", f"/{id}", fields)

    async def prompt(self, agent: str = "my-stored", **options: Json) -> list[tuple[str, str]]:
        """What the model of an agent is told: roles and texts."""
        result = await self.post(f"{agent}/generate", {"messages": "!prompt", **options})
        return [(each["role"], each["text"]) for each in decode(result["text"])]

    async def system(self, agent: str = "my-stored", **options: Json) -> str:
        """The first thing that the model of an agent is told."""
        return (await self.prompt(agent, **options))[0][1]


@asynccontextmanager
async def serving_stored(db: Path | str) -> AsyncGenerator[StoredServer]:
    """A started server."""
    async with embedded(stored_app(), db=db) as node:
        transport = httpx2.ASGITransport(node.asgi())
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure", timeout=20) as http:
            yield StoredServer(node, http)
