"""Large payloads are kept once, and everything goes when its time has come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import App, Context, NonRetriableError, embedded, step
from perdure.engine.retention import Retention
from perdure.model.json import Json
from perdure.testing import VirtualClock
from tests.support.both_stores import rows

LARGE = "perdure " * 10_000


def shop() -> App:
    app = App("shop")

    @app.function("export", trigger="shop/export")
    async def export(ctx: Context) -> Json:
        data = await step.run("read", lambda: LARGE)
        return {"size": len(data), "data": data if ctx.event.data.get("all") else None}

    @app.function("fail", trigger="shop/fail")
    async def fail(ctx: Context) -> None:
        raise NonRetriableError("never")

    @app.function("sleep", trigger="shop/sleep")
    async def sleep(ctx: Context) -> None:
        await step.sleep("long", "60d")

    return app


def count(path: Path, table: str) -> int:
    found: int = rows(path, f"SELECT count(*) FROM {table}")[0][0]
    return found


async def test_a_large_payload_is_stored_once(tmp_path: Path) -> None:
    app, db = shop(), tmp_path / "db"
    async with embedded(app, db=db, clock=VirtualClock()) as engine:
        runs = [await engine.trigger("shop-export", {"all": True, "note": LARGE}) for _ in range(5)]
        await engine.drain()
        results = [await run.result() for run in runs]
    assert results == [{"size": len(LARGE), "data": LARGE}] * 5
    # The text itself, the result that holds it, and the five events, which differ by their ids.
    assert count(db, "blob") == 7
    assert rows(db, "SELECT DISTINCT length(data) FROM step") == [(33,)]
    assert rows(db, "SELECT DISTINCT length(output) FROM run") == [(33,)]


async def test_a_run_with_large_payloads_is_replayed(tmp_path: Path) -> None:
    clock, db, app = VirtualClock(), tmp_path / "db", App("shop")

    @app.function("slow")
    async def slow(ctx: Context) -> list[str]:
        first = await step.run("read", lambda: LARGE)
        await step.sleep("over a restart", "1d")
        note: str = ctx.event.data["note"]
        return [first[:7], note[-8:]]

    async with embedded(app, db=db, clock=clock) as engine:
        run_id = (await engine.trigger(slow, {"note": LARGE})).run_id
        await engine.settle()
    async with embedded(app, db=db, clock=clock) as engine:
        await engine.drain()
        assert await engine.run(run_id, slow).result() == ["perdure", "perdure "]


async def test_what_has_ended_is_collected_in_its_time(tmp_path: Path) -> None:
    app, db, clock = shop(), tmp_path / "db", VirtualClock()
    async with embedded(app, db=db, clock=clock) as engine:
        for name in ("export", "export", "fail", "sleep", "nobody"):
            await app.send({"name": f"shop/{name}", "data": {}})
        await engine.settle()
        assert (count(db, "run"), count(db, "event")) == (4, 5)

        await clock.advance("6d")
        assert await engine.sweeper.collect() == await engine.sweeper.collect(dry_run=True)
        assert (count(db, "run"), count(db, "event"), count(db, "blob")) == (4, 5, 1)

        await clock.advance("2d")
        would = await engine.sweeper.collect(dry_run=True)
        assert would.runs == 2
        assert (count(db, "run"), count(db, "step")) == (4, 3)
        did = await engine.sweeper.collect()
        assert (did.runs, did.events) == (2, 3)
        # The failed run is kept longer, the sleeping one as long as it lives, each with its event.
        assert rows(db, "SELECT function_id FROM run ORDER BY 1") == [("shop-fail",), ("shop-sleep",)]
        assert rows(db, "SELECT name FROM event ORDER BY 1") == [("shop/fail",), ("shop/sleep",)]
        assert (count(db, "blob"), count(db, "blob_use")) == (0, 0)
        assert rows(db, "SELECT DISTINCT op FROM step") == [("Sleep",)]

        await clock.advance("25d")
        await engine.sweeper.collect()
        assert rows(db, "SELECT function_id FROM run") == [("shop-sleep",)]
        await engine.drain()
        assert rows(db, "SELECT status FROM run") == [(2,)]


async def test_retention_can_be_chosen(tmp_path: Path) -> None:
    app, db, clock = shop(), tmp_path / "db", VirtualClock()
    policy = Retention(completed="1h", failed=None, events=None)
    async with embedded(app, db=db, clock=clock, retention=policy) as engine:
        await app.send([{"name": "shop/export", "data": {}}, {"name": "shop/fail", "data": {}}])
        await engine.settle()
        await clock.advance("400d")
        await engine.sweeper.collect()
    assert rows(db, "SELECT function_id FROM run") == [("shop-fail",)]
    assert count(db, "event") == 2


async def test_collection_goes_on_beyond_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.runner.sweeper._PAGE", 7)
    app, db, clock = shop(), tmp_path / "db", VirtualClock()
    async with embedded(app, db=db, clock=clock) as engine:
        await asyncio.gather(*(app.send({"name": "shop/export", "data": {}}) for _ in range(30)))
        await engine.settle()
        await clock.advance("8d")
        would = await engine.sweeper.collect(dry_run=True)
        did = await engine.sweeper.collect()
    assert (would.runs, did.runs, did.events) == (30, 30, 30)
    assert (count(db, "run"), count(db, "event"), count(db, "step")) == (0, 0, 0)
