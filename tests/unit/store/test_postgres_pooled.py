"""Through a pooler that gives out sessions by the transaction: nothing may rest on what a session remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest

from perdure import App, Context, embedded, step
from tests.support.transaction_pooler import TransactionPooler


@pytest.fixture
async def pooler(postgres_url: str) -> AsyncGenerator[tuple[TransactionPooler, str]]:
    parts = urlsplit(postgres_url)
    made = TransactionPooler(parts.port or 0, parts.path[1:])
    yield made, await made.start()
    await made.stop()


def shop() -> App:
    app = App("shop")

    @app.function("order", trigger="shop/order", concurrency=2)
    async def order(ctx: Context) -> list[int]:
        first = await step.run("first", lambda: 1)
        await step.sleep("nap", "20ms")
        event = await step.wait_for_event("paid", event="shop/paid", match="data.n", timeout="20s")
        return [first, event.data["n"] if event else -1]

    @app.function("plain", trigger="shop/plain")
    async def plain(ctx: Context) -> list[int]:
        return [await step.run(f"{n}", int, n) for n in range(3)]

    return app


async def test_two_nodes_work_through_a_pooler(pooler: tuple[TransactionPooler, str]) -> None:
    url = pooler[1] + "?statement_cache_size=0"
    async with embedded(shop(), db=url, lifetime=4) as one, embedded(shop(), db=url, lifetime=4) as other:
        plain = [await node.trigger("shop-plain") for node in (one, other) for _ in range(20)]
        orders = [await one.trigger("shop-order", {"n": n}) for n in range(4)]
        assert [await run.result(timeout=20) for run in plain] == [[0, 1, 2]] * 40
        results: asyncio.Future[list[list[int]]] = asyncio.gather(
            *(other.run(run.run_id).result(timeout=20) for run in orders)
        )
        while not results.done():
            # Nobody waits for it before its turn has come.
            await other.send([{"name": "shop/paid", "data": {"n": n}} for n in range(4)])
            await asyncio.sleep(0.1)
        assert await results == [[1, n] for n in range(4)]
        health = await one.health()
    assert health.orphans == [] and health.jobs == {}
    assert pooler[0].transactions > 100
