"""Debounce: the last event of a burst starts the run, once it has been quiet for `period` (D.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import App, Context, Debounce, RefusedError, step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import running, runs, statuses


def debounced(debounce: Debounce, **options: Any) -> App:
    app = App("t")

    @app.function("f", trigger="go", debounce=debounce, **options)
    async def f(ctx: Context) -> Any:
        return ctx.event.data.get("n")

    return app


def go(number: int, ts: int | None = None, **data: Any) -> dict[str, Any]:
    event: dict[str, Any] = {"name": "go", "data": {"n": number, **data}}
    return event if ts is None else {**event, "ts": ts}


async def send_every(app: App, clock: VirtualClock, seconds: int, count: int) -> None:
    for number in range(count):
        await app.send(go(number))
        if number < count - 1:
            await clock.advance(seconds)


async def started(engine: Any, begin: int) -> list[tuple[int, bytes | None]]:
    return [(run.created_at - begin, run.output) for run in await runs(engine)]


async def test_each_event_restarts_the_window_and_the_last_one_starts_the_run() -> None:
    clock = VirtualClock()
    begin = clock.now()
    app = debounced(Debounce("10s"))
    async with running(app, clock) as engine:
        await send_every(app, clock, 6, 4)
        await clock.advance("9s")
        assert await runs(engine) == []
        await clock.advance("1s")
        assert await started(engine, begin) == [(28_000, b"3")]
        await app.send(go(9))
        await engine.drain()
        assert await started(engine, begin) == [(28_000, b"3"), (38_000, b"9")]


@pytest.mark.parametrize(
    ("timeout", "runs_at"), [("20s", [20_000, 34_000]), ("5s", [5_000, 11_000, 17_000, 23_000, 29_000])]
)
async def test_the_timeout_caps_the_window_from_its_first_event(timeout: str, runs_at: list[int]) -> None:
    clock = VirtualClock()
    begin = clock.now()
    app = debounced(Debounce("10s", timeout=timeout))
    async with running(app, clock) as engine:
        await send_every(app, clock, 6, 5)
        await engine.drain()
        assert [at for at, _ in await started(engine, begin)] == runs_at
        assert (await runs(engine))[-1].output == b"4"


async def test_the_latest_ts_wins_and_of_equals_the_last() -> None:
    clock = VirtualClock()
    now = clock.now()
    app = debounced(Debounce("10s"))
    async with running(app, clock) as engine:
        await app.send([go(1, now - 2000), go(2, now - 1000), go(3, now - 1000), go(4, now - 3000)])
        await engine.drain()
        assert [run.output for run in await runs(engine)] == [b"3"]


async def test_each_key_has_its_window_and_an_unusable_key_one_of_its_own() -> None:
    clock = VirtualClock()
    app = debounced(Debounce("10s", key="event.data.user"))
    async with running(app, clock) as engine:
        await app.send([go(1, user="a"), go(2, user="b"), go(3, user="a"), go(4), go(5), go(6, user=None)])
        await engine.drain()
        assert sorted(run.output or b"" for run in await runs(engine)) == [b"2", b"3", b"6"]


async def test_a_window_survives_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    begin = clock.now()
    app = debounced(Debounce("10s", timeout="12s"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(1))
        await engine.settle()
    await clock.advance("5s")
    app = debounced(Debounce("10s", timeout="12s"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(2))
        await engine.drain()
        assert await started(engine, begin) == [(12_000, b"2")]


async def test_invoking_a_debounced_function_is_an_error_that_says_why() -> None:
    app = debounced(Debounce("10s"))

    @app.function("parent")
    async def parent(ctx: Context) -> Any:
        return await step.invoke("call", "t-f")

    async with running(app) as engine:
        run = await engine.trigger(parent)
        await engine.settle()
        assert b"function t-f is debounced" in ((await runs(engine))[0].output or b"")
        assert (await run.status()).name == "FAILED"
        with pytest.raises(RefusedError) as refused:
            await engine.trigger("t-f")
        assert refused.value.reason == "debounced"
        await engine.drain()
        assert await statuses(engine, "t-f") == ["COMPLETED"]
