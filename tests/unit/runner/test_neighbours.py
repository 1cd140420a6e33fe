"""Two nodes on one database: what one does reaches the other, and neither undoes what the other has done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeAlias

import pytest

from perdure import App, Concurrency, Context, embedded, step, stream
from perdure.engine import reads
from perdure.model.records import RunStatus
from perdure.node import Node
from perdure.runner.handle import RunHandle
from perdure.wire.realtime import Topic

Cluster: TypeAlias = Callable[..., AbstractAsyncContextManager[list[Node]]]


@pytest.fixture(params=["database", "bus"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Makes clusters whose nodes tell each other the news by the database, or over a bus."""
    bus = request.getfixturevalue("valkey_server").url if request.param == "bus" else None
    return partial(nodes_on, bus)


async def soon(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def nodes_on(bus: str | None, url: str, *builds: Callable[[], App | list[App]]) -> AsyncGenerator[list[Node]]:
    """Nodes on one database, that know of each other."""
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(embedded(build(), db=url, bus=bus, lifetime=2.0, shutdown_timeout=2))
            for build in builds
        ]
        await asyncio.sleep(0.05)
        if bus is not None:
            await soon(lambda: _is(lambda: all(node.runner.neighbours.relay.shared for node in nodes)))
        yield nodes


def waiting(name: str, log: list[str]) -> Callable[[], App]:
    """An app with a run that waits twice, and notes where it is driven."""

    def build() -> App:
        app = App("t")

        def noted(value: object) -> str:
            log.append(f"{name}:{value}")
            return log[-1]

        @app.function("f", trigger="start")
        async def f(ctx: Context) -> list[str]:
            said: list[str] = []
            for number in range(4):
                event = await step.wait_for_event(f"wait {number}", event=f"go{number}", timeout="1h")
                said.append(await step.run(f"note {number}", noted, event.data["n"] if event else None))
            return said

        return app

    return build


async def test_a_result_is_heard_of_on_another_node(postgres_url: str, cluster: Cluster) -> None:
    log: list[str] = []
    async with cluster(postgres_url, waiting("a", log), waiting("b", log)) as (one, other):
        run = await one.trigger("t-f")
        there: RunHandle[list[str]] = other.run(run.run_id)
        waiting_there = asyncio.create_task(there.result(timeout=10))
        for number in range(4):
            await soon(partial(_waits, one, f"go{number}"))
            await (one, other)[number % 2].send([{"name": f"go{number}", "data": {"n": number}}])
        result = await waiting_there
        assert [text[2:] for text in result] == ["0", "1", "2", "3"]
        assert result == await run.result(timeout=5)


async def test_a_run_that_is_cancelled_on_another_node_is_interrupted(postgres_url: str, cluster: Cluster) -> None:
    begun, interrupted = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            interrupted.set()
            raise

    def build() -> App:
        app = App("t")

        @app.function("f", trigger="start")
        async def f(ctx: Context) -> None:
            await step.run("work", work)

        return app

    async with cluster(postgres_url, build, build) as (one, other):
        run = await one.trigger("t-f")
        await begun.wait()
        await other.cancel(run.run_id)
        await asyncio.wait_for(interrupted.wait(), 5)
        assert await run.status() == RunStatus.CANCELLED


async def test_a_node_without_the_code_passes_runs_on(postgres_url: str, cluster: Cluster) -> None:
    log: list[str] = []

    def nothing() -> list[App]:
        return []

    async with cluster(postgres_url, waiting("a", log), nothing) as (one, other):
        await soon(lambda: _knows(other, "t-f"))
        await other.send([{"name": "start"}])
        await soon(lambda: _status(one, RunStatus.RUNNING))
        for number in range(4):
            await soon(partial(_waits, one, f"go{number}"))
            await other.send([{"name": f"go{number}", "data": {"n": number}}])
            await soon(partial(_has, log, number + 1))
        await soon(lambda: _status(one, RunStatus.COMPLETED))


async def test_a_step_that_is_decided_elsewhere_wakes_a_run_that_executes(postgres_url: str, cluster: Cluster) -> None:
    app_log: list[str] = []

    def build() -> App:
        app = App("t")

        @app.function("f", trigger="start")
        async def f(ctx: Context) -> str:
            async def waits() -> str:
                event = await step.wait_for_event("wait", event="go", timeout="1h")
                app_log.append("woken")
                return str(event.data["n"]) if event else "nothing"

            async def works() -> None:
                async def work() -> None:
                    async with asyncio.timeout(5):
                        while not app_log:
                            await asyncio.sleep(0.01)

                await step.run("work", work)

            found, _ = await asyncio.gather(waits(), works())
            return found

        return app

    async with cluster(postgres_url, build, build) as (one, other):
        run = await one.trigger("t-f")
        await soon(partial(_waits, one, "go"))
        await other.send([{"name": "go", "data": {"n": 7}}])
        assert await run.result(timeout=10) == "7"


async def test_limits_hold_over_all_nodes_and_all_work_is_done(postgres_url: str, cluster: Cluster) -> None:
    active = most = done = 0

    def build() -> App:
        app = App("t")

        @app.function("f", trigger="start", concurrency=[Concurrency(3)])
        async def f(ctx: Context) -> None:
            async def work() -> None:
                nonlocal active, most, done
                active += 1
                most = max(most, active)
                await asyncio.sleep(0.005)
                active -= 1
                done += 1

            await step.run("work", work)

        return app

    async with cluster(postgres_url, build, build) as nodes:
        for n in range(10):
            await nodes[n % 2].send([{"name": "start"}] * 10)
        await soon(lambda: _is(lambda: done == 100), 20)
        assert most == 3
        health = await nodes[0].health()
        assert health.orphans == [] and health.leaked_slots == []


async def test_a_stream_is_followed_on_another_node(postgres_url: str, cluster: Cluster) -> None:
    go = asyncio.Event()

    def build() -> App:
        app = App("t")

        @app.function("f", trigger="start")
        async def f(ctx: Context) -> str:
            async def talk() -> None:
                for n in range(5):
                    stream.push(f"word {n}")
                    await asyncio.sleep(0.02)

            await go.wait()
            await step.run("talk", talk)
            return "done"

        return app

    async with cluster(postgres_url, build, build) as (one, other):
        run = await one.trigger("t-f")
        here, there = run.stream(), other.run(run.run_id).stream()

        async def all_of(events: AsyncGenerator[object]) -> list[object]:
            return [event async for event in events]

        following = [asyncio.create_task(all_of(events)) for events in (here, there)]
        await asyncio.sleep(0.1)
        go.set()
        heard = await asyncio.wait_for(asyncio.gather(*following), 10)
        assert heard[0] == heard[1]
        assert len(heard[0]) == 7


async def test_what_is_followed_on_another_node_is_kept_soon(
    postgres_url: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.runner.tail._BATCH_DELAY", 600.0)
    goes_on, heard = asyncio.Event(), asyncio.Event()

    def build() -> App:
        app = App("t")

        @app.function("f", trigger="start")
        async def f(ctx: Context) -> None:
            async def talk() -> None:
                stream.push("one")
                await goes_on.wait()
                stream.push("two")
                await heard.wait()

            await step.run("talk", talk)

        return app

    async with cluster(postgres_url, build, build) as (one, other), asyncio.timeout(60):
        run = await one.trigger("t-f")

        async def go_on_when_followed() -> None:
            await soon(lambda: _is(lambda: one.streams._tails[run.run_id]._followed_until > 0))
            goes_on.set()

        async with asyncio.TaskGroup() as group:
            async for event in other.run(run.run_id).stream():
                if event.data == "one":
                    group.create_task(go_on_when_followed())
                elif event.data == "two":
                    heard.set()
        assert heard.is_set()


async def test_a_message_is_heard_by_the_subscribers_of_all_nodes(postgres_url: str, cluster: Cluster) -> None:
    def nothing() -> list[App]:
        return []

    async with cluster(postgres_url, nothing, nothing) as (one, other):
        with (
            one.realtime.subscribed([Topic("orders", "paid")]) as here,
            other.realtime.subscribed([Topic("orders", "paid")]) as there,
        ):
            for size in (1, 100, 200_000):
                one.realtime.publish("orders", "paid", {"text": "é" * size})
            for _ in range(3):
                assert await asyncio.wait_for(here.next(), 5) == await asyncio.wait_for(there.next(), 5)


async def test_what_a_node_that_stops_held_goes_on_at_once(postgres_url: str, cluster: Cluster) -> None:
    log: list[str] = []
    async with cluster(postgres_url, waiting("b", log)) as (other,):
        async with embedded(waiting("a", log)(), db=postgres_url) as one:
            run = await one.trigger("t-f")
            await soon(partial(_waits, one, "go0"))
        for number in range(4):
            await soon(partial(_waits, other, f"go{number}"), 1)
            await other.send([{"name": f"go{number}", "data": {"n": number}}])
            await soon(partial(_has, log, number + 1), 1)
        assert await other.run(run.run_id).result(timeout=2) == ["b:0", "b:1", "b:2", "b:3"]


async def _knows(node: Node, function_id: str) -> bool:
    return node.catalogue.get(function_id) is not None


async def _status(node: Node, status: RunStatus) -> bool:
    return (await node.health()).runs == {status: 1}


async def _waits(node: Node, name: str) -> bool:
    return bool(await node.view(lambda: reads.pauses_on([name])))


async def _has(log: list[str], count: int) -> bool:
    return len(log) == count


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()
