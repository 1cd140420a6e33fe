"""Parked coroutines are swept by one timer, however often runs park: more of them would evict before it is time."""

from __future__ import annotations

import asyncio

import pytest

from perdure import App, Context, step
from perdure.model.json import Json
from perdure.testing import in_memory


async def test_runs_that_park_one_after_another_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("shop")

    @app.function("wait", trigger="t/wait")
    async def wait(ctx: Context) -> None:
        await step.wait_for_event("go", event="t/go", timeout="1h")

    loop = asyncio.get_running_loop()
    call_later, sweeps = loop.call_later, list[Json]()

    def counted(delay: float, callback: Json, *args: Json) -> asyncio.TimerHandle:
        if getattr(callback, "__name__", "") == "_sweep":
            sweeps.append(callback)
        return call_later(delay, callback, *args)

    monkeypatch.setattr(loop, "call_later", counted)
    async with in_memory(app) as engine:
        for _ in range(3):
            run = await engine.trigger("shop-wait")
            await engine.settle()
            assert engine.load == (0, 1)
            await engine.send([{"name": "t/go"}])
            await run.result()
    assert len(sweeps) == 1
