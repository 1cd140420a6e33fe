"""The virtual clock, and engines under it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from perdure import App, Context, step
from perdure.testing import EngineFactory, VirtualClock, in_memory


async def test_deadlines_pass_in_their_order() -> None:
    clock, seen = VirtualClock(start=0), list[tuple[int, str]]()
    for at, name in ((300, "c"), (100, "a"), (200, "b"), (200, "b again"), (900, "later")):
        clock.call_at(at, lambda name=name: seen.append((clock.now(), name)))  # type: ignore[misc]
    await clock.jump_to(500)
    assert seen == [(100, "a"), (200, "b"), (200, "b again"), (300, "c")]
    assert clock.now() == 500


async def test_what_a_deadline_sets_in_motion_comes_first() -> None:
    clock, seen = VirtualClock(start=0), list[int]()

    def again() -> None:
        seen.append(clock.now())
        if len(seen) < 4:
            clock.call_at(clock.now() + 10, again)

    clock.call_at(10, again)
    await clock.advance(timedelta(milliseconds=35))
    assert seen == [10, 20, 30]


async def test_a_cancelled_timer_stays_silent() -> None:
    clock, seen = VirtualClock(start=0), list[int]()
    clock.call_at(10, lambda: seen.append(1)).cancel()
    await clock.advance("1s")
    assert seen == []


async def test_what_is_past_is_called_at_once_and_time_never_goes_back() -> None:
    clock, seen = VirtualClock(start=1000), list[int]()
    clock.call_at(999, lambda: seen.append(1))
    await clock.jump_to(10)
    assert (seen, clock.now()) == ([1], 1000)


def test_a_clock_starts_where_it_is_told_to() -> None:
    assert VirtualClock(datetime(2026, 1, 1, tzinfo=UTC)).now() == 1_767_225_600_000
    assert VirtualClock().now() == VirtualClock().now()


async def test_a_year_of_days_takes_no_time() -> None:
    app, clock = App("t"), VirtualClock()

    @app.function("daily")
    async def daily(ctx: Context) -> int:
        for _ in range(365):
            await step.sleep("a day", "1d")
        return 365

    async with in_memory(app, clock=clock) as engine:
        began, started = clock.now(), asyncio.get_running_loop().time()
        run = await engine.trigger(daily)
        await engine.drain()
        assert await run.result() == 365
    assert clock.now() - began == timedelta(days=365) // timedelta(milliseconds=1)
    assert asyncio.get_running_loop().time() - started < 30


async def test_two_engines_share_a_clock() -> None:
    clock, made = VirtualClock(), list[str]()

    def napper(name: str) -> App:
        app = App(name)

        @app.function("nap")
        async def nap(ctx: Context) -> None:
            await step.sleep("nap", "1h")
            made.append(name)

        return app

    async with in_memory(napper("a"), clock=clock) as first, in_memory(napper("b"), clock=clock) as second:
        await first.trigger("a-nap")
        await second.trigger("b-nap")
        await clock.advance("1h")
    assert sorted(made) == ["a", "b"]


async def test_draining_gives_up_on_what_never_ends() -> None:
    app = App("t")

    @app.function("forever", retries=0)
    async def forever(ctx: Context) -> None:
        await step.run("hang", asyncio.Event().wait)

    async with in_memory(app, shutdown_timeout=0.01) as engine:
        await engine.trigger(forever)
        with pytest.raises(TimeoutError):
            await engine.drain(timeout=0.05)


async def test_a_factory_stops_what_it_started() -> None:
    app = App("t")
    factory = EngineFactory(VirtualClock())
    engine = await factory(app)
    await engine.stop()
    again = await factory(app)
    await factory.stop()
    await again.stop()
    # The app is free for another engine.
    async with in_memory(app):
        pass


async def test_the_fixtures_belong_together(
    perdure_app: App, perdure_clock: VirtualClock, perdure_engine: EngineFactory
) -> None:
    @perdure_app.function("greet", trigger="t/hello")
    async def greet(ctx: Context) -> int:
        await step.sleep("a week", "7d")
        return perdure_clock.now()

    engine = await perdure_engine(perdure_app)
    began = perdure_clock.now()
    run = await engine.trigger(greet)
    await engine.drain()
    assert await run.result() == began + timedelta(days=7) // timedelta(milliseconds=1)
