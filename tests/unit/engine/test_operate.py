"""Reruns, whole and from a step; functions paused and resumed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    App,
    BatchEvents,
    Concurrency,
    Context,
    Cron,
    Debounce,
    NonRetriableError,
    NotFoundError,
    RateLimit,
    RefusedError,
    Singleton,
    Throttle,
    step,
)
from perdure.engine.retention import Retention
from perdure.model.ids import step_hash
from perdure.model.records import JobState, RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, ask, detail, job, output, running, runs, sound, statuses

UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"


def three(log: list[str], **options: Any) -> App:
    app = App("t")

    async def work(name: str) -> str:
        log.append(name)
        return name

    @app.function("f", trigger="go", **options)
    async def f(ctx: Context) -> list[Any]:
        first = await step.run("a", work, "a")
        await step.sleep("nap", "1h")
        second = await step.run("b", work, "b")
        return [first, second, await step.run("c", work, "c"), ctx.event.data]

    return app


async def only_run(engine: Any) -> str:
    (run,) = await runs(engine)
    return run.id


# Reruns.


async def test_a_rerun_is_a_new_run_of_the_same_event() -> None:
    log = list[str]()
    app = three(log)
    async with running(app) as engine:
        await app.send({"name": "go", "data": {"k": 1}})
        await engine.drain()
        first = await only_run(engine)
        before = await detail(engine, first)
        again = await engine.rerun(first)
        await engine.drain()
        assert await again.result() == ["a", "b", "c", {"k": 1}]
        assert log == ["a", "b", "c"] * 2
        found = await detail(engine, again.run_id)
        assert found.run.original_run_id == first
        assert (found.run.event_id, found.run.batch_id) == (before.run.event_id, None)
        assert await detail(engine, first) == before, "the first stays as it is"
        assert len(await ask(engine, "list_events", "~", 1, None, None, None, 10)) == 1
        await sound(engine)


@pytest.mark.parametrize("by_hash", [False, True])
@pytest.mark.parametrize(
    ("chosen", "done", "naps"),
    [("a", ["a", "b", "c"], True), ("nap", ["b", "c"], True), ("b", ["b", "c"], False), ("c", ["c"], False)],
)
async def test_a_rerun_from_a_step_does_that_step_and_later_ones(
    chosen: str, done: list[str], naps: bool, by_hash: bool
) -> None:
    clock, log = VirtualClock(), list[str]()
    app = three(log)
    async with running(app, clock) as engine:
        await app.send({"name": "go"})
        await engine.drain()
        log.clear()
        began = clock.now()
        again = await engine.rerun(await only_run(engine), step_hash(chosen) if by_hash else chosen)
        await engine.drain()
        assert await again.result() == ["a", "b", "c", {}]
        assert log == done and clock.now() - began == (3_600_000 if naps else 0)
        steps = (await detail(engine, again.run_id)).steps
        assert [(each.name, each.seq) for each in steps] == [("a", 1), ("nap", 2), ("b", 3), ("c", 4)]
        await sound(engine)


async def test_the_first_of_several_steps_of_one_name_is_meant() -> None:
    app, log = App("t"), list[int]()

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> None:
        for number in range(3):
            await step.run("each", log.append, number)

    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        first = await only_run(engine)
        await engine.rerun(first, step_hash("each", 2))
        await engine.settle()
        await engine.rerun(first, "each")
        await engine.settle()
        assert log == [0, 1, 2, 2, 0, 1, 2]


async def test_a_failed_run_goes_on_from_its_failed_step_with_errors_that_were_caught() -> None:
    app, log = App("t"), list[str]()
    broken = True

    async def refuse() -> None:
        log.append("refuse")
        raise NonRetriableError("never")

    async def charge() -> str:
        log.append("charge")
        if broken:
            raise NonRetriableError("no money")
        return "paid"

    @app.function("f", trigger="go", retries=0)
    async def f(ctx: Context) -> str:
        try:
            await step.run("refuse", refuse)
        except Exception as error:
            log.append(type(error).__name__)
        return await step.run("charge", charge)

    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        assert await statuses(engine) == ["FAILED"]
        broken = False
        log.clear()
        again = await engine.rerun(await only_run(engine), "charge")
        assert await again.result(timeout=5) == "paid"
        assert log == ["StepError", "charge"], "a memo that failed raises again, without being done again"


async def test_parallel_branches_are_copied_as_far_as_they_were_recorded() -> None:
    app, log, gate = App("t"), list[str](), Gate()

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> list[str]:
        results = await asyncio.gather(*(step.run(name, gate.enter, name) for name in "xyz"))
        log.append(await step.run("sum", "".join, results))
        return results

    async with running(app) as engine:
        await app.send({"name": "go"})
        await gate.pass_("y", "x", "z")
        await engine.settle()
        assert log == ["xyz"]
        gate.entered.clear()
        again = await engine.rerun(await only_run(engine), "x")
        await gate.pass_("x", "z")
        assert await again.result(timeout=5) == ["x", "y", "z"]
        assert gate.entered == ["x", "z"], "y was recorded before x"


async def test_a_run_in_flight_can_be_done_again_while_it_goes_on() -> None:
    log = list[str]()
    app = three(log)
    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        first = await only_run(engine)
        await engine.rerun(first, "nap")
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED", "COMPLETED"]
        assert sorted(log) == ["a", "b", "b", "c", "c"]


async def test_a_rerun_of_a_batch_has_all_its_events_and_of_a_tick_its_schedule() -> None:
    clock, app = VirtualClock(), App("t")

    @app.function("batch", trigger="go", batch_events=BatchEvents(2, "10s"))
    async def batch(ctx: Context) -> list[int]:
        return [event.data["n"] for event in ctx.events]

    @app.function("tick", trigger=Cron("0 * * * *"))
    async def tick(ctx: Context) -> str:
        return str(ctx.event.data["cron"])

    async with running(app, clock) as engine:
        await app.send([{"name": "go", "data": {"n": 1}}, {"name": "go", "data": {"n": 2}}])
        await clock.advance("61m")
        for run in await runs(engine):
            again = await engine.rerun(run.id)
            await engine.settle()
            found = (await detail(engine, again.run_id)).run
            assert (found.batch_id, found.cron) == (run.batch_id, run.cron)
            assert found.output == run.output and run.output is not None


async def test_what_only_events_pass_does_not_hold_a_rerun_back() -> None:
    app = App("t")

    @app.function("limited", trigger="go", rate_limit=RateLimit(1, "1h"))
    async def limited(ctx: Context) -> None: ...

    @app.function("once", trigger="go", idempotency="event.data.k")
    async def once(ctx: Context) -> None: ...

    @app.function("debounced", trigger="go", debounce=Debounce("10s"))
    async def debounced(ctx: Context) -> None: ...

    async with running(app) as engine:
        await app.send({"name": "go", "data": {"k": 1}, "id": "one"})
        await engine.drain()
        for run in await runs(engine):
            await engine.rerun(run.id)
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 6


async def test_a_rerun_waits_for_room_like_any_run() -> None:
    app, gate = App("t"), Gate()

    @app.function("f", trigger="go", concurrency=Concurrency(1, hold="run"), throttle=Throttle(1, "1h", burst=1))
    async def f(ctx: Context) -> str:
        return await step.run("gate", gate.enter, ctx.run_id)

    async with running(app) as engine:
        await app.send({"name": "go"})
        first = await only_run(engine)
        await gate.waits(first)
        again, third = await engine.rerun(first), await engine.rerun(first)
        blocked = await job(engine, again.run_id)
        assert blocked is not None and blocked.state == JobState.BLOCKED
        await gate.pass_(first, again.run_id)
        assert await again.result(timeout=5) == again.run_id
        await engine.settle()
        held = await job(engine, third.run_id)
        assert held is not None and held.blocked_on == "throttle:t-f:"
        await sound(engine)


async def test_the_run_of_a_singleton_that_is_there_wins() -> None:
    app = App("t")

    @app.function("f", trigger="go", singleton=Singleton())
    async def f(ctx: Context) -> None:
        await step.sleep("nap", "1h")

    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        first = await only_run(engine)
        with pytest.raises(RefusedError) as refused:
            await engine.rerun(first)
        assert refused.value.reason == "skipped"
        await engine.drain()
        await engine.rerun(first)
        await engine.drain()
        assert sorted(await statuses(engine)) == ["COMPLETED", "COMPLETED", "SKIPPED"]


async def test_an_event_of_the_future_does_not_delay_a_rerun() -> None:
    clock, app = VirtualClock(), App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> str:
        return "done"

    async with running(app, clock) as engine:
        await app.send({"name": "go", "ts": clock.now() + 3_600_000})
        await engine.settle()
        first = await only_run(engine)
        await engine.cancel(first)
        assert await (await engine.rerun(first)).result(timeout=5) == "done"


async def test_a_rerun_of_an_invoked_run_answers_nobody() -> None:
    app = App("t")

    @app.function("child")
    async def child(ctx: Context) -> str:
        return "grown"

    @app.function("parent", trigger="go")
    async def parent(ctx: Context) -> Any:
        return await step.invoke("child", child)

    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        (run,) = await runs(engine, "t-child")
        again = await engine.rerun(run.id)
        assert await again.result(timeout=5) == "grown"
        assert (await detail(engine, again.run_id)).run.parent is None
        assert await statuses(engine, "t-parent") == ["COMPLETED"]


async def test_what_cannot_be_done_again_is_refused_and_changes_nothing() -> None:
    log = list[str]()
    app = three(log)
    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.drain()
        first = await only_run(engine)
        with pytest.raises(NotFoundError, match=UNKNOWN):
            await engine.rerun(UNKNOWN)
        with pytest.raises(RefusedError, match="has no step 'zzz'") as refused:
            await engine.rerun(first, "zzz")
        assert refused.value.reason == "step_not_found"
        await engine.pause_function("t-f")
        with pytest.raises(RefusedError, match="paused"):
            await engine.rerun(first)
        await engine.register(App("t"))
        with pytest.raises(RefusedError, match="no app in force") as refused:
            await engine.rerun(first)
        assert refused.value.reason == "unregistered"
        assert await statuses(engine) == ["COMPLETED"]


async def test_copied_steps_keep_their_large_values_when_the_first_run_is_gone(tmp_path: Path) -> None:
    clock, app, large = VirtualClock(), App("t"), "x" * 100_000

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> int:
        value = await step.run("big", lambda: large)
        await step.sleep("nap", "1d")
        return len(value)

    keep = Retention(completed="1h", failed="1h", events="1h")
    async with running(app, clock, tmp_path / "db", retention=keep) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        first = await only_run(engine)
        await clock.advance("12h")
        again = await engine.rerun(first, "nap")
        await engine.cancel(first)
        await clock.advance("4h")
        await engine.sweeper.collect()
        assert [run.id for run in await runs(engine)] == [again.run_id], "the sweep took the first"
        await clock.advance("22h")
        assert await again.result(timeout=5) == 100_000


# Pauses.


async def test_a_paused_function_starts_nothing_and_its_runs_rest_until_it_is_resumed() -> None:
    clock, log = VirtualClock(), list[str]()
    app = three(log)
    async with running(app, clock) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        await engine.pause_function("t-f")
        await app.send({"name": "go", "data": {"lost": True}})
        with pytest.raises(RefusedError) as refused:
            await engine.trigger("t-f")
        assert refused.value.reason == "function_paused"
        await clock.advance("2h")
        held = await job(engine, await only_run(engine))
        assert held is not None and held.state == JobState.BLOCKED and log == ["a"]
        health = await engine.health()
        assert health.paused == ["t-f"] and health.orphans == []
        await engine.resume_function("t-f")
        await engine.settle()
        assert log == ["a", "b", "c"] and await statuses(engine) == ["COMPLETED"]
        assert (await engine.health()).paused == []
        await app.send({"name": "go"})
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED", "COMPLETED"]
        await sound(engine)


async def test_a_step_that_executes_when_its_function_is_paused_ends_and_the_run_goes_on_until_it_waits() -> None:
    app, gate = App("t"), Gate()

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> str:
        await step.run("gate", gate.enter, "gate")
        await step.sleep("nap", "1h")
        return "done"

    async with running(app) as engine:
        await app.send({"name": "go"})
        await gate.waits("gate")
        await engine.pause_function(f)
        await gate.pass_("gate")
        await engine.drain()
        assert await statuses(engine) == ["RUNNING"]
        await engine.resume_function(f)
        await engine.settle()
        assert await output(engine, await only_run(engine)) == "done"


async def test_other_functions_and_limits_are_not_touched() -> None:
    app, gate = App("t"), Gate()

    @app.function("f", trigger="go", concurrency=1)
    async def f(ctx: Context) -> str:
        return await step.run("gate", gate.enter, ctx.run_id)

    @app.function("g", trigger="go")
    async def g(ctx: Context) -> None: ...

    async with running(app) as engine:
        await app.send([{"name": "go"}, {"name": "go"}])
        one, two = (run.id for run in await runs(engine, "t-f"))
        await gate.waits(one)
        await engine.pause_function("t-f")
        await app.send({"name": "go"})
        assert len(await runs(engine, "t-g")) == 3 and len(await runs(engine, "t-f")) == 2
        await engine.resume_function("t-f")
        await gate.waits(one)
        await gate.pass_(one, two)
        await engine.settle()
        assert await statuses(engine, "t-f") == ["COMPLETED"] * 2
        await sound(engine)


async def test_a_pause_holds_over_a_restart_and_over_registration(tmp_path: Path) -> None:
    clock, log, db = VirtualClock(), list[str](), tmp_path / "db"
    async with running(three(log), clock, db) as engine:
        await engine.ingest([{"name": "go"}])
        await engine.settle()
        await engine.pause_function("t-f")
    async with running(three(log, retries=1), clock, db) as engine:
        await engine.ingest([{"name": "go"}])
        await clock.advance("2h")
        assert await statuses(engine) == ["RUNNING"] and log == ["a"]
        await engine.resume_function("t-f")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] and log == ["a", "b", "c"]


async def test_pausing_twice_keeps_the_first_time_and_resuming_twice_is_harmless() -> None:
    clock = VirtualClock()
    async with running(three([]), clock) as engine:
        await engine.pause_function("t-f")
        paused = (await ask(engine, "functions"))[0][-1]
        assert paused == clock.now()
        await clock.advance("1h")
        await engine.pause_function("t-f")
        assert (await ask(engine, "functions"))[0][-1] == paused
        for _ in range(2):
            await engine.resume_function("t-f")
            assert (await ask(engine, "functions"))[0][-1] is None
        for order in (engine.pause_function, engine.resume_function):
            with pytest.raises(NotFoundError, match=r"no function 't-nope'; registered are \['t-f'\]"):
                await order("t-nope")


async def test_pausing_and_registering_at_once_lose_nothing_of_each_other() -> None:
    one, two = three([]), App("two")

    @two.function("g", trigger="go")
    async def g(ctx: Context) -> None: ...

    async with running([one, two]) as engine:
        await asyncio.gather(engine.pause_function("t-f"), engine.register(two), engine.pause_function("two-g"))
        assert {function.id: function.paused for function in engine.catalogue.functions.values()} == {
            "t-f": True,
            "two-g": True,
        }
        await asyncio.gather(engine.resume_function("t-f"), engine.register(one), engine.resume_function("two-g"))
        assert not any(function.paused for function in engine.catalogue.functions.values())


async def test_cancelling_reaches_a_run_that_rests() -> None:
    log = list[str]()
    app = three(log)
    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.settle()
        await engine.pause_function("t-f")
        first = await only_run(engine)
        assert await engine.cancel(first) == RunStatus.RUNNING
        await engine.resume_function("t-f")
        await engine.drain()
        assert await statuses(engine) == ["CANCELLED"] and log == ["a"]
