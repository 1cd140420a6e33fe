"""Singleton: one run at a time per key; the newcomer is skipped, or cancels the one that is there (D.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import App, Context, RefusedError, RunCancelledError, Singleton, step
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import running, runs, sound, statuses


def single(mode: Any, key: str | None = None) -> App:
    app = App("t")

    @app.function("f", trigger="go", singleton=Singleton(key=key, mode=mode), retries=0)
    async def f(ctx: Context) -> str:
        await step.sleep("nap", "1h")
        if ctx.event.data.get("fails"):
            raise ValueError("no")
        return str(ctx.event.data.get("n"))

    return app


def go(**data: Any) -> dict[str, Any]:
    return {"name": "go", "data": data}


async def test_skip_leaves_a_row_that_says_why() -> None:
    app = single("skip")
    async with running(app) as engine:
        await app.send([go(n=1), go(n=2)])
        await engine.settle()
        first, second = await runs(engine)
        assert [RunStatus(run.status).name for run in (first, second)] == ["RUNNING", "SKIPPED"]
        assert msgspec.json.decode(second.output or b"") == {"skip_reason": "singleton", "existing_run_id": first.id}
        assert second.ended_at is not None
        await sound(engine)
        with pytest.raises(RunCancelledError, match="was skipped"):
            await engine.run(second.id).result()
        with pytest.raises(RefusedError) as refused:
            await engine.trigger("t-f")
        assert refused.value.reason == "skipped"
        await engine.drain()
        await app.send(go(n=3))
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED", "SKIPPED", "SKIPPED", "COMPLETED"]


async def test_cancel_ends_the_run_that_is_there() -> None:
    app = single("cancel")
    ends: list[str] = []

    @app.function("watch", trigger="inngest/function.cancelled")
    async def watch(ctx: Context) -> None:
        ends.append(ctx.event.data["run_id"])

    async with running(app) as engine:
        await app.send([go(n=number) for number in range(4)])
        await engine.settle()
        assert await statuses(engine, "t-f") == ["CANCELLED"] * 3 + ["RUNNING"]
        await engine.drain()
        found = await runs(engine, "t-f")
        assert [run.output for run in found[3:]] == [b'"3"']
        assert sorted(ends) == sorted(run.id for run in found[:3])
        await sound(engine)


@pytest.mark.parametrize("mode", ["skip", "cancel"])
async def test_each_key_has_its_run_and_without_a_key_there_is_no_limit(mode: str) -> None:
    app = single(mode, "event.data.user")
    async with running(app) as engine:
        await app.send([go(user="a"), go(user="b"), go(), go(), go(user=None), go(user=False), go(user="a")])
        await engine.settle()
        found = await statuses(engine)
        assert found[1:6] == ["RUNNING"] * 5
        assert {found[0], found[6]} == {"RUNNING", "SKIPPED" if mode == "skip" else "CANCELLED"}


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled", "restarted"])
async def test_the_place_is_free_again_when_the_run_has_ended(ending: str, tmp_path: Path) -> None:
    app, clock = single("skip"), VirtualClock()
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(fails=ending == "failed"))
        await engine.settle()
        if ending == "cancelled":
            await engine.cancel((await runs(engine))[0].id)
        elif ending != "restarted":
            await engine.drain()
        if ending != "restarted":
            await app.send(go(n=2))
            await engine.settle()
            assert (await statuses(engine))[1] == "RUNNING"
    if ending == "restarted":
        await clock.advance("1s")
        app = single("skip")
        async with running(app, clock, tmp_path / "db") as engine:
            await app.send(go(n=2))
            await engine.drain()
            await app.send(go(n=3))
            await engine.drain()
            assert await statuses(engine) == ["COMPLETED", "SKIPPED", "COMPLETED"]


async def test_a_skipped_child_is_an_error_of_its_parent() -> None:
    app = single("skip")

    @app.function("parent")
    async def parent(ctx: Context) -> Any:
        return await step.invoke("call", "t-f")

    async with running(app) as engine:
        await app.send(go(n=1))
        run = await engine.trigger(parent)
        await engine.settle()
        assert await run.status() == RunStatus.FAILED
        failed = (await runs(engine, "t-parent"))[0]
        assert b"of the singleton has not ended" in (failed.output or b"")
