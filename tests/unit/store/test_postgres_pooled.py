"""Through a pooler that gives out sessions by the transaction: nothing may rest on what a session remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import pytest

from perdure import App, Context, embedded, step
from perdure.wire.realtime import Topic
from tests.support.pgbouncer import PgBouncer, program
from tests.support.transaction_pooler import TransactionPooler
from tests.support.valkey import ValkeyServer


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
    await two_nodes_work(pooler[1])
    assert pooler[0].transactions > 100


async def test_a_bus_brings_the_news_that_cannot_be_listened_for(
    pooler: tuple[TransactionPooler, str], valkey_server: ValkeyServer
) -> None:
    await two_nodes_work(pooler[1], valkey_server.url)


@pytest.mark.may_skip(reason="no registry has pgbouncer's program; the pooler above behaves alike")
@pytest.mark.skipif(program() is None, reason="there is no pgbouncer")
async def test_two_nodes_work_through_pgbouncer(postgres_url: str) -> None:
    made = PgBouncer(postgres_url)
    try:
        await two_nodes_work(made.start())
    finally:
        made.stop()


async def two_nodes_work(pooled: str, bus: str | None = None) -> None:
    url = pooled + "?statement_cache_size=0"
    async with (
        embedded(shop(), db=url, bus=bus, lifetime=4) as one,
        embedded(shop(), db=url, bus=bus, lifetime=4) as other,
    ):
        if bus is not None:
            async with asyncio.timeout(30):
                while not (one.has_bus and other.has_bus):
                    await asyncio.sleep(0.01)
            with other.realtime.subscribed([Topic("orders", "paid")]) as heard:
                one.realtime.publish("orders", "paid", 1)
                assert b"orders" in (await asyncio.wait_for(heard.next(), 30)).body
        plain = [await node.trigger("shop-plain") for node in (one, other) for _ in range(20)]
        orders = [await one.trigger("shop-order", {"n": n}) for n in range(4)]
        assert [await run.result(timeout=30) for run in plain] == [[0, 1, 2]] * 40
        results: asyncio.Future[list[list[int]]] = asyncio.gather(
            *(other.run(run.run_id).result(timeout=30) for run in orders)
        )
        while not results.done():
            # Nobody waits for it before its turn has come.
            await other.send([{"name": "shop/paid", "data": {"n": n}} for n in range(4)])
            await asyncio.sleep(0.1)
        assert await results == [[1, n] for n in range(4)]
        health = await one.health()
    assert health.orphans == [] and health.jobs == {}
