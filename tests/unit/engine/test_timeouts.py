"""Start and finish timeouts: the run is cancelled, which is no failure (D.10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure import App, Concurrency, Context, Throttle, Timeouts, step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, ask, running, runs, sound, statuses


def timed(log: list[str], timeouts: Timeouts, nap: str = "1h", **options: Any) -> App:
    app = App("t")

    async def on_failure(ctx: Context) -> None:
        log.append("on_failure")

    @app.function("f", trigger="go", timeouts=timeouts, on_failure=on_failure, **options)
    async def f(ctx: Context) -> None:
        log.append("began")
        await step.sleep("nap", nap)
        log.append("woke")

    @app.function("watch", trigger="inngest/function.cancelled")
    async def watch(ctx: Context) -> None:
        log.append("cancelled")

    return app


async def test_finish_counts_from_the_start_and_is_no_failure() -> None:
    clock, log = VirtualClock(), list[str]()
    begin = clock.now()
    async with running(timed(log, Timeouts(finish="10m")), clock) as engine:
        await engine.trigger("t-f")
        await engine.drain()
        (run,) = await runs(engine, "t-f")
        assert (run.ended_at or 0) - begin == 600_000
        assert await statuses(engine, "t-f") == ["CANCELLED"]
        await sound(engine)
    assert "on_failure" not in log and "woke" not in log and log[-1] == "cancelled"


async def test_a_run_that_ends_in_time_leaves_no_timer() -> None:
    log = list[str]()
    async with running(timed(log, Timeouts(start="1m", finish="2h"))) as engine:
        await engine.trigger("t-f")
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"]
        (run,) = await runs(engine)
        assert await ask(engine, "jobs_of_run", run.id, run.id + "/", 9) == []


async def test_finish_survives_a_restart_and_interrupts_a_step_that_executes(tmp_path: Path) -> None:
    clock, gate, app = VirtualClock(), Gate(), App("t")

    @app.function("f", timeouts=Timeouts(finish="10m"))
    async def f(ctx: Context) -> None:
        await step.sleep("nap", "5m")
        await step.run("work", gate.enter, "work")

    async with running(app, clock, tmp_path / "db") as engine:
        await engine.trigger(f)
        await engine.settle()
    again = App("t")
    again.add(app.functions["t-f"])
    async with running(again, clock, tmp_path / "db") as engine:
        clock.detach(engine.settle)  # it does not come to rest while the step is held open
        await clock.advance("5m")
        await gate.waits("work")
        await clock.advance("5m")
        await gate.waits()
        clock.attach(engine.settle)
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED"]
    assert gate.cancelled == ["work"]


async def test_start_cancels_who_waits_for_a_slot_too_long() -> None:
    clock, log = VirtualClock(), list[str]()
    app = timed(log, Timeouts(start="10m"), concurrency=Concurrency(1, hold="run"))
    async with running(app, clock) as engine:
        for _ in range(3):
            await engine.ingest([{"name": "go"}])
            await clock.advance("1m")
        await clock.advance("9m")
        assert await statuses(engine, "t-f") == ["RUNNING", "CANCELLED", "CANCELLED"]
        await engine.drain()
        assert await statuses(engine, "t-f") == ["COMPLETED", "CANCELLED", "CANCELLED"]
        await sound(engine)
    assert "on_failure" not in log and log.count("began") == 2, "begun once, replayed once"


async def test_start_does_not_cancel_a_run_that_has_started() -> None:
    clock, log = VirtualClock(), list[str]()
    app = timed(log, Timeouts(start="10m"), concurrency=Concurrency(1, hold="run"), nap="5m")
    async with running(app, clock) as engine:
        await engine.ingest([{"name": "go"}, {"name": "go"}])
        await engine.drain()
        assert await statuses(engine, "t-f") == ["COMPLETED"] * 2


async def test_start_holds_for_throttled_runs_too() -> None:
    clock, log = VirtualClock(), list[str]()
    app = timed(log, Timeouts(start="90m"), throttle=Throttle(1, "1h"), nap="1m")
    async with running(app, clock) as engine:
        await engine.ingest([{"name": "go"}] * 4)
        await engine.drain()
        assert await statuses(engine, "t-f") == ["COMPLETED", "COMPLETED", "CANCELLED", "CANCELLED"]


async def test_a_start_that_the_event_delays_is_not_late() -> None:
    clock, log = VirtualClock(), list[str]()
    app = timed(log, Timeouts(start="1m", finish="2h"))
    async with running(app, clock) as engine:
        await engine.ingest([{"name": "go", "ts": clock.now() + 3_600_000}])
        await engine.drain()
        assert await statuses(engine, "t-f") == ["COMPLETED"]
