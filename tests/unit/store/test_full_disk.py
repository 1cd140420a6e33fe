"""When the database refuses to grow: nothing is half done, nothing accepted is lost, and work goes on afterwards."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from perdure import App, Context, embedded, step
from perdure.model.errors import StoreError
from perdure.model.records import RunStatus
from perdure.node import Node
from perdure.store.sqlite import SqliteStore

NOTE = "x" * 2000


def fill(store: SqliteStore) -> None:
    connection = store._require()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def empty(store: SqliteStore) -> None:
    store._require().execute("PRAGMA max_page_count = 1000000")


async def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("perdure.runner.runner._PAUSE_AFTER_ERROR", 0.005)
    caplog.set_level(logging.CRITICAL)
    app, gate = App("shop"), asyncio.Event()
    done: list[int] = []

    async def work(number: int) -> str:
        await gate.wait()
        done.append(number)
        return NOTE

    @app.function("work", trigger="shop/work")
    async def handler(ctx: Context) -> int:
        number: int = ctx.event.data["n"]
        await step.run("first", work, number)
        await step.sleep("a moment", 0.01)
        await step.run("second", work, number)
        return number

    store = SqliteStore(tmp_path / "db", synchronous="NORMAL")
    async with embedded(app, db=store) as engine:
        accepted: list[str] = []
        refused = 0
        for number in range(20):
            accepted += await app.send({"name": "shop/work", "data": {"n": number, "note": NOTE}})
        fill(store)
        for number in range(20, 60):
            try:
                accepted += await app.send({"name": "shop/work", "data": {"n": number, "note": NOTE}})
            except StoreError as error:
                assert "full" in str(error)
                refused += 1
        assert refused
        gate.set()
        # Steps end now, and cannot be recorded.
        await _until(lambda: len(done) >= 20)
        empty(store)
        await _until_ended(engine, len(accepted))
        health = await engine.health()
    assert health.runs == {RunStatus.COMPLETED: len(accepted)}
    assert (health.jobs, health.orphans, health.leaked_slots) == ({}, [], [])
    assert len(accepted) + refused == 60


async def _until(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


async def _until_ended(engine: Node, count: int) -> None:
    async with asyncio.timeout(20):
        while (await engine.health()).runs != {RunStatus.COMPLETED: count}:
            await asyncio.sleep(0.01)
