"""What a new residence of a run makes of what was decided before it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import App, Concurrency, Context, embedded, step
from perdure.engine.turn import Decided
from perdure.model.ids import step_hash
from perdure.model.records import StepStatus
from perdure.testing import VirtualClock, in_memory


async def test_steps_due_together_after_a_restart_are_attempted_once_each(tmp_path: Path) -> None:
    app, clock = App("t"), VirtualClock()
    calls: list[tuple[str, int]] = []

    async def fail(name: str) -> None:
        calls.append((name, clock.now()))
        raise ConnectionError(name)

    @app.function("f", trigger="t/go", retries=2)
    async def f(ctx: Context) -> None:
        await asyncio.gather(*(step.run(name, fail, name) for name in "abc"))

    began = clock.now()
    async with embedded(app, db=tmp_path / "db", clock=clock, retry_interval=60_000) as engine:
        await engine.trigger(f)
        await engine.settle()
    async with embedded(app, db=tmp_path / "db", clock=clock, retry_interval=60_000) as engine:
        await engine.drain()
    assert sorted(calls) == [(name, began + n * 60_000) for name in "abc" for n in range(3)]


async def test_an_attempt_that_is_announced_twice_is_made_once() -> None:
    app, clock = App("t"), VirtualClock()
    calls: list[int] = []

    async def fail() -> None:
        calls.append(clock.now())
        raise ConnectionError("no")

    @app.function("f", trigger="t/go", retries=3)
    async def f(ctx: Context) -> None:
        await step.run("fail", fail)

    async with in_memory(app, clock=clock, retry_interval=5_000) as engine:
        await engine.trigger(f)
        await clock.advance(5)
        # What a reading of the rows that was overtaken by the attempt would say.
        (resident,) = engine.runner._residents.values()
        resident.wake(Decided(step_hash("fail", 0), StepStatus.DUE, b"", 1))
        await engine.settle()
        assert len(calls) == 2
        await engine.drain()
    assert len(calls) == 4


async def test_runs_that_hold_slots_go_on_under_a_lower_limit() -> None:
    def app(limit: int) -> App:
        made = App("t")

        @made.function("f", trigger="t/go", concurrency=Concurrency(limit, hold="run"))
        async def f(ctx: Context) -> int:
            await step.sleep("an hour", "1h")
            return limit

        return made

    async with in_memory(app(2)) as engine:
        runs = [await engine.trigger("t-f") for _ in range(3)]
        await engine.settle()
        await engine.register(app(1))
        await engine.drain()
        assert [await run.result() for run in runs] == [1, 1, 1]
