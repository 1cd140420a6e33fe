"""Invoke: a function called by another one's step; results, errors, timeouts (C.5)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perdure import App, Context, NonRetriableError, RateLimit, StepError, step
from perdure.model.errors import ErrorInfo
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import detail, pauses, running, runs, sound, statuses


@dataclass
class Receipt:
    order: str
    cents: int


def family(target: Any = "t-child", timeout: str | None = None, **options: Any) -> App:
    """A parent that invokes a function and gives its result, or the error that it met."""
    app = App("t")

    @app.function("child", retries=0, **options)
    async def child(ctx: Context) -> Any:
        data = ctx.event.data
        if data.get("nap"):
            await step.sleep("nap", data["nap"])
        if data.get("fails"):
            raise NonRetriableError("child boom")
        return data.get("n")

    @app.function("parent")
    async def parent(ctx: Context) -> Any:
        try:
            return await step.invoke("call", target, data=ctx.event.data, timeout=timeout)
        except StepError as error:
            return {"name": error.name, "message": error.message, "error": error.info.error}

    return app


async def result(engine: Any, **data: Any) -> Any:
    run = await engine.trigger("t-parent", data)
    await engine.drain()
    return await run.result()


async def test_a_child_gives_its_result_and_sees_who_called() -> None:
    app, seen = App("t"), list[Any]()

    @app.function("child")
    async def child(ctx: Context) -> Receipt:
        seen.append(ctx.event)
        return Receipt(ctx.event.data["order"], 1250)

    @app.function("parent")
    async def parent(ctx: Context) -> str:
        receipt = await step.invoke("call", child, data={"order": "o1"}, user={"id": 7}, v="3")
        assert isinstance(receipt, Receipt)
        return f"{receipt.order} {receipt.cents}"

    async with running(app) as engine:
        run = await engine.trigger(parent)
        await engine.settle()
        assert await run.result() == "o1 1250"
        (called,) = (await detail(engine, run.run_id)).steps
        (found,) = await runs(engine, "t-child")
        assert found.parent == f"{run.run_id}.{called.id}"
    event = seen[0]
    assert (event.name, event.user, event.v) == ("inngest/function.invoked", {"id": 7}, "3")
    metadata = event.data["_inngest"]
    assert metadata["fn_id"] == "t-child" and metadata["correlation_id"] == found.parent
    assert metadata["expire"] > 0 and metadata["name"] == "call" and metadata["source_fn_id"] == "t-parent"


async def test_a_child_of_another_app_by_its_slug() -> None:
    other = App("other")

    @other.function("child")
    async def child(ctx: Context) -> int:
        return 5

    async with running([family("other-child"), other]) as engine:
        assert await result(engine) == 5


async def test_an_unknown_function() -> None:
    async with running(family("nope-fn")) as engine:
        found = await result(engine)
        assert found["message"] == "could not find function with ID: nope-fn"


async def test_a_child_that_fails() -> None:
    async with running(family()) as engine:
        found = await result(engine, fails=True)
        assert (found["name"], found["message"]) == ("NonRetriableError", "child boom")


async def test_a_child_that_fails_after_the_parent_left_memory() -> None:
    async with running(family()) as engine:
        found = await result(engine, fails=True, nap="30d")
        assert found["message"] == "child boom"


async def test_a_timeout_has_the_texts_of_the_protocol_and_the_child_goes_on() -> None:
    async with running(family(timeout="1h")) as engine:
        run = await engine.trigger("t-parent", {"nap": "2h", "n": 1})
        await engine.drain()
        assert await run.result() == {
            "name": "InngestInvokeTimeoutError",
            "message": "Timed out waiting for invoked function to complete",
            "error": "InngestInvokeTimeoutError: Timed out waiting for invoked function to complete",
        }
        assert await statuses(engine, "t-child") == ["COMPLETED"]


async def test_a_child_in_time_leaves_no_timeout() -> None:
    async with running(family(timeout="3h")) as engine:
        run = await engine.trigger("t-parent", {"nap": "2h", "n": 1})
        await engine.drain()
        assert await run.result() == 1
        assert await pauses(engine, run.run_id) == []
        await sound(engine)


async def test_a_rate_limited_child() -> None:
    async with running(family(rate_limit=RateLimit(1, "1h"))) as engine:
        assert await result(engine, n=1) == 1
        assert "invoked function is rate limited" in (await result(engine, n=2))["message"]


@pytest.mark.parametrize("nap", ["1s", "30d"])
async def test_a_child_that_is_cancelled(nap: str) -> None:
    async with running(family()) as engine:
        run = await engine.trigger("t-parent", {"nap": nap})
        await engine.settle()
        await engine.cancel((await runs(engine, "t-child"))[0].id)
        await engine.settle()
        assert (await run.result())["name"] == "InvokeCancelledError"


async def test_a_cancelled_parent_does_not_cancel_its_child() -> None:
    async with running(family()) as engine:
        run = await engine.trigger("t-parent", {"nap": "1h", "n": 1})
        await engine.settle()
        await run.cancel()
        await engine.drain()
        assert await statuses(engine, "t-child") == ["COMPLETED"]
        assert await run.status() == RunStatus.CANCELLED
        await sound(engine)


async def test_an_uncaught_error_of_a_child_fails_its_parent_with_it() -> None:
    app = family()

    @app.function("strict")
    async def strict(ctx: Context) -> Any:
        return await step.invoke("call", "t-child", data={"fails": True})

    async with running(app) as engine:
        run = await engine.trigger(strict)
        await engine.drain()
        assert await run.status() == RunStatus.FAILED
        found = (await runs(engine, "t-strict"))[0]
        assert b"child boom" in (found.output or b"")
        assert [attempt for attempt in (await detail(engine, run.run_id)).attempts if attempt.attempt] == []


async def test_children_run_in_parallel_and_deep() -> None:
    app = App("t")

    @app.function("fib")
    async def fib(ctx: Context) -> int:
        n: int = ctx.event.data["n"]
        if n < 2:
            return n
        both = await asyncio.gather(*(step.invoke(f"less {k}", "t-fib", data={"n": n - k}) for k in (1, 2)))
        return sum(both)

    async with running(app) as engine:
        run = await engine.trigger(fib, {"n": 8})
        await engine.settle()
        assert await run.result() == 21
        await sound(engine)


async def test_an_invoke_survives_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with running(family(), clock, tmp_path / "db") as engine:
        await engine.trigger("t-parent", {"nap": "2h", "n": 9})
        await engine.settle()
    await clock.advance("1s")
    async with running(family(), clock, tmp_path / "db") as engine:
        await engine.drain()
        assert [run.output for run in await runs(engine, "t-parent")] == [b"9"]
        assert len(await runs(engine, "t-child")) == 1


async def test_a_function_may_be_invoked_by_itself_without_end_of_the_stack() -> None:
    app = App("t")

    @app.function("down")
    async def down(ctx: Context) -> int:
        n: int = ctx.event.data["n"]
        return 0 if n == 0 else 1 + await step.invoke("deeper", down, data={"n": n - 1})

    async with running(app) as engine:
        run = await engine.trigger(down, {"n": 150})
        await engine.settle()
        assert await run.result() == 150


def test_stored_errors_keep_their_cause() -> None:
    info = ErrorInfo("A", "a", cause=ErrorInfo("B", "b"))
    assert info.to_json() == {"name": "A", "message": "a", "cause": {"name": "B", "message": "b"}}
