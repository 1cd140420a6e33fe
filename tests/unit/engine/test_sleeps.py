"""Sleeps: durable timers, and what is in memory meanwhile (C.5)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure import App, Context, RunFailedError, step
from perdure.model.limits import DAY, HOUR
from perdure.sync import step as plain_step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import NEVER, running, sound, statuses, until


def sleeper(log: list[int], clock: VirtualClock, duration: str) -> App:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> str:
        await step.sleep("nap", duration)
        log.append(clock.now())
        return "awake"

    return app


async def test_a_sleep_of_a_year_ends_on_the_millisecond() -> None:
    clock, log = VirtualClock(), list[int]()
    start = clock.now()
    async with running(sleeper(log, clock, "366d"), clock) as engine:
        run = await engine.trigger("t-f")
        await clock.jump_to(start + 366 * DAY - 1)
        assert log == []
        await clock.jump_to(start + 366 * DAY)
        assert await run.result() == "awake"
    assert log == [start + 366 * DAY]


@pytest.mark.parametrize("duration", ["367d", "9999h"])
async def test_a_sleep_of_more_than_366_days_fails_the_run_at_the_call(duration: str) -> None:
    async with running(sleeper([], VirtualClock(), duration)) as engine:
        run = await engine.trigger("t-f")
        await engine.settle()
        with pytest.raises(RunFailedError, match="step 'nap': duration: must be at most 366 days"):
            await run.result()


@pytest.mark.parametrize("past", [timedelta(), timedelta(seconds=-1), timedelta(days=-400)])
async def test_sleeping_until_the_past_is_no_sleep(past: timedelta) -> None:
    app, clock = App("t"), VirtualClock()
    when = datetime.fromtimestamp(clock.now() / 1000, UTC) + past

    @app.function("f")
    async def f(ctx: Context) -> str:
        await step.sleep_until("nap", when)
        return "awake"

    async with running(app, clock) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        assert await run.result() == "awake"


async def test_a_sleep_survives_a_restart_and_is_due_at_its_old_time(tmp_path: Path) -> None:
    clock, log = VirtualClock(), list[int]()
    start = clock.now()
    async with running(sleeper(log, clock, "2h"), clock, tmp_path / "db") as engine:
        await engine.trigger("t-f")
        await engine.settle()
    await clock.advance("1h")
    async with running(sleeper(log, clock, "2h"), clock, tmp_path / "db") as engine:
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"]
    assert log == [start + 2 * HOUR]


async def test_a_sleep_that_ended_while_nothing_ran_ends_at_the_start(tmp_path: Path) -> None:
    clock, log = VirtualClock(), list[int]()
    async with running(sleeper(log, clock, "2h"), clock, tmp_path / "db") as engine:
        await engine.trigger("t-f")
        await engine.settle()
    await clock.advance("9h")
    async with running(sleeper(log, clock, "2h"), clock, tmp_path / "db") as engine:
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]


async def test_a_long_sleep_leaves_nothing_in_memory_and_a_short_one_keeps_its_coroutine() -> None:
    app, beginnings = App("t"), list[str]()

    @app.function("f")
    async def f(ctx: Context) -> None:
        beginnings.append(ctx.event.data["nap"])
        await step.sleep("nap", ctx.event.data["nap"])

    async with running(app) as engine:
        for _ in range(5):
            await engine.trigger(f, {"nap": "30d"})
        await engine.settle()
        assert engine.runner.load == (0, 0)
        await engine.trigger(f, {"nap": "5s"})
        await engine.settle()
        assert engine.runner.load == (0, 1)
        await sound(engine)
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 6
    assert beginnings.count("30d") == 10, "replayed once each"
    assert beginnings.count("5s") == 1, "resumed where it was"


async def test_one_branch_sleeps_for_long_while_another_works() -> None:
    app, clock, log = App("t"), VirtualClock(), list[tuple[str, int]]()
    start = clock.now()

    async def work(name: str) -> str:
        log.append((name, clock.now() - start))
        return name

    @app.function("f")
    async def f(ctx: Context) -> list[str]:
        async def sleeps() -> str:
            await step.sleep("long", "30d")
            return await step.run("late", work, "late")

        async def works() -> str:
            for number in range(3):
                await step.run("work", work, f"work {number}")
                await step.sleep("short", "1h")
            return "worked"

        return list(await asyncio.gather(sleeps(), works()))

    async with running(app, clock, retention=NEVER) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == ["late", "worked"]
    assert log == [("work 0", 0), ("work 1", HOUR), ("work 2", 2 * HOUR), ("late", 30 * DAY)]


async def test_one_branch_sleeps_for_long_while_another_awaits_something_that_is_no_step() -> None:
    app, log = App("t"), list[str]()

    @app.function("f")
    async def f(ctx: Context) -> None:
        async def works() -> None:
            for _ in range(100):
                await asyncio.sleep(0)
            await step.run("work", log.append, "worked")

        await asyncio.gather(step.sleep("nap", "30d"), works())

    async with running(app) as engine:
        await engine.trigger(f)
        await until(lambda: log == ["worked"])
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"]
    assert log == ["worked"]


async def test_plain_handlers_sleep_too() -> None:
    app, clock, log = App("t"), VirtualClock(), list[int]()
    start = clock.now()

    @app.function("f")
    def f(ctx: Context) -> int:
        for _ in range(3):
            plain_step.sleep("nap", "1d")
            log.append(clock.now() - start)
        return plain_step.run("sum", sum, [1, 2])

    async with running(app, clock) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == 3
    assert sorted(set(log)) == [DAY, 2 * DAY, 3 * DAY]


async def test_many_sleeps_due_at_once_all_end() -> None:
    app = App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> None:
        await step.sleep("nap", "1d")

    async with running(app) as engine:
        await app.send([{"name": "go"} for _ in range(1200)])
        await engine.settle()
        assert engine.runner.load == (0, 0)
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 1200
        await sound(engine)
