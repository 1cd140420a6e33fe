"""Whoever asked goes away: what was committed for them happens all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import App, Context, embedded, step
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock


async def test_a_cancelled_send_leaves_no_run_behind(tmp_path: Path) -> None:
    app, done = App("t"), asyncio.Event()
    ended = 0

    @app.function("f", trigger="t/go")
    async def f(ctx: Context) -> None:
        nonlocal ended
        ended += 1
        done.set()

    async with embedded(app, db=tmp_path / "db") as engine:
        for ticks in range(40):
            sending = asyncio.create_task(app.send({"name": "t/go", "data": {}}))
            for _ in range(ticks % 5 + 1):
                await asyncio.sleep(0)
            sending.cancel()
        await engine.settle()
        await asyncio.wait_for(done.wait(), 5)
        await engine.settle()
        health = await engine.health()
    assert health.runs == {RunStatus.COMPLETED: ended}
    assert health.jobs == {}


async def test_an_abandoned_cancellation_still_interrupts(tmp_path: Path) -> None:
    app, begun, interrupted = App("t"), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            interrupted.set()
            raise

    @app.function("f", trigger="t/go")
    async def f(ctx: Context) -> None:
        await step.run("work", work)

    async with embedded(app, db=tmp_path / "db") as engine:
        run = await engine.trigger(f)
        await begun.wait()
        cancelling = asyncio.create_task(engine.cancel(run.run_id))
        await asyncio.sleep(0)
        cancelling.cancel()
        await asyncio.wait_for(interrupted.wait(), 5)
        assert await run.status() == RunStatus.CANCELLED


@pytest.mark.only_sqlite("it breaks the file")
async def test_an_abandoned_start_that_was_refused_starts_nothing(tmp_path: Path) -> None:
    """A decision that failed has no effects, even when nobody is there to hear that it failed."""
    app, ran = App("t"), 0

    @app.function("f", trigger="t/go")
    async def f(ctx: Context) -> None:
        nonlocal ran
        ran += 1

    async with embedded(app, db=tmp_path / "db", clock=VirtualClock()) as engine:
        engine.store._require().execute("CREATE TRIGGER no BEFORE INSERT ON run BEGIN SELECT RAISE(ABORT, 'no'); END")  # type: ignore[attr-defined]
        sending = asyncio.create_task(app.send({"name": "t/go", "data": {}}))
        await asyncio.sleep(0)
        sending.cancel()
        await engine.settle()
        assert (await engine.health()).runs == {}
    assert ran == 0
