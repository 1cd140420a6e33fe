"""Priority (D.6), and events that are meant for later (A.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import App, BatchEvents, Concurrency, Context, Priority, step
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.flow import rank
from perdure.model.config import FunctionConfig
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, job, running, runs, statuses

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("expression", "data", "seconds"),
    [
        ("100", {}, 100),
        ("event.data.p", {"p": 7}, 7),
        ("event.data.p", {"p": 7.9}, 7),
        ("event.data.p", {"p": -7.9}, -7),
        ("event.data.p", {"p": 10**9}, 43_200),
        ("event.data.p", {"p": -(10**9)}, -43_200),
        ("event.data.p", {"p": 1e300}, 43_200),
        ("event.data.p", {"p": "high"}, 0),
        ("event.data.p", {"p": None}, 0),
        ("event.data.p", {}, 0),
        ("event.data.p > 3", {"p": 5}, 0),
        ("event.data.plan == 'pro' ? 120 : 0", {"plan": "pro"}, 120),
        ("event.data.a * event.data.b", {"a": "x", "b": 2}, 0),
    ],
)
def test_the_rank_is_arrival_less_the_clamped_seconds(expression: str, data: dict[str, Json], seconds: int) -> None:
    function = CompiledFunction(FunctionConfig("t-f", "t", "f", priority=Priority(expression)))
    assert rank(function, {"event": {"data": data}}, 1_000_000_000) == 1_000_000_000 - seconds * 1000


def test_without_priority_the_rank_is_arrival() -> None:
    assert rank(CompiledFunction(FunctionConfig("t-f", "t", "f")), {"event": {}}, 5) == 5


async def test_a_run_overtakes_as_many_seconds_as_it_has() -> None:
    clock, gate, app = VirtualClock(), Gate(), App("t")

    @app.function("f", trigger="go", priority="event.data.p", concurrency=Concurrency(1, hold="run"))
    async def f(ctx: Context) -> None:
        gate.entered.append(ctx.event.data["name"])
        await step.sleep("nap", "1h")

    async with running(app, clock) as engine:
        for name, priority in (("first", 0), ("a", 0), ("b", 0), ("c", 15), ("d", 43_200), ("e", 90_000)):
            await app.send({"name": "go", "data": {"name": name, "p": priority}})
            await clock.advance("10s")
        await engine.drain()
    # c arrived 10 s after b and so overtakes it alone; d and e are clamped to the same, and keep their order.
    assert list(dict.fromkeys(gate.entered)) == ["first", "d", "e", "a", "c", "b"]


async def test_an_event_for_later_starts_its_run_then_and_shows_it_before(tmp_path: Path) -> None:
    clock, app = VirtualClock(), App("t")
    begin = clock.now()

    def build() -> App:
        app = App("t")

        @app.function("f", trigger="go")
        async def f(ctx: Context) -> int:
            return ctx.event.ts

        return app

    app = build()
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send([{"name": "go", "ts": begin + HOUR}, {"name": "go", "ts": begin - HOUR}])
        await engine.settle()
        later, now = sorted(await runs(engine), key=lambda run: run.status)
        assert (RunStatus(later.status), RunStatus(now.status)) == (RunStatus.QUEUED, RunStatus.COMPLETED)
        assert later.created_at == begin
    app = build()
    async with running(app, clock, tmp_path / "db") as engine:
        await clock.advance("59m")
        assert sorted(await statuses(engine)) == ["COMPLETED", "QUEUED"]
        await clock.advance("1m")
        assert await statuses(engine) == ["COMPLETED", "COMPLETED"]
        found = next(run for run in await runs(engine) if run.id == later.id)
        assert found.started_at == begin + HOUR


async def test_a_run_for_later_can_be_cancelled_before() -> None:
    clock, app = VirtualClock(), App("t")

    @app.function("f", trigger="go", concurrency=1)
    async def f(ctx: Context) -> None: ...

    async with running(app, clock) as engine:
        await app.send({"name": "go", "ts": clock.now() + HOUR})
        (run,) = await runs(engine)
        await engine.cancel(run.id)
        await engine.drain()
        assert await statuses(engine) == ["CANCELLED"]
        assert await job(engine, run.id) is None


async def test_a_batch_does_not_wait_for_the_ts_of_its_events() -> None:
    clock, app = VirtualClock(), App("t")

    @app.function("f", trigger="go", batch_events=BatchEvents(2, "10s"))
    async def f(ctx: Context) -> int:
        return len(ctx.events)

    async with running(app, clock) as engine:
        await app.send([{"name": "go", "ts": clock.now() + HOUR}] * 2)
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]


@pytest.mark.parametrize("options", [{"priority": "event.data."}, {"priority": 5}, {"throttle": "1/s"}])
def test_wrong_options_fail_at_import(options: Any) -> None:
    with pytest.raises(ConfigError):
        App("t").function("f", trigger="go", **options)(lambda ctx: None)
