"""Steps that rest are skipped with a value, or woken before their time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import App, Context, NotFoundError, RefusedError, step
from perdure.engine import views
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, output, running, runs, sound, statuses, step_named, until

UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"


def waiting_app() -> App:
    app = App("t")

    async def broken() -> str:
        raise ConnectionError("down")

    @app.function("event", trigger="event")
    async def event(ctx: Context) -> Any:
        found = await step.wait_for_event("wait", event="approved", timeout="1d")
        return None if found is None else [found.name, found.data]

    @app.function("signal", trigger="signal")
    async def signal(ctx: Context) -> Any:
        return await step.wait_for_signal("wait", signal="go", timeout="1d")

    @app.function("nap", trigger="nap")
    async def nap(ctx: Context) -> str:
        await step.sleep("wait", "30d")
        return "awake"

    @app.function("retry", trigger="retry", retries=3)
    async def retry(ctx: Context) -> str:
        return await step.run("wait", broken)

    @app.function("invoke", trigger="invoke")
    async def invoke(ctx: Context) -> Any:
        return await step.invoke("wait", "t-nap", data={})

    @app.function("both", trigger="both")
    async def both(ctx: Context) -> Any:
        found = await asyncio.gather(step.sleep("a", "1d"), step.wait_for_event("b", event="approved", timeout="1d"))
        return found[1]

    return app


async def started(node: Any, name: str) -> str:
    await node.send([{"name": name, "data": {}}])
    await node.settle()
    return str((await runs(node, f"t-{name}"))[0].id)


@pytest.mark.parametrize(
    ("name", "value", "gives"),
    [
        ("event", {"by": "Ada"}, ["approved", {"by": "Ada"}]),
        ("event", None, ["approved", {}]),
        ("signal", {"n": 1}, {"n": 1}),
        ("nap", None, "awake"),
        ("retry", "by hand", "by hand"),
        ("invoke", [1, 2], [1, 2]),
    ],
)
async def test_a_skipped_step_gives_the_value(name: str, value: Any, gives: Any) -> None:
    async with running(waiting_app()) as node:
        run_id = await started(node, name)
        chosen = await step_named(node, run_id, "wait")
        assert await node.skip_step(run_id, "wait", value) == chosen.id
        await node.settle()
        found = await output(node, run_id)
        assert found == gives or found.get("data") == gives
        assert not await node.view(lambda: _left(run_id))
        await sound(node)


def _left(run_id: str) -> Any:
    jobs = yield from views.jobs_of_run(run_id)
    return jobs + (yield from views.pauses_of_run(run_id))


@pytest.mark.parametrize("name", ["event", "signal", "nap"])
async def test_a_woken_wait_ends_as_if_its_time_had_come(name: str) -> None:
    async with running(waiting_app()) as node:
        run_id = await started(node, name)
        await node.wake_step(run_id, "wait")
        await node.settle()
        assert await output(node, run_id) == ("awake" if name == "nap" else None)
        await sound(node)


async def test_a_woken_retry_is_attempted_at_once() -> None:
    async with running(waiting_app()) as node:
        run_id = await started(node, "retry")
        before = (await step_named(node, run_id, "wait")).attempt
        await node.wake_step(run_id, "wait")
        await node.settle()
        # It has failed once more, and waits for the attempt after that one.
        for expected in (before + 1, before + 2):
            assert (await step_named(node, run_id, "wait")).attempt == expected
            await node.wake_step(run_id, "wait")
            await node.settle()
        assert await statuses(node) == ["FAILED"]


async def test_a_woken_invocation_times_out_and_the_invoked_run_goes_on() -> None:
    async with running(waiting_app()) as node:
        run_id = await started(node, "invoke")
        await node.wake_step(run_id, "wait")
        await node.settle()
        assert (await output(node, run_id))["name"] == "InngestInvokeTimeoutError"
        assert [RunStatus(run.status) for run in await runs(node, "t-nap")] == [RunStatus.RUNNING]
        await sound(node)


async def test_the_other_steps_of_a_run_keep_waiting() -> None:
    clock = VirtualClock()
    async with running(waiting_app(), clock) as node:
        run_id = await started(node, "both")
        await node.wake_step(run_id, "a")
        await node.settle()
        assert await statuses(node) == ["RUNNING"]
        await node.skip_step(run_id, "b", {"x": 1})
        await node.settle()
        assert (await output(node, run_id))["data"] == {"x": 1}


async def test_what_comes_later_than_a_skip_is_nobodys() -> None:
    clock = VirtualClock()
    async with running(waiting_app(), clock) as node:
        run_id = await started(node, "event")
        await node.skip_step(run_id, "wait", {"by": "Ada"})
        await node.send([{"name": "approved", "data": {"by": "Bob"}}])
        await clock.advance("2d")
        assert await output(node, run_id) == ["approved", {"by": "Ada"}]
        await sound(node)


async def test_refusals_say_why() -> None:
    gate = Gate()
    app = waiting_app()

    @app.function("busy", trigger="busy")
    async def busy(ctx: Context) -> str:
        return await step.run("held", gate.enter, "held")

    async with running(app) as node:
        with pytest.raises(NotFoundError):
            await node.skip_step(UNKNOWN, "wait", None)
        with pytest.raises(NotFoundError):
            await node.wake_step(UNKNOWN, "wait")
        asleep, waiting = await started(node, "nap"), await started(node, "event")
        refused = {
            "step_not_found": node.skip_step(asleep, "nothing"),
            "input_fixed": node.skip_step(asleep, "wait", 1),
        }
        for reason, asked in refused.items():
            with pytest.raises(RefusedError) as error:
                await asked
            assert error.value.reason == reason
        with pytest.raises(RefusedError, match="object"):
            await node.skip_step(waiting, "wait", "text")
        await node.skip_step(asleep, "wait")
        await node.settle()
        with pytest.raises(RefusedError) as error:
            await node.wake_step(asleep, "wait")
        assert error.value.reason == "run_ended"
        await node.send([{"name": "busy", "data": {}}])
        await until(lambda: gate.inside == ["held"])
        (run,) = await runs(node, "t-busy")
        # The first attempt of a step has no record before its end.
        with pytest.raises(RefusedError) as error:
            await node.skip_step(run.id, "held")
        assert error.value.reason == "step_not_found"
        await gate.pass_("held")


async def test_skips_beside_each_other_decide_once() -> None:
    async with running(waiting_app()) as node:
        run_id = await started(node, "event")
        outcomes = await asyncio.gather(
            *(node.skip_step(run_id, "wait", {"n": n}) for n in range(5)), return_exceptions=True
        )
        await node.settle()
        assert [type(each) for each in outcomes] == [str, *[RefusedError] * 4]
        assert await output(node, run_id) == ["approved", {"n": 0}]
