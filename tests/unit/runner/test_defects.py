"""A row that cannot be used is set aside: it must not hold up what is due or ready beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import App, Context, Debounce, embedded, step
from perdure.testing import VirtualClock
from tests.support.both_stores import rows


def shop(done: list[str]) -> App:
    app = App("shop")

    @app.function("debounced", trigger="shop/many", debounce=Debounce(period="1m"))
    async def debounced(ctx: Context) -> None:
        done.append("debounced")

    @app.function("sleepy", trigger="shop/one")
    async def sleepy(ctx: Context) -> None:
        await step.sleep("a while", "1h")
        done.append(ctx.event.data["name"])

    return app


async def test_a_damaged_timer_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    clock = VirtualClock()
    path = tmp_path / "shop.db"
    async with embedded(shop(done), db=path, clock=clock) as engine:
        await engine.ingest([{"name": "shop/many"}, {"name": "shop/one", "data": {"name": "Ada"}}])
        await engine.settle()
    rows(path, "UPDATE job SET data = CAST('!' AS blob) WHERE kind = 'debounce'")
    async with embedded(shop(done), db=path, clock=clock):
        await clock.advance("2h")
        assert done == ["Ada"]
    assert "job debounce:shop-debounced: cannot be used and is set aside" in caplog.text


async def test_a_damaged_run_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    clock = VirtualClock()
    path = tmp_path / "shop.db"
    async with embedded(shop(done), db=path, clock=clock) as engine:
        await engine.ingest([{"name": "shop/one", "data": {"name": name}} for name in ("Ada", "Bob")])
        await engine.settle()
        broken = (await engine.runs_of((await engine.send([{"name": "shop/one", "data": {"name": "Eve"}}]))[0]))[0]
        await engine.settle()
    event = f"SELECT event_id FROM run WHERE id = '{broken.run_id}'"
    rows(path, f"UPDATE event SET body = CAST('!' AS blob) WHERE internal_id = ({event})")
    async with embedded(shop(done), db=path, clock=clock):
        await clock.advance("2h")
        assert sorted(done) == ["Ada", "Bob"]
    assert f"run {broken.run_id} cannot be read and is set aside" in caplog.text
