"""Retries of a handler that fails outside of its steps: which attempts count (C.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from perdure import App, Context, NonRetriableError, RetryAfterError, RunFailedError, step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import crashed, detail, running, statuses


def flaky_handler(log: list[int], fails_after_step: int) -> App:
    """A handler that fails once before its step, then so many times after it. Logs its attempts."""
    app = App("t")
    after = 0

    async def work() -> str:
        return "done"

    @app.function("f", retries=1)
    async def f(ctx: Context) -> str:
        nonlocal after
        log.append(ctx.attempt)
        if len(log) == 1:
            raise ValueError("before")
        result = await step.run("work", work)
        after += 1
        if after <= fails_after_step:
            raise ValueError("after")
        return result

    return app


async def test_the_attempts_of_a_handler_count_anew_after_a_step_succeeded() -> None:
    log = list[int]()
    async with running(flaky_handler(log, 1)) as engine:
        run = await engine.trigger("t-f")
        await engine.drain()
        assert await run.result() == "done"
    assert log == [0, 1, 1], "the second attempt progressed, so its failure was the first of a new count"


async def test_the_attempts_of_a_handler_run_out() -> None:
    log = list[int]()
    async with running(flaky_handler(log, 2)) as engine:
        run = await engine.trigger("t-f")
        await engine.drain()
        with pytest.raises(RunFailedError, match="after"):
            await run.result()
    assert log == [0, 1, 1]


@pytest.mark.parametrize("wait", ["1s", "1d"])
async def test_the_attempts_of_a_handler_count_anew_after_a_sleep(wait: str) -> None:
    app, log = App("t"), list[str]()

    @app.function("f", retries=1)
    async def f(ctx: Context) -> str:
        if not log:
            log.append("before")
            raise ValueError("before")
        await step.sleep("pause", wait)
        if len(log) == 1:
            log.append("after")
            raise ValueError("after")
        return "done"

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == "done"


async def test_the_attempts_of_a_handler_count_anew_after_a_step_even_when_a_crash_follows(tmp_path: Path) -> None:
    clock, log = VirtualClock(), list[str]()
    failures: list[str] = ["before"]

    def build(hold: Callable[[], Awaitable[None]]) -> App:
        app = App("t")

        async def work() -> None:
            log.append("work")

        @app.function("f", retries=1)
        async def f(ctx: Context) -> str:
            if failures and failures[0] == "before":
                raise ValueError(failures.pop())
            await step.run("work", work)
            if failures:
                raise ValueError(failures.pop())
            await hold()
            return "done"

        return app

    copies: list[Path] = []

    async def crash() -> None:
        copies.append(crashed(tmp_path / "db"))

    async def nothing() -> None: ...

    async with running(build(crash), clock, tmp_path / "db") as engine:
        await engine.trigger("t-f")
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"]
    failures.append("after")
    async with running(build(nothing), clock, copies[0]) as engine:
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"]
    assert log == ["work"]


@pytest.mark.parametrize(
    ("error", "waits"),
    [(RetryAfterError("busy", 7), [7000]), (ValueError("no"), [15_000]), (NonRetriableError("never"), [])],
)
async def test_a_handler_is_retried_by_the_same_rules_as_a_step(error: Exception, waits: list[int]) -> None:
    clock, app, times = VirtualClock(), App("t"), list[int]()

    @app.function("f", retries=1)
    async def f(ctx: Context) -> None:
        times.append(clock.now())
        raise error

    async with running(app, clock) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await statuses(engine) == ["FAILED"]
        assert len((await detail(engine, run.run_id)).attempts) == 1 + len(waits)
    assert [later - earlier for earlier, later in pairwise(times)] == waits
