"""Throttle: `limit + burst` starts at once, then one every `period / limit`; nothing is dropped (D.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import App, Concurrency, Context, Throttle, step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, ask, running, statuses, turns


def throttled(clock: VirtualClock, starts: list[tuple[str, int]], throttle: Throttle | None, **options: Any) -> App:
    app, begin = App("t"), clock.now()

    @app.function("f", trigger="go", throttle=throttle, **options)
    async def f(ctx: Context) -> None:
        if ctx.attempt == 0:
            starts.append((str(ctx.event.data.get("key")), clock.now() - begin))
        await step.sleep("nap", "1m")

    return app


def go(count: int, **data: Any) -> list[dict[str, Any]]:
    return [{"name": "go", "data": data}] * count


@pytest.mark.parametrize(
    ("throttle", "count", "at_once", "then"),
    [
        (Throttle(3, "3s"), 6, 3, [1000, 2000, 3000]),
        (Throttle(1, "2s"), 3, 1, [2000, 4000]),
        (Throttle(1, "2s", burst=2), 5, 3, [2000, 4000]),
        (Throttle(2, "2s", burst=1), 5, 3, [1000, 2000]),
        (Throttle(2, "2s", burst=3), 7, 5, [1000, 2000]),
        (Throttle(3, "1s"), 6, 3, [334, 667, 1000]),
    ],
)
async def test_a_burst_at_once_then_evenly(throttle: Throttle, count: int, at_once: int, then: list[int]) -> None:
    clock, starts = VirtualClock(), list[tuple[str, int]]()
    app, begin = App("t"), clock.now()

    @app.function("f", trigger="go", throttle=throttle)
    async def f(ctx: Context) -> None:
        starts.append(("", clock.now() - begin))

    async with running(app, clock) as engine:
        await app.send(go(count))
        await engine.settle()
        assert len(starts) == at_once
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * count
    times = [at for _, at in starts[at_once:]]
    assert all(abs(time - wanted) <= 1 for time, wanted in zip(times, then, strict=True)), times
    assert all(time >= wanted - 0.34 for time, wanted in zip(times, then, strict=True)), times


async def test_capacity_comes_back_with_time_and_is_never_more_than_the_limit() -> None:
    clock, starts = VirtualClock(), list[tuple[str, int]]()
    app = throttled(clock, starts, Throttle(2, "10s"), retries=0)
    async with running(app, clock) as engine:
        await app.send(go(2))
        await engine.settle()
        await clock.advance("5s")
        await app.send(go(2))
        await engine.settle()
        assert [at for _, at in starts] == [0, 0, 5000]
        await clock.advance("5s")
        assert [at for _, at in starts] == [0, 0, 5000, 10_000]
        await clock.advance("40s")
        await app.send(go(3))
        await engine.settle()
        assert [at for _, at in starts][4:] == [50_000, 50_000]


async def test_each_value_of_the_key_is_throttled_for_itself() -> None:
    clock, starts = VirtualClock(), list[tuple[str, int]]()
    app = throttled(clock, starts, Throttle(1, "10s", key="event.data.key"), retries=0)
    async with running(app, clock) as engine:
        await app.send(go(2, key="a") + go(2, key="b"))
        await clock.advance("30s")
        assert sorted(starts) == [("a", 0), ("a", 10_000), ("b", 0), ("b", 10_000)]
        await engine.settle()


async def test_only_the_start_is_throttled_and_waiting_survives_a_restart(tmp_path: Path) -> None:
    clock, starts = VirtualClock(), list[tuple[str, int]]()
    app = throttled(clock, starts, Throttle(1, "1h"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(3))
        await engine.settle()
        assert len(starts) == 1
    await clock.advance("10m")
    app = throttled(clock, starts, Throttle(1, "1h"))
    async with running(app, clock, tmp_path / "db") as engine:
        await clock.advance("10m")
        assert await statuses(engine) == ["COMPLETED", "QUEUED", "QUEUED"]
        await clock.advance("40m")
        assert await statuses(engine) == ["COMPLETED", "RUNNING", "QUEUED"]
        await clock.advance("2m")
        assert await statuses(engine) == ["COMPLETED", "COMPLETED", "QUEUED"]
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 3
        assert await ask(engine, "blocked_jobs", "throttle:t-f:", -1) == []


@pytest.mark.parametrize("throttle", [None, Throttle(100, "1h")])
async def test_removing_or_raising_a_throttle_starts_who_waits(throttle: Throttle | None) -> None:
    clock, starts = VirtualClock(), list[tuple[str, int]]()
    app = throttled(clock, starts, Throttle(1, "1h"))
    async with running(app, clock) as engine:
        await app.send(go(5))
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"] + ["QUEUED"] * 4
        await engine.register(throttled(clock, starts, throttle))
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"] * 5


async def test_priority_orders_those_who_wait_for_a_throttle() -> None:
    clock, order = VirtualClock(), list[str]()
    app = App("t")

    @app.function("f", trigger="go", throttle=Throttle(1, "10s"), priority="event.data.rank")
    async def f(ctx: Context) -> None:
        order.append(ctx.event.data["key"])

    async with running(app, clock) as engine:
        for key, rank in (("first", 0), ("a", 0), ("b", 50), ("c", 100)):
            await app.send(go(1, key=key, rank=rank))
            await engine.settle()
        await engine.drain()
    assert order == ["first", "c", "b", "a"]


async def test_a_turn_that_a_concurrency_limit_refuses_goes_to_the_next() -> None:
    clock, gate, app = VirtualClock(), Gate(), App("t")

    @app.function("f", trigger="go", throttle=Throttle(1, "1h"), concurrency=Concurrency(1, key="event.data.user"))
    async def f(ctx: Context) -> None:
        await step.run("work", gate.enter, ctx.event.data["key"])

    async with running(app, clock) as engine:
        await engine.settle()
        clock.detach(engine.settle)  # it does not come to rest while steps are held open
        for user, key in (("c", "c1"), ("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2"), ("d", "d1")):
            await app.send(go(1, user=user, key=key))
        await gate.waits("c1")
        await clock.advance("1h")
        await gate.waits("c1", "a1")
        await clock.advance("1h")
        await gate.waits("c1", "a1", "b1")  # it was a2's turn, but its user's place is taken
        await clock.advance("1h")
        await gate.waits("c1", "a1", "b1", "d1")
        await gate.pass_("c1", "a1", "b1", "d1")
        await turns()
        await clock.advance("1h")
        await gate.pass_("a2")
        await clock.advance("1h")
        await gate.pass_("b2")
        clock.attach(engine.settle)
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 6
