"""Which way news travel: over the bus while all nodes are on it, otherwise by the database, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from perdure import App, Context, embedded, step
from perdure.model.errors import ConfigError
from perdure.node import Node
from perdure.runner.handle import RunHandle
from perdure.store.protocol import EVERYTHING
from perdure.wire.realtime import Topic
from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def server() -> Generator[ValkeyServer]:
    """One that the test may stop."""
    server = ValkeyServer()
    server.start()
    yield server
    server.remove()


def build() -> App:
    app = App("t")

    async def noted(number: int) -> int:
        return number

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> int:
        event = await step.wait_for_event("wait", event="go", timeout="1h", match="data.n")
        return await step.run("note", noted, event.data["n"] if event else -1)

    return app


@asynccontextmanager
async def nodes_on(url: str, *buses: str | None) -> AsyncGenerator[list[Node]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(embedded(build(), db=url, bus=bus, shutdown_timeout=2)) for bus in buses]


def all_share(nodes: list[Node]) -> bool:
    return all(node.runner.neighbours.relay.shared for node in nodes)


async def works(one: Node, other: Node, number: int) -> None:
    """A run that is begun on one node and woken on the other ends, and both hear of it, and of a message."""
    run = await one.trigger("t-f", {"n": number})
    handle: RunHandle[int] = other.run(run.run_id)
    there = asyncio.create_task(handle.result(timeout=30))
    with other.realtime.subscribed([Topic("c", "t")]) as heard:
        # One that has only just come may not be listening yet, and the run may not be waiting yet.
        repeating = asyncio.create_task(_repeat(one, other, number))
        await asyncio.wait_for(heard.next(), 30)
    assert await there == number == await run.result(timeout=30)
    repeating.cancel()


async def _repeat(one: Node, other: Node, number: int) -> None:
    while True:
        one.realtime.publish("c", "t", number)
        await other.send([{"name": "go", "data": {"n": number}}])
        await asyncio.sleep(0.05)


async def test_while_all_are_on_the_bus_the_database_tells_nothing(
    postgres_url: str, valkey_server: ValkeyServer
) -> None:
    told: list[str] = []
    listening = await asyncpg.connect(postgres_url)
    try:
        async with nodes_on(postgres_url, valkey_server.url, valkey_server.url) as nodes:
            await soon(lambda: all_share(nodes))
            await listening.add_listener("perdure", lambda *args: told.append(str(args[3])))
            await works(nodes[0], nodes[1], 1)
            await works(nodes[1], nodes[0], 2)
            # One that was still on its way.
            assert set(told) <= {EVERYTHING}
    finally:
        await listening.close()


async def test_a_bus_that_is_lost_is_missed_by_nobody(postgres_url: str, server: ValkeyServer) -> None:
    async with nodes_on(postgres_url, server.url, server.url) as nodes:
        await soon(lambda: all_share(nodes))
        await works(nodes[0], nodes[1], 1)
        server.stop()
        await soon(lambda: not any(node.runner.neighbours.relay.shared for node in nodes))
        await works(nodes[0], nodes[1], 2)
        server.start()
        await soon(lambda: all_share(nodes))
        await works(nodes[0], nodes[1], 3)


async def test_one_who_is_not_on_the_bus_is_told_by_the_database(
    postgres_url: str, valkey_server: ValkeyServer
) -> None:
    async with nodes_on(postgres_url, valkey_server.url, valkey_server.url) as nodes:
        await soon(lambda: all_share(nodes))
        async with nodes_on(postgres_url, None) as (alone,):
            await soon(lambda: not any(node.runner.neighbours.relay.shared for node in nodes))
            await works(nodes[0], alone, 1)
            await works(alone, nodes[1], 2)
        for node in nodes:
            node.runner.neighbours.relay.look()
        await soon(lambda: all_share(nodes))


async def test_two_buses_are_as_good_as_none(
    postgres_url: str, valkey_server: ValkeyServer, server: ValkeyServer
) -> None:
    async with nodes_on(postgres_url, valkey_server.url, server.url) as nodes:
        await soon(lambda: all(bus is not None and bus.up for bus in (n.runner.neighbours.relay.bus for n in nodes)))
        await works(nodes[0], nodes[1], 1)
        assert not any(node.runner.neighbours.relay.shared for node in nodes)


async def test_a_copy_of_a_database_on_the_same_bus_is_another_installation(
    postgres_server: PostgresServer, postgres_template: str, valkey_server: ValkeyServer
) -> None:
    url = postgres_server.copy_of(postgres_template)
    async with nodes_on(url, None):
        pass
    copy = postgres_server.copy_of(url)
    async with nodes_on(url, valkey_server.url) as (one,), nodes_on(copy, valkey_server.url) as (other,):
        await soon(lambda: all_share([one, other]))
        assert one.secret("bus") == other.secret("bus")
        with one.realtime.subscribed([Topic("c", "t")]) as heard:
            other.realtime.publish("c", "t", "of the copy")
            await works(other, other, 1)
            one.realtime.publish("c", "t", "its own")
            message = await asyncio.wait_for(heard.next(), 30)
        assert b"its own" in message.body
    for each in (url, copy):
        postgres_server.drop_database(each)


async def test_a_bus_that_is_not_there_keeps_nobody_from_working(postgres_url: str) -> None:
    async with nodes_on(postgres_url, "redis://127.0.0.1:1", None) as nodes:
        await works(nodes[0], nodes[1], 1)


@pytest.mark.parametrize(
    ("db", "bus", "problem"),
    [
        (":memory:", "redis://cache", "bus: is for nodes that share a PostgreSQL database"),
        ("postgresql://db/x", "http://:secret@cache", r"bus: must be a URL .* got 'http://\*\*\*@cache'"),
    ],
)
async def test_what_cannot_be_is_refused(db: str, bus: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        async with embedded(build(), db=db, bus=bus):
            pass
