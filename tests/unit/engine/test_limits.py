"""Limits (C.10): final errors that name the step and the size; and large payloads, stored once."""

from __future__ import annotations

import asyncio
import math
from datetime import date
from typing import Any

import pytest

from perdure import App, Context, step
from perdure.engine.limits import exceeded
from perdure.model.limits import MAX_STATE_BYTES, MAX_STEP_BYTES, MAX_STEPS
from perdure.model.ops import STEP_RUN, Op
from perdure.testing import VirtualClock
from tests.unit.engine.harness import detail, output, running, runs, sound, statuses

MIB = 1024 * 1024


def op(size: int) -> Op:
    return Op(STEP_RUN, "hash", "big", data=b"x" * size)


@pytest.mark.parametrize(
    ("size", "steps", "state", "name", "part"),
    [
        (5, 1, 5, None, ""),
        (MAX_STEP_BYTES, MAX_STEPS, MAX_STATE_BYTES, None, ""),
        (5, MAX_STEPS + 1, 5, "InngestErrFunctionOverflowed", "1000 steps, at step 'big'"),
        (MAX_STEP_BYTES + 1, 1, 5, "StepOutputTooLargeError", "step 'big' is 4194305 bytes"),
        (5, 1, MAX_STATE_BYTES + 1, "InngestErrStateOverflowed", "33554432 bytes, at step 'big'"),
    ],
)
def test_what_exceeds_which_limit(size: int, steps: int, state: int, name: str | None, part: str) -> None:
    error = exceeded(op(size), steps, state)
    assert (error and error.name) == name
    assert part in (error.message if error else "")


async def failed(app: App, **options: Any) -> tuple[dict[str, Any], int]:
    """The error with which the app's only run fails, without a retry, and how many steps it had."""
    async with running(app, **options) as engine:
        run = await engine.trigger("t-f")
        await engine.settle()
        assert await statuses(engine, "t-f") == ["FAILED"]
        await sound(engine)
        return await output(engine, run.run_id), len((await detail(engine, run.run_id)).steps)


async def test_a_thousand_steps_are_allowed_and_one_more_is_not() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> None:
        for number in range(ctx.event.data.get("steps", 1001)):
            await step.run(f"step {number}", int)

    @app.function("all", retries=0)
    async def all_of_them(ctx: Context) -> None:
        for number in range(1000):
            await step.run("same id", abs, number)

    error, steps = await failed(app)
    assert error["name"] == "InngestErrFunctionOverflowed" and "'step 1000'" in error["message"]
    assert steps == 1000
    async with running(app) as engine:
        run = await engine.trigger(all_of_them)
        await engine.settle()
        await run.result()


async def test_sleeps_and_waits_count_as_steps() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> None:
        await asyncio.gather(*(step.sleep(f"nap {number}", "1h") for number in range(1001)))

    error, _ = await failed(app)
    assert "'nap 1000'" in error["message"]


async def test_a_step_output_of_more_than_4_mib() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> None:
        await step.run("fits", lambda: "x" * (4 * MIB - 2))
        await step.run("too big", lambda: "x" * (4 * MIB - 1))

    error, steps = await failed(app)
    assert error["name"] == "StepOutputTooLargeError"
    assert "'too big' is 4194305 bytes" in error["message"]
    assert steps == 1


async def test_a_state_of_more_than_32_mib() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> None:
        for number in range(9):
            await step.run(f"part {number}", str(number).__mul__, 4 * MIB - 2)

    error, steps = await failed(app)
    assert error["name"] == "InngestErrStateOverflowed" and "'part 8'" in error["message"]
    assert steps == 8


async def test_the_results_of_children_are_state_too() -> None:
    app = App("t")

    @app.function("child")
    async def child(ctx: Context) -> str:
        return str(ctx.event.data["n"]) * (4 * MIB - 2)

    @app.function("f")
    async def f(ctx: Context) -> None:
        for number in range(12):
            await step.invoke(f"child {number}", child, data={"n": number})

    error, _ = await failed(app)
    assert error["name"] == "InngestErrStateOverflowed"


async def test_a_result_of_more_than_4_mib() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> str:
        return "x" * 5 * MIB

    error, _ = await failed(app)
    assert error["name"] == "StepOutputTooLargeError" and "the function's result" in error["message"]


@pytest.mark.parametrize(
    ("value", "name", "message"),
    [
        (math.nan, "UnserializableError", "step 'give'"),
        ({"a": [1, math.inf]}, "UnserializableError", "a[1]"),
        ({"a": {"b": object()}}, "UnserializableError", "a.b"),
        ({"when": date}, "UnserializableError", "when"),
        ({1: {2: {3}}}, None, ""),
        ("\ud800", "UnserializableError", "step 'give'"),
    ],
)
async def test_what_cannot_be_stored_fails_at_once_naming_step_and_path(
    value: Any, name: str | None, message: str
) -> None:
    app, calls = App("t"), list[int]()

    def give() -> Any:
        calls.append(1)
        return value

    @app.function("f")
    async def f(ctx: Context) -> None:
        await step.run("give", give)

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        found = await output(engine, run.run_id)
        if name is not None:
            assert found["name"] == name
            assert "step 'give'" in found["message"] and message in found["message"]
            assert await statuses(engine) == ["FAILED"]
    assert calls == [1]


async def test_a_result_that_cannot_be_stored_fails_the_run_at_once() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> Any:
        return {"total": math.nan}

    error, _ = await failed(app)
    assert error["name"] == "UnserializableError"
    assert "the result of function 't-f'" in error["message"] and "total" in error["message"]


async def blobs(engine: Any) -> list[int]:
    """The sizes of the payloads that the store keeps by content."""
    connection = engine.store._require()
    return sorted(row[0] for row in connection.execute("SELECT length(data) FROM blob"))


@pytest.mark.only_sqlite("it looks into the file")
async def test_a_payload_over_32_kib_is_stored_once_however_often_it_is_used() -> None:
    app, clock = App("t"), VirtualClock()
    big, small = "x" * 50_000, "y" * 32_000

    async def echo(value: str) -> str:
        return value

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> str:
        same = [await step.run(f"same {number}", echo, ctx.event.data["big"]) for number in range(4)]
        await step.run("small", echo, small)
        await step.sleep("nap", "30d")
        assert same == [big] * 4
        return same[0]

    async with running(app, clock) as engine:
        await app.send([{"name": "go", "data": {"big": big}}] * 3)
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 3
        assert [await output(engine, run.id) for run in await runs(engine)] == [big] * 3
        sizes = await blobs(engine)
        # The text itself once, for steps and results; and the events, which differ in their ids.
        assert sizes[0] == 50_002 and len(sizes) == 4
        assert (await detail(engine, (await runs(engine))[0].id)).steps[0].data == f'"{big}"'.encode()


@pytest.mark.only_sqlite("it looks into the file")
async def test_retention_drops_a_large_payload_with_its_last_owner() -> None:
    app, clock = App("t"), VirtualClock()

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> str:
        return await step.run("big", lambda: "x" * 50_000)

    async with running(app, clock) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        await clock.advance("4d")
        await app.send({"name": "go"})
        await engine.settle()
        await clock.advance("4d")
        await engine.sweeper.collect()
        assert len(await runs(engine)) == 1 and len(await blobs(engine)) == 1
        await clock.advance("4d")
        await engine.sweeper.collect()
        assert await runs(engine) == [] and await blobs(engine) == []
