"""Cancellation: by rule, by id, in bulk; whatever the run is doing (D.9)."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perdure import App, CancelOn, Context, RunCancelledError, step
from perdure.model.errors import NotFoundError
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, ask, detail, pauses, running, runs, sound, statuses, turns, until


def sleeping(*rules: CancelOn) -> App:
    app = App("t")

    @app.function("f", trigger="go", cancel_on=list(rules))
    async def f(ctx: Context) -> str:
        await step.sleep("nap", "30d")
        return "done"

    return app


def go(**data: Any) -> dict[str, Any]:
    return {"name": "go", "data": data}


def stop(**data: Any) -> dict[str, Any]:
    return {"name": "stop", "data": data}


@pytest.mark.parametrize(
    ("rule", "hits", "misses"),
    [
        (CancelOn("stop"), [{}], []),
        (CancelOn("stop", match="data.id"), [{"id": 1}], [{"id": 2}, {"id": "1"}, {}]),
        (CancelOn("stop", if_="async.data.id == event.data.id"), [{"id": 1}], [{"id": 2}, {}]),
        (
            CancelOn("stop", if_="event.data.id == async.data.id && async.data.hard"),
            [{"id": 1, "hard": True}],
            [{"id": 1}, {"id": 1, "hard": False}, {"id": 2, "hard": True}],
        ),
        (CancelOn("stop", if_="async.data.n > event.data.id"), [{"n": 2}], [{"n": 1}, {"n": "x"}]),
    ],
)
async def test_a_rule_cancels_on_the_events_that_satisfy_it(
    rule: CancelOn, hits: list[dict[str, Any]], misses: list[dict[str, Any]]
) -> None:
    app = sleeping(rule)
    async with running(app) as engine:
        await app.send(go(id=1))
        await engine.settle()
        for miss in misses:
            await app.send(stop(**miss))
        await app.send(go(id=7))
        await engine.settle()
        assert (await statuses(engine))[0] == "RUNNING"
        for hit in hits:
            await app.send(stop(**hit))
        await engine.settle()
        assert (await statuses(engine))[0] == "CANCELLED"
        await sound(engine)


async def test_a_value_of_any_length_can_be_matched() -> None:
    value = "x" * 100_000
    app = sleeping(CancelOn("stop", match="data.key"))
    async with running(app) as engine:
        await app.send(go(key=value))
        await app.send(stop(key=value + "y"))
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"]
        await app.send(stop(key=value))
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED"]


async def test_any_of_several_rules_cancels_and_nothing_is_left_behind() -> None:
    app = sleeping(CancelOn("stop"), CancelOn("halt", if_="async.data.now"), CancelOn("app/*"))
    async with running(app) as engine:
        await app.send([go(), go()])
        await engine.settle()
        first, second = await runs(engine)
        assert len(await pauses(engine, first.id)) == 3
        await app.send({"name": "halt", "data": {"now": False}})
        assert await statuses(engine) == ["RUNNING"] * 2
        await engine.cancel(first.id)
        await app.send({"name": "app/any.thing"})
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED"] * 2
        for run in (first, second):
            assert await pauses(engine, run.id) == []
            assert await ask(engine, "jobs_of_run", run.id, run.id + "/", 10) == []


async def test_events_from_before_the_run_and_its_own_trigger_do_not_cancel_it() -> None:
    app = App("t")

    @app.function("f", trigger=["go", "stop"], cancel_on=CancelOn("stop"))
    async def f(ctx: Context) -> None:
        await step.sleep("nap", "1d")

    async with running(app) as engine:
        await app.send([stop(n=1), go()])
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"] * 2
        await app.send(stop(n=2))
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED", "CANCELLED", "RUNNING"]


async def test_a_rule_ends_at_its_time() -> None:
    clock = VirtualClock()
    until = datetime.fromtimestamp(clock.now() / 1000 + 3600, UTC).isoformat()
    app = sleeping(CancelOn("stop", until=until))
    async with running(app, clock) as engine:
        await app.send(go())
        await app.send(stop())
        await app.send(go())
        await clock.advance("61m")
        await app.send(go())
        await app.send(stop())
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED", "RUNNING", "RUNNING"]


async def test_a_rule_ends_after_its_timeout() -> None:
    clock = VirtualClock()
    app = sleeping(CancelOn("stop", timeout="1h"))
    async with running(app, clock) as engine:
        await app.send(go())
        await clock.advance("30m")
        await app.send(go())
        await clock.advance("31m")
        await app.send(stop())
        await engine.settle()
        assert await statuses(engine) == ["RUNNING", "CANCELLED"]


async def test_rules_survive_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    app = sleeping(CancelOn("stop", match="data.id"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(id=1))
        await engine.settle()
    app = sleeping(CancelOn("stop", match="data.id"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(stop(id=1))
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED"]


async def test_an_executing_step_is_interrupted_and_what_it_makes_of_it_is_ignored() -> None:
    gate, app, log = Gate(), App("t"), list[str]()

    async def stubborn() -> str:
        try:
            return await gate.enter("work")
        except asyncio.CancelledError:
            log.append("cleaned up")
            return "went on"

    @app.function("f", trigger="go", cancel_on=CancelOn("stop"))
    async def f(ctx: Context) -> None:
        await step.run("work", stubborn)
        log.append("after")

    async with running(app) as engine:
        await app.send(go())
        await gate.waits("work")
        await app.send(stop())
        await turns()
        await engine.settle()
        (run,) = await runs(engine)
        assert RunStatus(run.status) == RunStatus.CANCELLED
        assert (await detail(engine, run.id)).steps == []
    assert log == ["cleaned up"]


@pytest.mark.parametrize("before", ["1s", "1d"])
async def test_a_run_that_waits_in_memory_or_out_of_it_is_cancelled_at_once(before: str) -> None:
    app, cleaned = App("t"), list[str]()

    @app.function("f")
    async def f(ctx: Context) -> None:
        try:
            await step.sleep("nap", before)
        finally:
            cleaned.append("handler left")

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        assert await engine.cancel(run.run_id) == RunStatus.RUNNING
        with pytest.raises(RunCancelledError):
            await run.result()
        assert engine.runner.load == (0, 0)
        assert await engine.cancel(run.run_id) == RunStatus.CANCELLED, "says what it was"
        await engine.drain()
        assert await statuses(engine) == ["CANCELLED"]
    assert cleaned


async def test_a_run_that_has_ended_stays_as_it_is() -> None:
    app = App("t")

    @app.function("f")
    async def f(ctx: Context) -> int:
        return 1

    async with running(app) as engine:
        run = await engine.trigger(f)
        assert await run.result() == 1
        await run.cancel()
        assert await run.status() == RunStatus.COMPLETED
        with pytest.raises(NotFoundError):
            await engine.cancel("01MCC5RM00000000000000000")


async def test_a_cancelled_run_is_not_resumed_by_the_event_that_cancels_it() -> None:
    app = App("t")

    @app.function("f", trigger="go", cancel_on=CancelOn("stop"))
    async def f(ctx: Context) -> None:
        await asyncio.gather(*(step.wait_for_event(f"wait {n}", event="stop", timeout="1d") for n in range(8)))

    async with running(app) as engine:
        await app.send(go())
        await engine.settle()
        await app.send(stop())
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED"]
        await sound(engine)


async def test_one_event_can_cancel_many_runs_and_the_end_is_told() -> None:
    app, told = sleeping(CancelOn("stop")), list[dict[str, Any]]()

    @app.function("watch", trigger="inngest/function.cancelled")
    async def watch(ctx: Context) -> None:
        told.append(ctx.event.data)

    async with running(app) as engine:
        await app.send([go(id=number) for number in range(50)])
        await app.send(stop())
        await engine.settle()
        assert await statuses(engine, "t-f") == ["CANCELLED"] * 50
    assert len({data["run_id"] for data in told}) == 50
    assert all("error" not in data and "result" not in data for data in told)


async def test_in_bulk_by_time_and_condition() -> None:
    clock = VirtualClock()
    app = sleeping()
    async with running(app, clock) as engine:
        for number in range(6):
            await app.send(go(n=number, big=[0] * number))
            await clock.advance("1m")
        begin = (await runs(engine))[0].created_at
        cancelled = await engine.cancel_many(
            "t-f", started_after=begin + 60_000, started_before=begin + 4 * 60_000, if_="event.data.n != 3"
        )
        assert cancelled == 3
        assert [status == "CANCELLED" for status in await statuses(engine)] == [False, True, True, False, True, False]
        assert await engine.cancel_many("t-other") == 0
        assert await engine.cancel_many("t-f") == 3


async def test_more_than_a_page_in_bulk() -> None:
    app = sleeping()
    async with running(app) as engine:
        await app.send([go()] * 1100)
        await engine.settle()
        assert await engine.cancel_many("t-f") == 1100
        assert set(await statuses(engine)) == {"CANCELLED"}
        await sound(engine)


async def test_two_missing_values_do_not_match() -> None:
    app = sleeping(CancelOn("stop", match="data.id"))
    async with running(app) as engine:
        await app.send([go(), go(id=None)])
        await app.send(stop())
        await engine.settle()
        assert (await statuses(engine))[0] == "RUNNING"


async def test_a_plain_step_ends_in_its_thread_and_its_result_is_ignored() -> None:
    app, began, go_on, log = App("t"), threading.Event(), threading.Event(), list[str]()

    def work() -> str:
        began.set()
        go_on.wait(5)
        log.append("worked")
        return "done"

    @app.function("f", concurrency=1)
    async def f(ctx: Context) -> None:
        await step.run("work", work)
        log.append("after")

    async with running(app) as engine:
        run = await engine.trigger(f)
        await until(began.is_set)
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await run.result()
        go_on.set()
        await until(lambda: bool(log))
        await engine.settle()
        assert (await detail(engine, run.run_id)).steps == []
        await sound(engine)
    assert log == ["worked"]


async def test_a_handler_that_will_not_be_cancelled_changes_nothing_any_more() -> None:
    app, log = App("t"), list[str]()

    @app.function("f")
    async def f(ctx: Context) -> str:
        try:
            await step.wait_for_event("wait", event="on", timeout="1h")
        except asyncio.CancelledError:
            log.append("refused")
        try:
            await step.run("more", log.append, "more")
        except asyncio.CancelledError:
            log.append("refused again")
        return "done all the same"

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        await run.cancel()
        await turns()
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED"]
        assert [each.name for each in (await detail(engine, run.run_id)).steps] == ["wait"]
    assert log == ["refused", "refused again"]


async def test_a_run_may_cancel_itself_by_what_it_sends() -> None:
    app, log = App("t"), list[str]()

    @app.function("f", trigger="go", cancel_on=CancelOn("stop"), concurrency=1)
    async def f(ctx: Context) -> None:
        await step.send_event("send", {"name": "stop"})
        await step.run("after", log.append, "after")

    async with running(app) as engine:
        await app.send([go(), go()])
        await engine.settle()
        assert await statuses(engine) == ["CANCELLED"] * 2
        await sound(engine)
    assert log == []
