"""A run is put away or cancelled: the `finally` blocks of its coroutine run, and the steps in them do not."""

from __future__ import annotations

import asyncio
import gc

import pytest

from perdure import App, Context, RunCancelledError, step
from perdure.testing import in_memory


async def test_a_step_in_finally_is_not_done_when_a_waiting_run_is_put_away() -> None:
    app = App("shop")
    done: list[str] = []

    @app.function("hold")
    async def hold(ctx: Context) -> None:
        try:
            await step.sleep("an hour", "1h")
        finally:
            done.append("finally")
            await step.run("clean up", done.append, "clean up")

    async with in_memory(app) as engine:
        run = await engine.trigger(hold)
        await engine.settle()
        assert done == ["finally"], "put away for the hour, without the step"
        await engine.drain()
        await run.result(timeout=5)
        assert done == ["finally", "finally", "clean up"]


async def test_a_step_in_finally_is_not_done_after_a_cancellation() -> None:
    app = App("shop")
    done: list[str] = []
    working = asyncio.Event()

    async def work() -> None:
        working.set()
        await asyncio.Event().wait()

    @app.function("hold")
    async def hold(ctx: Context) -> None:
        try:
            await step.run("work", work)
        finally:
            done.append("finally")
            await step.run("clean up", done.append, "clean up")

    async with in_memory(app) as engine:
        run = await engine.trigger(hold)
        await working.wait()
        await run.cancel()
        try:
            await run.result(timeout=5)
        except RunCancelledError:
            done.append("cancelled")
        await engine.settle()
        assert sorted(done) == ["cancelled", "finally"]


async def test_a_handler_that_catches_everything_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    app = App("shop")
    over = False

    @app.function("stubborn")
    async def stubborn(ctx: Context) -> None:
        while not over:
            try:
                await step.sleep("an hour", "1h")
            except BaseException:
                continue

    @app.function("other")
    async def other(ctx: Context) -> str:
        return await step.run("work", lambda: "done")

    async with in_memory(app) as engine:
        run = await engine.trigger(stubborn)
        await engine.settle()
        assert await (await engine.trigger(other)).result(timeout=5) == "done"
        await run.cancel()
        await engine.settle()
        # As garbage it would be closed, catch that as well, and never come back.
        gc.collect()
        over = True
    assert "the handler of shop-stubborn catches its own cancellation" in caplog.text
    assert caplog.text.count("catches its own cancellation") == 1
