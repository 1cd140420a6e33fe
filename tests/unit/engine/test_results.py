"""Triggering a run and its result, as a program sees them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from perdure import App, Context, RunFailedError, step
from perdure.model.errors import NotFoundError
from perdure.model.records import RunStatus
from perdure.model.values import UnserializableError
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, running


@dataclass
class Invoice:
    number: str
    at: datetime


AT = datetime(2026, 11, 22, 9, 30, tzinfo=timezone(timedelta(hours=1)))
app = App("t")


@app.function("typed")
async def typed(ctx: Context) -> Invoice:
    return await step.run("make", make)


async def make() -> Invoice:
    return Invoice("i1", AT)


@app.function("fails", retries=0)
async def fails(ctx: Context) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


async def test_a_result_has_the_type_that_the_handler_declares_and_is_json_by_slug() -> None:
    async with running(app) as engine:
        run = await engine.trigger(typed)
        assert await run.result() == Invoice("i1", AT)
        again = engine.run(run.run_id, typed)
        assert await again.result() == Invoice("i1", AT)
        plain: Any = await engine.run(run.run_id).result()
        assert plain["number"] == "i1" and isinstance(plain["at"], str)


async def test_a_failure_carries_the_error_its_cause_and_its_stack() -> None:
    async with running(app) as engine:
        run = await engine.trigger(fails)
        with pytest.raises(RunFailedError, match="of t-fails failed: ValueError: outer") as caught:
            await run.result()
    info = caught.value.info
    assert info is not None and info.cause is not None
    assert (info.name, info.message, info.cause.name, info.cause.message) == (
        "ValueError", "outer", "KeyError", "key 'inner' is missing",
    )  # fmt: skip
    assert "test_results.py" in info.stack and "runner/resident.py" not in info.stack


async def test_waiting_for_a_result_may_time_out_and_be_tried_again() -> None:
    gate, held = Gate(), App("t")

    @held.function("f")
    async def f(ctx: Context) -> str:
        return await step.run("work", gate.enter, "work")

    async with running(held) as engine:
        run = await engine.trigger(f)
        with pytest.raises(TimeoutError):
            await run.result(timeout=0.01)
        waiting = [asyncio.create_task(run.result()) for _ in range(3)]
        await gate.pass_("work")
        assert await asyncio.gather(*waiting) == ["work"] * 3
        assert await run.status() == RunStatus.COMPLETED


async def test_the_result_of_a_run_of_an_earlier_process(tmp_path: Path) -> None:
    def build() -> App:
        again = App("t")
        again.add(*app.functions.values())
        return again

    async with running(build(), VirtualClock(), tmp_path / "db") as engine:
        run_id = (await engine.trigger(typed)).run_id
        await engine.settle()
    async with running(build(), VirtualClock(), tmp_path / "db") as engine:
        assert await engine.run(run_id, typed).result() == Invoice("i1", AT)


async def test_what_is_not_there_is_said() -> None:
    async with running(app) as engine:
        with pytest.raises(
            NotFoundError, match=r"there is no function 't-nope'; registered are \['t-fails', 't-typed'\]"
        ):
            await engine.trigger("t-nope")
        with pytest.raises(NotFoundError, match="there is no run nope"):
            await engine.run("nope").result()
        with pytest.raises(NotFoundError, match="there is no run nope"):
            await engine.run("nope").status()


@pytest.mark.parametrize(
    ("data", "error"), [([1], TypeError), ("text", TypeError), ({"a": object()}, UnserializableError)]
)
async def test_data_that_cannot_be_an_events_is_refused(data: Any, error: type[Exception]) -> None:
    async with running(app) as engine:
        with pytest.raises(error, match="data"):
            await engine.trigger(typed, data)
