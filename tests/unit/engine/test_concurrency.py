"""Concurrency: what executes at once, who waits for whom, and that no slot is ever lost (D.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import App, Concurrency, Context, Throttle, step
from perdure.model.records import JobState
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, ask, crashed, job, running, runs, sound, statuses, turns, until


def gated(gate: Gate, app_id: str = "t", **options: Any) -> App:
    """A function of one step, which the gate holds open under the name in the event."""
    app = App(app_id)

    @app.function("f", trigger="go", **options)
    async def f(ctx: Context) -> str:
        return await step.run("work", gate.enter, ctx.event.data["name"])

    return app


def go(*names: str, event: str = "go", **data: Any) -> list[dict[str, Any]]:
    return [{"name": event, "data": {"name": name, **data}} for name in names]


async def test_at_most_so_many_steps_execute_and_the_others_wait_in_their_order() -> None:
    gate = Gate()
    app = gated(gate, concurrency=2)
    async with running(app) as engine:
        await app.send(go("a", "b", "c", "d", "e"))
        await gate.waits("a", "b")
        await gate.pass_("b")
        await gate.waits("a", "c")
        await gate.pass_("a", "c")
        await gate.waits("d", "e")
        await gate.pass_("d", "e")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 5
        await sound(engine)
        assert await ask(engine, "leaked_slots", 10) == []
    assert gate.entered == ["a", "b", "c", "d", "e"]
    assert gate.most == 2


async def test_a_limit_by_key_counts_each_value_for_itself() -> None:
    gate = Gate()
    app = gated(gate, concurrency=Concurrency(1, key="event.data.user"))
    async with running(app) as engine:
        await app.send(go("a1", "a2", user="a") + go("b1", "b2", user="b"))
        await gate.waits("a1", "b1")
        await gate.pass_("a1")
        await gate.waits("a2", "b1")
        await gate.pass_("b1")
        await gate.pass_("a2", "b2")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 4


async def test_two_limits_must_both_have_room() -> None:
    gate = Gate()
    app = gated(gate, concurrency=[Concurrency(3), Concurrency(1, key="event.data.user")])
    async with running(app) as engine:
        await app.send(go("a1", "a2", user="a") + go("b1", user="b") + go("c1", user="c") + go("d1", user="d"))
        await gate.waits("a1", "b1", "c1")
        await gate.pass_("b1")
        await gate.waits("a1", "c1", "d1")
        await gate.pass_("a1")
        await gate.waits("a2", "c1", "d1")
        await gate.pass_("a2", "c1", "d1")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 5


async def test_a_limit_of_none_before_another_is_told_apart_from_it() -> None:
    gate = Gate()
    app = gated(gate, concurrency=[Concurrency(0), Concurrency(1, key="event.data.user")])
    async with running(app) as engine:
        await app.send(go("a1", "a2", user="a"))
        await gate.waits("a1")
        await gate.pass_("a1", "a2")
        await engine.settle()


async def test_a_sleeping_or_waiting_run_holds_nothing() -> None:
    gate, app = Gate(), App("t")

    @app.function("f", trigger="go", concurrency=1)
    async def f(ctx: Context) -> None:
        await step.run("first", gate.enter, ctx.event.data["name"])
        await step.sleep("nap", "1d")
        await step.wait_for_event("wait", event="on", timeout="1d")

    async with running(app) as engine:
        await app.send(go("a", "b", "c"))
        await gate.pass_("a", "b", "c")
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"] * 3
        assert await ask(engine, "slots_taken", "fn:t-f:0:", "") == [(0,)]
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 3
    assert gate.most == 1


async def test_a_step_that_waits_for_its_retry_holds_nothing() -> None:
    app, log = App("t"), list[str]()

    async def attempt(name: str) -> None:
        log.append(name)
        if log.count(name) == 1:
            raise ValueError(name)

    @app.function("f", trigger="go", concurrency=1)
    async def f(ctx: Context) -> None:
        await step.run("work", attempt, ctx.event.data["name"])

    async with running(app) as engine:
        await app.send(go("a", "b"))
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 2
    assert log[:2] == ["a", "b"]


async def test_hold_run_keeps_the_slot_while_the_run_sleeps() -> None:
    clock, app, log = VirtualClock(), App("t"), list[tuple[str, int]]()
    start = clock.now()

    @app.function("f", trigger="go", concurrency=Concurrency(1, hold="run"), retries=1)
    async def f(ctx: Context) -> None:
        log.append((ctx.event.data["name"], clock.now() - start))
        await step.sleep("nap", "1h")
        if ctx.event.data["name"] == "fails":
            raise ValueError("no")

    async with running(app, clock) as engine:
        await app.send(go("a", "fails", "c"))
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED", "FAILED", "COMPLETED"]
        await sound(engine)
    begun = {name: at for name, at in reversed(log)}
    # The failing one sleeps for an hour, and retries its handler once after 15 s, all of it under its slot.
    assert begun == {"a": 0, "fails": 3_600_000, "c": 2 * 3_600_000 + 15_000}


@pytest.mark.parametrize("scope", ["env", "account"])
async def test_a_shared_limit_counts_the_functions_of_all_apps_together(scope: Any) -> None:
    gate = Gate()
    rule = Concurrency(1, key="'gpu'", scope=scope)
    apps = [gated(gate, "one", concurrency=rule), gated(gate, "two", concurrency=rule)]
    async with running(apps) as engine:
        await apps[0].send(go("a"))
        await until(lambda: bool(gate.inside))
        await turns()
        assert len(gate.inside) == 1
        await gate.pass_("a")
        await gate.pass_("a")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 2
    assert gate.most == 1


async def test_functions_that_share_a_key_under_different_limits_do_not_strand_each_other() -> None:
    gate, app = Gate(), App("t")

    @app.function("narrow", trigger="narrow", concurrency=Concurrency(1, key="'gpu'", scope="env"))
    async def narrow(ctx: Context) -> None:
        await step.run("work", gate.enter, ctx.event.data["name"])

    @app.function("wide", trigger="wide", concurrency=Concurrency(3, key="'gpu'", scope="env"))
    async def wide(ctx: Context) -> None:
        await step.run("work", gate.enter, ctx.event.data["name"])

    async with running(app) as engine:
        await app.send(go("w1", "w2", "w3", event="wide"))
        await gate.waits("w1", "w2", "w3")
        await app.send(go("n1", event="narrow") + go("w4", event="wide"))
        await gate.pass_("w1")
        await gate.waits("w2", "w3", "w4")  # n1 is first in line, but has no room
        await gate.pass_("w2", "w3", "w4")
        await gate.waits("n1")
        await app.send(go("w5", "w6", "w7", event="wide"))
        await gate.waits("n1", "w5", "w6")
        await gate.pass_("n1")
        await gate.waits("w5", "w6", "w7")
        await gate.pass_("w5", "w6", "w7")
        await engine.settle()
        await sound(engine)


@pytest.mark.parametrize("ending", ["cancel", "failure"])
async def test_slots_are_freed_when_their_run_is_cancelled_or_fails(ending: str) -> None:
    gate, app = Gate(), App("t")

    @app.function("f", trigger="go", concurrency=Concurrency(1, hold="run"), retries=0)
    async def f(ctx: Context) -> None:
        await step.run("work", gate.enter, ctx.event.data["name"])
        raise ValueError("no")

    async with running(app) as engine:
        await app.send(go("a", "b"))
        await gate.waits("a")
        if ending == "cancel":
            await engine.cancel((await runs(engine))[0].id)
        else:
            await gate.pass_("a")
        await gate.waits("b")
        await gate.pass_("b")
        await engine.settle()
        await sound(engine)
        assert await ask(engine, "slots_taken", "fn:t-f:0:", "") == [(0,)]


async def test_a_waiter_that_is_cancelled_passes_its_turn_on() -> None:
    gate = Gate()
    app = gated(gate, concurrency=1)
    async with running(app) as engine:
        await app.send(go("a", "b", "c", "d"))
        await gate.waits("a")
        second, third = (await runs(engine))[1:3]
        await engine.cancel(second.id)
        await gate.waits("a")
        await gate.pass_("a")
        await gate.waits("c")
        await engine.cancel(third.id)
        await gate.waits("d")
        await gate.pass_("d")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED", "CANCELLED", "CANCELLED", "COMPLETED"]
    assert gate.cancelled == ["c"]


async def test_slots_of_a_crashed_process_do_not_leak(tmp_path: Path) -> None:
    gate, clock = Gate(), VirtualClock()
    app = gated(gate, concurrency=1)
    async with running(app, clock, tmp_path / "db", shutdown_timeout=0):
        await app.send(go("a", "b", "c"))
        await gate.waits("a")
        copy = crashed(tmp_path / "db")
        gate.inside.clear()
        second = Gate()
        async with running(gated(second, concurrency=1), clock, copy) as revived:
            await second.waits("a")
            await second.pass_("a")
            await second.waits("b")
            await second.pass_("b", "c")
            await revived.settle()
            assert await statuses(revived) == ["COMPLETED"] * 3
            await sound(revived)
        gate.inside.append("a")
    assert second.most == 1


async def test_a_crashed_run_of_a_function_that_is_gone_gives_back_its_shared_slot(tmp_path: Path) -> None:
    gate, second, clock = Gate(), Gate(), VirtualClock()
    rule = Concurrency(1, key="'gpu'", scope="env")
    apps = [gated(gate, "one", concurrency=rule), gated(gate, "two", concurrency=rule)]
    async with running(apps, clock, tmp_path / "db", shutdown_timeout=0):
        await apps[0].send(go("a"))
        await until(lambda: len(gate.inside) == 1)
        copy = crashed(tmp_path / "db")
    async with running([App("one"), gated(second, "two", concurrency=rule)], clock, copy) as revived:
        await second.waits("a")
        await second.pass_("a")
        await revived.settle()
        assert await statuses(revived, "two-f") == ["COMPLETED"]


@pytest.mark.parametrize("concurrency", [3, 0, None])
async def test_raising_or_removing_a_limit_wakes_who_waits_for_it(concurrency: int | None) -> None:
    gate = Gate()
    app = gated(gate, concurrency=1)
    async with running(app) as engine:
        await app.send(go("a", "b", "c"))
        await gate.waits("a")
        await engine.register(gated(gate, concurrency=concurrency))
        await gate.pass_("a") if "a" in gate.inside else None
        await until(lambda: len(gate.inside) >= 2)
        await turns()
        assert {"b", "c"} <= set(gate.inside)
        await gate.pass_(*gate.inside)
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 3
        await sound(engine)


async def test_lowering_a_limit_lets_those_inside_end_and_wakes_nobody_too_early() -> None:
    gate = Gate()
    app = gated(gate, concurrency=3)
    async with running(app) as engine:
        await app.send(go("a", "b", "c", "d", "e"))
        await gate.waits("a", "b", "c")
        lowered = gated(gate, concurrency=1)
        await engine.register(lowered)
        await turns()
        for name in list(gate.inside):
            await gate.pass_(name)
        for _ in range(2):
            await until(lambda: bool(gate.inside))
            await turns()
            assert len(gate.inside) == 1
            await gate.pass_(*gate.inside)
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 5
        await sound(engine)


async def test_priority_orders_those_who_wait() -> None:
    gate = Gate()
    app = gated(gate, concurrency=1, priority="event.data.rank")
    async with running(app) as engine:
        await app.send(go("running"))
        await gate.waits("running")
        await app.send(go("low", rank=-5) + go("none") + go("high", rank=100))
        for name in ("running", "high", "none", "low"):
            await gate.pass_(name)
        await engine.settle()
    assert gate.entered == ["running", "high", "none", "low"]


async def test_a_run_that_its_throttle_refuses_passes_its_turn_on() -> None:
    gate = Gate()
    app = gated(gate, concurrency=1, throttle=Throttle(1, "1h", key="event.data.user"))
    async with running(app) as engine:
        await app.send(go("a1", "a2", user="a") + go("b1", user="b"))
        await gate.waits("a1")
        await gate.pass_("a1")
        # a2 is next, and must wait for the next hour; the place is b1's.
        await gate.waits("b1")
        await gate.pass_("b1")
        await engine.settle()
        held = await job(engine, (await runs(engine))[1].id)
        assert held is not None and held.state == JobState.BLOCKED and held.blocked_on == "throttle:t-f:a"


async def test_resumed_runs_compete_for_slots_and_all_get_through() -> None:
    app, log = App("t"), list[str]()

    async def work(name: str) -> None:
        log.append(name)

    @app.function("f", trigger="go", concurrency=[Concurrency(2), Concurrency(1, key="event.data.name")])
    async def f(ctx: Context) -> None:
        for number in range(3):
            await step.run("work", work, f"{ctx.event.data['name']}{number}")
            await step.sleep("nap", "1h")

    async with running(app) as engine:
        await app.send(go(*"abcdefgh") * 5)
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 40
        await sound(engine)
    assert len(log) == 120
