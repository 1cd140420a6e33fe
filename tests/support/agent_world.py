"""Durable agents on each engine that carries them out: the one of the process, and a server that calls a served app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from perdure import App, Node, embedded, serve
from perdure.agents.chunks import Chunk
from perdure.agents.durable import DurableAgent, DurableRun, create_durable_agent, remote_engine
from perdure.agents.durable.engines import Engine
from perdure.engine import views
from perdure.model.json import Json
from tests.support.hosting import asgi_server

ENGINES = ("local", "remote")


class AgentWorld(msgspec.Struct):
    """An agent that is run. `node` is the engine that keeps the runs, of this process or behind the server."""

    agent: DurableAgent
    node: Node
    app: App

    async def status(self, run: DurableRun) -> str:
        """How a run stands whose end was read: its row is written just after."""
        async with asyncio.timeout(5):
            while True:
                found = await self.agent.get_run(run.run_id)
                if found.status not in ("running", "suspended"):
                    return found.status
                await asyncio.sleep(0.005)

    async def steps(self, run: DurableRun) -> list[str]:
        """The names of the steps that a run has recorded, in order."""
        row = await self.agent.get_run(run.run_id)
        assert row.engine_run_id is not None
        run_id = row.engine_run_id
        detail = await self.node.view(lambda: views.run_detail(run_id))
        assert detail is not None
        return [step.name for step in detail.steps]


@asynccontextmanager
async def agent_world(
    kind: str,
    folder: Path,
    agent: Json,
    *,
    more: Callable[[App, Engine | None], object] | None = None,
    **options: Json,
) -> AsyncGenerator[AgentWorld]:
    """An agent, or one made for the app, on an engine. `more` may add to the app before it runs."""
    app = App("office")
    if callable(agent):
        agent = agent(app)
    if kind == "local":
        durable = create_durable_agent(agent=agent, app=app, **options)
        if more is not None:
            more(app, None)
        async with embedded(app, db=folder / "office.db", retry_interval=10) as node:
            yield AgentWorld(durable, node, app)
        return
    async with (
        embedded([], db=":memory:", retry_interval=10) as node,
        asgi_server(node.asgi()) as url,
        remote_engine(url, store=folder / "agents.db") as engine,
    ):
        durable = create_durable_agent(agent=agent, app=app, engine=engine, **options)
        if more is not None:
            more(app, engine)
        async with asgi_server(serve(app, is_dev=True, base_url=url)) as app_url:
            async with aiohttp.ClientSession() as http, http.put(f"{app_url}/api/inngest") as answer:
                assert answer.status == 200, await answer.text()
            yield AgentWorld(durable, node, app)


async def read(run: DurableRun) -> list[Chunk]:
    """The chunks of a segment."""
    return [said async for said in run.full_stream]


def kinds(chunks: list[Chunk]) -> list[str]:
    """What kinds of chunks there are, those in a row told once."""
    found: list[str] = []
    for said in chunks:
        if not found or found[-1] != said.type:
            found.append(said.type)
    return found


def text_of(chunks: list[Chunk]) -> str:
    """The text that the chunks say."""
    return "".join(said.payload["text"] for said in chunks if said.type == "text-delta")
