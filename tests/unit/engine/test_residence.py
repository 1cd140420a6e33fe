"""What is in memory, and that being thrown out of it changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure import App, Context, Debounce, step
from perdure.engine.retention import Retention
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, running, runs, sound, statuses, turns


def waiting(beginnings: list[int]) -> App:
    app = App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> Any:
        beginnings.append(ctx.event.data["n"])
        event = await step.wait_for_event("wait", event="on", timeout="9s", match="data.n")
        return event.data if event else None

    return app


def numbered(name: str, count: int) -> list[dict[str, Any]]:
    return [{"name": name, "data": {"n": n}} for n in range(count)]


async def test_under_pressure_the_oldest_leave_and_come_back() -> None:
    beginnings = list[int]()
    app = waiting(beginnings)
    async with running(app) as engine:
        engine.runner._parked.most = 3
        await app.send(numbered("go", 10))
        await engine.settle()
        assert engine.runner.load == (0, 3)
        await app.send(numbered("on", 10))
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 10
        assert [run.output for run in await runs(engine)] == [f'{{"n":{n}}}'.encode() for n in range(10)]
    assert sorted(beginnings) == sorted([*range(10), *range(7)]), "seven were replayed"


async def test_no_more_runs_execute_than_the_node_takes_and_those_that_wait_do_not_count() -> None:
    gate, app = Gate(), App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> None:
        await step.run("work", gate.enter, str(ctx.event.data["n"]))
        await step.wait_for_event("wait", event="on", timeout="1d")

    async with running(app, max_active=2) as engine:
        await app.send(numbered("go", 6))
        await gate.waits("0", "1")
        for n in range(6):
            await gate.pass_(str(n))
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"] * 6
        await app.send({"name": "on"})
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 6
        await sound(engine)
    assert gate.most == 2
    assert gate.entered == [str(n) for n in range(6)]


async def test_priority_decides_who_is_taken_when_a_node_is_full() -> None:
    gate, app = Gate(), App("t")

    @app.function("f", trigger="go", priority="event.data.n")
    async def f(ctx: Context) -> None:
        await step.run("work", gate.enter, str(ctx.event.data["n"]))

    async with running(app, max_active=1) as engine:
        await app.send({"name": "go", "data": {"n": 0}})
        await gate.waits("0")
        await app.send(numbered("go", 5)[1:])
        for n in (0, 4, 3, 2, 1):
            await gate.pass_(str(n))
        await engine.settle()
    assert gate.entered == ["0", "4", "3", "2", "1"]


async def test_a_wait_that_is_decided_while_other_branches_execute_is_not_overlooked() -> None:
    gate, app = Gate(), App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> list[str]:
        async def waits(n: int) -> str:
            event = await step.wait_for_event(f"wait {n}", event=f"on{n}", timeout="1d")
            return event.name if event else "none"

        return [*await asyncio.gather(waits(1), waits(2), step.run("work", gate.enter, "work"))]

    async with running(app) as engine:
        run = await engine.trigger(f)
        await gate.waits("work")
        await app.send({"name": "on1"})
        await turns()
        await gate.pass_("work")
        await engine.settle()
        await app.send({"name": "on2"})
        await engine.settle()
        assert await run.result() == ["on1", "on2", "work"]


async def test_what_a_window_holds_is_not_swept_away() -> None:
    clock, app = VirtualClock(), App("t")

    @app.function("f", trigger="go", debounce=Debounce("2h"))
    async def f(ctx: Context) -> Any:
        return ctx.event.data["n"]

    async with running(app, clock, retention=Retention(events="10m")) as engine:
        await app.send({"name": "go", "data": {"n": 5}})
        await app.send({"name": "other"})
        await clock.advance("1h")
        assert (await engine.sweeper.collect()).events == 1
        await engine.drain()
        assert [run.output for run in await runs(engine)] == [b"5"]
