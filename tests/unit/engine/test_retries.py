"""Retries: the backoff table, what an error asks for, and which attempts count (C.6)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from perdure import App, Context, NonRetriableError, RetryAfterError, RunFailedError, StepError, step
from perdure.engine.retry import retry_delay
from perdure.model.limits import HOUR, MINUTE, SECOND
from perdure.model.records import StepStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import detail, output, raising, running, runs, statuses, step_named

TABLE = [
    15 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, HOUR,
    2 * HOUR, 2 * HOUR, 2 * HOUR,
]  # fmt: skip


@pytest.mark.parametrize(("attempt", "delay"), list(enumerate(TABLE)))
def test_backoff_follows_the_table_with_up_to_30s_of_jitter(attempt: int, delay: int) -> None:
    assert retry_delay(attempt, None, 0.0) == delay
    assert retry_delay(attempt, None, 0.5) == delay + 15 * SECOND
    assert delay + 29 * SECOND < retry_delay(attempt, None, 0.9999) < delay + 30 * SECOND


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (-1, 0), (0, 0), (1, SECOND), (999, SECOND), (SECOND, SECOND), (90 * MINUTE, 90 * MINUTE),
        (24 * HOUR, 24 * HOUR), (25 * HOUR, 24 * HOUR),
    ],
)  # fmt: skip
def test_retry_after_is_clamped_to_1s_and_24h_and_the_past_is_now(asked: int, given: int) -> None:
    assert retry_delay(3, asked, 0.9) == given
    assert retry_delay(3, asked, 0.9, fixed=5) == given, "what the error asks for comes before a fixed interval"


def test_a_fixed_interval_has_no_jitter() -> None:
    assert [retry_delay(attempt, None, 0.9, fixed=1500) for attempt in range(3)] == [1500, 1500, 1500]


def failing(times: list[int], clock: VirtualClock, fail: int, retries: int) -> App:
    """A function whose step notes when it is attempted and fails so many times."""
    app = App("t")

    async def attempt() -> int:
        times.append(clock.now())
        if len(times) <= fail:
            raise ValueError(f"failure {len(times)}")
        return len(times)

    @app.function("f", retries=retries)
    async def f(ctx: Context) -> int:
        return await step.run("try", attempt)

    return app


async def test_a_step_is_attempted_at_the_times_of_the_table_and_no_oftener_than_it_may() -> None:
    clock, times = VirtualClock(), list[int]()
    start = clock.now()
    async with running(failing(times, clock, fail=99, retries=11), clock) as engine:
        run = await engine.trigger("t-f")
        await engine.drain()
        with pytest.raises(RunFailedError, match="ValueError: failure 12"):
            await run.result()
        attempts = (await detail(engine, run.run_id)).attempts
    assert [later - earlier for earlier, later in pairwise(times)] == TABLE[:11]
    assert times[0] == start
    assert [attempt.attempt for attempt in attempts if attempt.step_id] == list(range(12))


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
async def test_jitter_comes_from_chance(chance: float) -> None:
    clock, times = VirtualClock(), list[int]()
    async with running(failing(times, clock, fail=1, retries=1), clock, chance=lambda: chance) as engine:
        run = await engine.trigger("t-f")
        await engine.drain()
        assert await run.result() == 2
    assert times[1] - times[0] == 15 * SECOND + int(chance * 30 * SECOND)


async def test_a_fixed_interval_replaces_the_table() -> None:
    clock, times = VirtualClock(), list[int]()
    async with running(failing(times, clock, fail=3, retries=3), clock, retry_interval=700) as engine:
        run = await engine.trigger("t-f")
        await engine.drain()
        assert await run.result() == 4
    assert [time - times[0] for time in times] == [0, 700, 1400, 2100]


async def test_no_retries_means_one_attempt() -> None:
    clock, times = VirtualClock(), list[int]()
    async with running(failing(times, clock, fail=1, retries=0), clock) as engine:
        await engine.trigger("t-f")
        await engine.settle()
        assert await statuses(engine) == ["FAILED"]
    assert len(times) == 1


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        (0.01, SECOND),
        (7, 7 * SECOND),
        (timedelta(minutes=3), 3 * MINUTE),
        (timedelta(days=3), 24 * HOUR),
        (-5, 0),
    ],
)
async def test_retry_after_error_chooses_the_time(asked: float | timedelta, wait: int) -> None:
    clock, app, times = VirtualClock(), App("t"), list[int]()

    async def attempt() -> None:
        times.append(clock.now())
        if len(times) == 1:
            raise RetryAfterError("busy", asked)

    @app.function("f")
    async def f(ctx: Context) -> None:
        await step.run("try", attempt)

    async with running(app, clock) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        await run.result()
    assert times[1] - times[0] == wait


async def test_retry_after_a_date_and_one_that_is_past() -> None:
    clock, app, times = VirtualClock(), App("t"), list[int]()

    async def attempt() -> None:
        times.append(clock.now())
        now = datetime.fromtimestamp(clock.now() / 1000, UTC)
        if len(times) == 1:
            raise RetryAfterError("later", now + timedelta(minutes=2))
        if len(times) == 2:
            raise RetryAfterError("earlier", now - timedelta(days=2))

    @app.function("f")
    async def f(ctx: Context) -> None:
        await step.run("try", attempt)

    async with running(app, clock) as engine:
        await (await engine.trigger(f)).status()
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"]
    assert [time - times[0] for time in times] == [0, 2 * MINUTE, 2 * MINUTE]


async def test_retry_after_error_uses_up_attempts() -> None:
    app = App("t")
    call = raising(*[RetryAfterError("busy", 1)] * 9)

    @app.function("f", retries=2)
    async def f(ctx: Context) -> int:
        return await step.run("try", call)

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        with pytest.raises(RunFailedError, match="busy"):
            await run.result()
        attempts = (await detail(engine, run.run_id)).attempts
        assert [attempt.attempt for attempt in attempts if attempt.step_id] == [0, 1, 2]


async def test_a_non_retriable_error_is_final_at_once() -> None:
    app = App("t")
    call = raising(NonRetriableError("no such card"))

    @app.function("f")
    async def f(ctx: Context) -> int:
        return await step.run("charge", call)

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        found = await output(engine, run.run_id)
        assert (found["name"], found["message"]) == ("NonRetriableError", "no such card")
        assert (await step_named(engine, run.run_id, "charge")).status == StepStatus.FAILED


async def test_a_failed_step_can_be_caught_and_stays_failed_in_replays() -> None:
    app, calls = App("t"), list[str]()

    async def pay() -> None:
        calls.append("pay")
        raise ValueError("declined")

    @app.function("f", retries=1)
    async def f(ctx: Context) -> str:
        try:
            await step.run("pay", pay)
        except StepError as error:
            await step.sleep("a day", "1d")  # evicts the handler: what follows is a replay
            return f"{error.step_id} {error.name} {error.message}"
        return "paid"

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == "pay ValueError declined"
    assert calls == ["pay", "pay"]


async def test_options_of_one_step_replace_the_retries_of_the_function() -> None:
    app, calls = App("t"), list[str]()

    async def note(name: str) -> None:
        calls.append(name)
        raise ValueError(name)

    @app.function("f", retries=1)
    async def f(ctx: Context) -> None:
        for name, retries in (("none", 0), ("three", 3)):
            with suppress(StepError):
                await step.with_(retries=retries).run(name, note, name)

    async with running(app) as engine:
        await engine.trigger(f)
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"]
    assert calls == ["none"] + ["three"] * 4


async def test_parallel_steps_are_retried_each_on_its_own_schedule() -> None:
    clock, app, log = VirtualClock(), App("t"), list[tuple[str, int]]()
    start = clock.now()

    async def attempt(name: str, fails: int) -> str:
        log.append((name, clock.now() - start))
        if sum(1 for each, _ in log if each == name) <= fails:
            raise ValueError(name)
        return name

    @app.function("f")
    async def f(ctx: Context) -> list[str]:
        import asyncio

        return list(
            await asyncio.gather(
                step.run("a", attempt, "a", 0), step.run("b", attempt, "b", 1), step.run("c", attempt, "c", 2)
            )
        )

    async with running(app, clock) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == ["a", "b", "c"]
    assert sorted(log) == [
        ("a", 0), ("b", 0), ("b", 15_000), ("c", 0), ("c", 15_000), ("c", 45_000),
    ]  # fmt: skip


async def test_a_retry_survives_a_restart(tmp_path: Path) -> None:
    clock, times = VirtualClock(), list[int]()
    db = tmp_path / "db"
    async with running(failing(times, clock, fail=1, retries=1), clock, db) as engine:
        await engine.trigger("t-f")
        await engine.settle()
    async with running(failing(times, clock, fail=1, retries=1), clock, db) as engine:
        await engine.settle()
        assert len(times) == 1
        await clock.advance("14s")
        assert len(times) == 1
        await clock.advance("1s")
        assert await statuses(engine) == ["COMPLETED"]
        assert (await runs(engine))[0].output == b"2"
    assert times[1] - times[0] == 15_000


async def test_a_step_has_no_more_attempts_for_being_restarted_between_them(tmp_path: Path) -> None:
    clock, times = VirtualClock(), list[int]()
    for _ in range(6):
        async with running(failing(times, clock, fail=99, retries=3), clock, tmp_path / "db") as engine:
            if not times:
                await engine.trigger("t-f")
            await clock.advance("61s")
            assert len(await runs(engine)) == 1
    async with running(failing(times, clock, fail=99, retries=3), clock, tmp_path / "db") as engine:
        assert await statuses(engine) == ["FAILED"]
    assert len(times) == 4
