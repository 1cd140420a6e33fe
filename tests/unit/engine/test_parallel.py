"""Steps in parallel: gather, TaskGroup, and what happens when one of them fails (C.8, point 2)."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from perdure import App, Context, StepError, step
from perdure.model.ids import step_hash
from perdure.sync import step as plain_step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, crashed, detail, recorded, running, runs, sound, statuses


async def test_gathered_steps_execute_at_the_same_time() -> None:
    gate, app = Gate(), App("t")

    @app.function("f")
    async def f(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*(step.run(name, gate.enter, name) for name in "abc")))

    async with running(app) as engine:
        run = await engine.trigger(f)
        await gate.waits("a", "b", "c")
        await gate.pass_("c", "a", "b")
        assert await run.result() == ["a", "b", "c"]


async def test_a_task_group_too_and_repeated_ids_are_indexed_in_the_order_of_the_calls() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step.run("same", abs, -number)) for number in range(5)]
        await step.sleep("nap", "1d")
        return [task.result() for task in tasks]

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == [0, 1, 2, 3, 4]
        found = {each.id: each.data for each in (await detail(engine, run.run_id)).steps if each.name == "same"}
        assert found == {step_hash("same", number): str(number).encode() for number in range(5)}


async def test_a_failed_step_of_a_group_cancels_its_siblings_and_can_be_caught() -> None:
    gate, app = Gate(), App("t")

    async def fail() -> None:
        raise ValueError("no")

    @app.function("f", retries=0)
    async def f(ctx: Context) -> list[str]:
        names = list[str]()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(step.run("slow", gate.enter, "slow"))
                group.create_task(step.run("fails", fail))
        except* StepError as errors:
            names += [error.name for error in errors.exceptions if isinstance(error, StepError)]
        return [await step.run("after", lambda: "after"), *names]

    async with running(app) as engine:
        run = await engine.trigger(f)
        assert await run.result(timeout=5) == ["after", "ValueError"]
        recorded = [each.name for each in (await detail(engine, run.run_id)).steps]
        assert sorted(recorded) == ["after", "fails"], "a cancelled step is not recorded"
        await sound(engine)
    assert gate.cancelled == ["slow"]


async def test_a_group_that_fails_for_good_fails_the_run_and_names_every_step() -> None:
    app = App("t")

    async def fail(message: str) -> None:
        raise ValueError(message)

    @app.function("f", retries=0)
    async def f(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            for name in ("one", "two"):
                group.create_task(step.run(name, fail, name))

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        (found,) = await runs(engine)
        assert await statuses(engine) == ["FAILED"]
        assert b"step 'one' failed" in (found.output or b"")
        assert (await run.status()).final


async def test_gather_with_exceptions_keeps_the_good_results() -> None:
    app = App("t")

    async def work(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number

    @app.function("f", retries=1)
    async def f(ctx: Context) -> list[Any]:
        found = await asyncio.gather(*(step.run(f"n{n}", work, n) for n in range(6)), return_exceptions=True)
        return [each if isinstance(each, int) else str(type(each).__name__) for each in found]

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == [0, "StepError", 2, "StepError", 4, "StepError"]


async def test_finished_branches_are_not_done_again_after_a_crash(tmp_path: Path) -> None:
    gate, second, clock = Gate(), Gate(), VirtualClock()

    def build(gate: Gate) -> App:
        app = App("t")

        @app.function("f")
        async def f(ctx: Context) -> list[str]:
            return list(await asyncio.gather(*(step.run(name, gate.enter, name) for name in "abc")))

        return app

    async with running(build(gate), clock, tmp_path / "db", shutdown_timeout=0) as engine:
        run = await engine.trigger("t-f")
        await gate.pass_("b")
        await gate.waits("a", "c")
        await recorded(engine, run.run_id, "b")
        copy = crashed(tmp_path / "db")
    async with running(build(second), clock, copy) as engine:
        await second.pass_("a", "c")
        await engine.settle()
        assert [run.output for run in await runs(engine)] == [b'["a","b","c"]']
    assert sorted(second.entered) == ["a", "c"]


async def test_a_stop_hands_back_what_executes_and_keeps_what_ends_in_time(tmp_path: Path) -> None:
    gate, clock, app = Gate(), VirtualClock(), App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> str:
        return await step.run("work", gate.enter, ctx.event.data["name"])

    async with running(app, clock, tmp_path / "db", shutdown_timeout=5) as engine:
        await app.send([{"name": "go", "data": {"name": name}} for name in ("quick", "slow")])
        await gate.waits("quick", "slow")
        stopping = asyncio.get_running_loop().create_task(engine.runner.stop(0.2))
        await gate.pass_("quick")
        await stopping
        assert sorted(gate.cancelled) == ["slow"]
    again = App("t")
    again.add(app.functions["t-f"])
    async with running(again, clock, tmp_path / "db") as engine:
        await gate.pass_("slow")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 2
    assert gate.entered.count("quick") == 1 and gate.entered.count("slow") == 2


async def test_plain_steps_run_in_threads_side_by_side() -> None:
    app = App("t")
    barrier: list[str] = []

    def meet(name: str) -> str:
        barrier.append(name)
        deadline = time.monotonic() + 5
        while len(barrier) < 3 and time.monotonic() < deadline:
            pass
        return f"{name} met {len(barrier)}"

    @app.function("f")
    async def f(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*(step.run(name, meet, name) for name in "abc")))

    async with running(app) as engine:
        run = await engine.trigger(f)
        assert await run.result(timeout=6) == ["a met 3", "b met 3", "c met 3"]


@pytest.mark.parametrize("pauses", [0, 2])
async def test_many_runs_of_many_branches_come_through(pauses: int) -> None:
    app = App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> int:
        async def branch(number: int) -> int:
            total = 0
            for turn in range(pauses + 1):
                total += await step.run(f"{number} {turn}", abs, -number)
                if turn < pauses:
                    await step.sleep(f"nap {number} {turn}", f"{number + 1}m")
            return total

        return sum(await asyncio.gather(*(branch(number) for number in range(5))))

    async with running(app) as engine:
        await app.send([{"name": "go"}] * 40)
        await engine.drain()
        assert {run.output for run in await runs(engine)} == {str(10 * (pauses + 1)).encode()}
        await sound(engine)


async def test_plain_handlers_do_their_steps_in_order_and_catch_their_errors() -> None:
    app = App("t")

    def fail() -> None:
        raise ValueError("no")

    @app.function("f", retries=0)
    def f(ctx: Context) -> list[str]:
        found = [plain_step.run("one", lambda: "one")]
        try:
            plain_step.run("fails", fail)
        except StepError as error:
            found.append(error.name)
        event = plain_step.wait_for_event("wait", event="go", timeout="1h")
        return [*found, event.name if event else "none"]

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        await app.send({"name": "go"})
        assert await run.result(timeout=5) == ["one", "ValueError", "go"]


@pytest.mark.parametrize("plain", [False, True])
async def test_a_step_that_exits_fails_and_does_not_take_the_process_along(plain: bool) -> None:
    app = App("t")

    async def leave() -> None:
        sys.exit("usage: ...")

    @app.function("f", retries=1)
    async def f(ctx: Context) -> list[str]:
        call: Any = (lambda: sys.exit("usage: ...")) if plain else leave
        found = await asyncio.gather(*(step.run(name, call) for name in "ab"), return_exceptions=True)
        return [str(each) for each in found]

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        assert await run.result() == [f"step '{name}' failed: SystemExit: usage: ..." for name in "ab"]
