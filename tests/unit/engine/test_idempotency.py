"""Idempotency: by event id (A.5), by expression (D.8), and of direct triggers; for 24 hours each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import App, Context
from perdure.engine import views
from perdure.testing import VirtualClock
from tests.unit.engine.harness import running, runs, statuses


def once(idempotency: str | None = None) -> App:
    app = App("t")

    @app.function("f", trigger="go", idempotency=idempotency)
    async def f(ctx: Context) -> Any:
        return ctx.event.data.get("n")

    @app.function("g", trigger="go")
    async def g(ctx: Context) -> None: ...

    return app


def go(id: str | None = None, **data: Any) -> dict[str, Any]:
    return {"name": "go", "data": data, "id": id}


async def test_a_second_event_of_the_same_id_is_stored_and_starts_nothing() -> None:
    app = once()
    async with running(app) as engine:
        ids = await app.send([go("one", n=1), go("one", n=2)])
        ids += await app.send(go("one", n=3))
        await engine.settle()
        assert len(set(ids)) == 3
        assert len(await engine.view(lambda: views.list_events(10))) == 3
        assert [run.output for run in await runs(engine, "t-f")] == [b"1"]
        assert len(await runs(engine, "t-g")) == 1, "each function for itself, once"


async def test_an_event_id_is_forgotten_after_24_hours(tmp_path: Path) -> None:
    clock = VirtualClock()
    app = once()
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go("one", n=1))
        await clock.advance("23h59m59s")
        await app.send(go("one", n=2))
        await engine.settle()
    app = once()
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go("one", n=3))
        await clock.advance("1s")
        await app.send(go("one", n=4))
        await engine.settle()
        assert [run.output for run in await runs(engine, "t-f")] == [b"1", b"4"]


async def test_an_expression_lets_each_value_start_one_run_in_24_hours() -> None:
    clock = VirtualClock()
    app = once("event.data.order")
    async with running(app, clock) as engine:
        await app.send([go(n=1, order="a"), go(n=2, order="a"), go(n=3, order="b")])
        await clock.advance("23h")
        await app.send(go(n=4, order="a"))
        await clock.advance("1h")
        await app.send(go(n=5, order="a"))
        await engine.settle()
        assert [run.output for run in await runs(engine, "t-f")] == [b"1", b"3", b"5"]


async def test_without_a_value_the_expression_does_not_apply() -> None:
    app = once("event.data.order")
    async with running(app) as engine:
        await app.send([go(n=1), go(n=2), go(n=3, order=None), go(n=4, order=None)])
        await engine.settle()
        assert len(await runs(engine, "t-f")) == 4


async def test_an_expression_and_an_event_id_apply_independently() -> None:
    app = once("event.data.order")
    async with running(app) as engine:
        await app.send([go("x", order="a"), go("x", order="b"), go("y", order="a"), go("z", order="c")])
        await engine.settle()
        assert len(await runs(engine, "t-f")) == 2


@pytest.mark.parametrize(
    ("value", "other"), [("a" * 40_000, "a" * 40_001), (5, 6), (5.0, 5.5), ([1, {"b": 2}], [1, {"b": 3}])]
)
async def test_values_of_any_kind_are_told_apart(value: Any, other: Any) -> None:
    app = once("event.data.order")
    async with running(app) as engine:
        await app.send([go(order=value), go(order=value), go(order=other)])
        await engine.settle()
        assert len(await runs(engine, "t-f")) == 2


async def test_a_trigger_with_an_id_gives_the_same_run_again() -> None:
    app = once()
    async with running(app) as engine:
        first = await engine.trigger("t-f", {"n": 1}, id="mine")
        again = await engine.trigger("t-f", {"n": 2}, id="mine")
        other = await engine.trigger("t-g", id="mine")
        assert first.run_id == again.run_id != other.run_id
        assert await again.result() == 1
        assert await statuses(engine, "t-f") == ["COMPLETED"]


async def test_a_request_that_is_sent_again_under_its_seed_changes_nothing() -> None:
    app = once()
    async with running(app) as engine:
        seed = (1_700_000_000_000, bytes(10))
        first = await engine.ingest([go(n=1), go(n=2)], seed=seed)
        again = await engine.ingest([go(n=1), go(n=2)], seed=seed)
        assert first.event_ids == again.event_ids == ["01HF7YAT000000000000000001", "01HF7YAT000000000000000002"]
        await engine.settle()
        assert len(await runs(engine, "t-f")) == 2
