"""Signals: one waiting run a name, conflicts by choice (E.1)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from perdure import App, Context, step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import output, running, runs, sound, statuses


def waiter(conflict: Any = "fail", timeout: str = "1h") -> App:
    app = App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> Any:
        got = await step.wait_for_signal(
            "wait", signal=ctx.event.data.get("name", "bell"), timeout=timeout, on_conflict=conflict
        )
        return msgspec.to_builtins(got)

    return app


def go(**data: Any) -> dict[str, Any]:
    return {"name": "go", "data": data}


async def test_a_signal_reaches_the_run_that_waits_for_it_with_its_data() -> None:
    app = waiter()
    async with running(app) as engine:
        assert await engine.signal("bell") is None, "nobody waits yet, and it is not kept"
        await app.send([go(), go(name="door")])
        await engine.settle()
        bell, door = await runs(engine)
        assert await engine.signal("bell", {"rings": [1, 2]}) == bell.id
        assert await engine.signal("bell") is None
        await engine.settle()
        assert await output(engine, bell.id) == {"signal": "bell", "data": {"rings": [1, 2]}}
        assert await engine.signal("door") == door.id
        await engine.settle()
        assert await output(engine, door.id) == {"signal": "door", "data": None}
        await sound(engine)


async def test_a_timeout_gives_none_and_frees_the_name() -> None:
    clock = VirtualClock()
    app = waiter()
    async with running(app, clock) as engine:
        await app.send(go())
        await clock.advance("1h")
        assert [run.output for run in await runs(engine)] == [b"null"]
        assert await engine.signal("bell") is None
        await app.send(go())
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED", "RUNNING"]


async def test_a_conflict_fails_the_second_run_without_a_retry() -> None:
    app = waiter()
    async with running(app) as engine:
        await app.send([go(), go()])
        await engine.settle()
        first, second = await runs(engine)
        assert await statuses(engine) == ["RUNNING", "FAILED"]
        error = await output(engine, second.id)
        assert error["name"] == "SignalConflictError" and first.id in error["message"]
        assert await engine.signal("bell") == first.id


async def test_a_conflict_may_replace_the_first_run_which_gets_none() -> None:
    app = waiter("replace")
    async with running(app) as engine:
        await app.send([go(), go()])
        await engine.settle()
        _, second = await runs(engine)
        assert [run.output for run in await runs(engine)] == [b"null", None]
        assert await engine.signal("bell", 5) == second.id
        await engine.settle()
        assert await output(engine, second.id) == {"signal": "bell", "data": 5}


async def test_two_steps_of_one_run_conflict_too() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> list[str]:
        found = await asyncio.gather(
            *(step.wait_for_signal(name, signal="bell", timeout="1h") for name in ("one", "two")),
            return_exceptions=True,
        )
        return [type(each).__name__ for each in found]

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        await engine.signal("bell")
        await engine.settle()
        assert await run.result() == ["Signal", "StepError"]


async def test_a_waiter_that_is_cancelled_frees_the_name() -> None:
    app = waiter()
    async with running(app) as engine:
        await app.send(go())
        await engine.settle()
        await engine.cancel((await runs(engine))[0].id)
        assert await engine.signal("bell") is None
        await app.send(go())
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED", "RUNNING"]


async def test_a_step_sends_once_and_learns_whether_somebody_waited() -> None:
    app = waiter()

    @app.function("sender")
    async def sender(ctx: Context) -> list[bool]:
        sent = [await step.send_signal(name, signal="bell", data=name) for name in ("first", "second")]
        await step.sleep("nap", "1d")
        return sent

    async with running(app) as engine:
        await app.send(go())
        await engine.settle()
        run = await engine.trigger(sender)
        await engine.settle()
        await app.send(go())
        await engine.settle()
        await engine.drain()
        assert await run.result() == [True, False]
        first, second = await runs(engine, "t-f")
        assert await output(engine, first.id) == {"signal": "bell", "data": "first"}
        assert second.output == b"null", "a replayed sender does not send again"
