"""A server over a node in memory, under a clock that stands still, and a client that calls it without a socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2

from perdure import App, BatchEvents, Context, Node, RetryAfterError, embedded, step
from perdure.server import make_app
from perdure.testing import VirtualClock


class Wire:
    """What a wire test works with."""

    def __init__(self, node: Node, clock: VirtualClock, http: httpx2.AsyncClient) -> None:
        self.node = node
        self.clock = clock
        self.http = http

    async def send(self, body: object, **headers: str) -> httpx2.Response:
        return await self.http.post("/e/key", json=body, headers=headers)

    async def start(self, name: str, data: object = None) -> str:
        """Sends an event that starts one run, and lets that come to rest; returns the run's id."""
        response = await self.send({"name": name, "data": data or {}})
        (event_id,) = response.json()["ids"]
        await self.node.settle()
        runs = (await self.http.get(f"/v1/events/{event_id}/runs")).json()["data"]
        run_id: str = runs[0]["run_id"]
        return run_id

    async def stored_events(self) -> int:
        return len((await self.http.get("/v1/events?limit=100")).json()["data"])


def wire_app() -> App:
    app = App("shop")
    tries: list[int] = []

    def sometimes() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise RetryAfterError("not yet", 5)
        return "at last"

    @app.function("plain", trigger="t/plain", name="A plain function")
    async def plain(ctx: Context) -> dict[str, object]:
        return {"got": ctx.event.data}

    @app.function("two", trigger="t/two")
    async def two(ctx: Context) -> dict[str, int]:
        return {"a": await step.run("a", lambda: 1), "b": await step.run("b", lambda: 2)}

    @app.function("waiter", trigger="t/wait", concurrency=3)
    async def waiter(ctx: Context) -> bool:
        await step.sleep("nap", "10s")
        return await step.wait_for_event("approval", event="t/approved", timeout="1d") is not None

    @app.function("flaky", trigger="t/flaky", retries=2)
    async def flaky(ctx: Context) -> str:
        return await step.run("try", sometimes)

    @app.function("boom", trigger="t/boom", retries=1)
    async def boom(ctx: Context) -> None:
        raise ValueError("boom")

    @app.function("tick", trigger="t/batched", batch_events=BatchEvents(2, "5s"))
    async def tick(ctx: Context) -> int:
        return len(ctx.events)

    return app


@asynccontextmanager
async def serving() -> AsyncGenerator[Wire, None]:
    """A started server in memory."""
    clock = VirtualClock()
    async with embedded(wire_app(), db=":memory:", clock=clock) as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
            yield Wire(node, clock, http)
