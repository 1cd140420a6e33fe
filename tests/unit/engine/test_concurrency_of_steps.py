"""Concurrency counts steps: those that one run executes side by side too, and all of it under load (D.1)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from perdure import App, Concurrency, Context, Throttle, step
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, ask, crashed, running, runs, sound, statuses, turns, until


def fan(gate: Gate, **options: Any) -> App:
    """A function whose run gathers a step for each name."""
    app = App("t")

    @app.function("f", trigger="go", **options)
    async def f(ctx: Context) -> list[str]:
        found = list(await asyncio.gather(*(step.run(name, gate.enter, name) for name in ctx.event.data["names"])))
        await step.wait_for_event("wait", event="on", timeout="1d")
        return found

    return app


async def test_a_limit_counts_the_steps_that_a_run_executes_side_by_side() -> None:
    gate = Gate()
    app = fan(gate, concurrency=2)
    async with running(app) as engine:
        run = await engine.trigger("t-f", {"names": [*"abcd"]})
        await gate.waits("a", "b")
        await gate.pass_("b")
        await gate.waits("a", "c")
        await gate.pass_("c", "a")
        await gate.waits("d")
        await gate.pass_("d")
        await engine.settle()
        assert await ask(engine, "slots_taken", "fn:t-f:0:", "") == [(0,)]
        await app.send({"name": "on"})
        await engine.settle()
        assert await run.result() == [*"abcd"]
        await sound(engine)
    assert gate.most == 2


async def test_further_steps_of_a_run_take_room_only_and_give_it_back() -> None:
    gate = Gate()
    app = fan(gate, concurrency=3)
    async with running(app) as engine:
        await engine.trigger("t-f", {"names": ["a1", "a2"]})
        await gate.waits("a1", "a2")
        await engine.trigger("t-f", {"names": ["b1", "b2"]})
        await engine.trigger("t-f", {"names": ["c1"]})
        await gate.waits("a1", "a2", "b1")
        await sound(engine)
        await gate.pass_("a2")
        await gate.waits("a1", "b1", "c1")
        await gate.pass_("b1")
        await gate.waits("a1", "b2", "c1")
        for run in await runs(engine):
            await engine.cancel(run.id)
        await engine.settle()
        assert await ask(engine, "slots_taken", "fn:t-f:0:", "") == [(0,)]
        await sound(engine)
    assert gate.most == 3


async def test_further_slots_of_a_crashed_process_do_not_leak(tmp_path: Path) -> None:
    gate, second, clock = Gate(), Gate(), VirtualClock()
    async with running(fan(gate, concurrency=2), clock, tmp_path / "db", shutdown_timeout=0) as engine:
        await engine.trigger("t-f", {"names": [*"ab"]})
        await gate.waits("a", "b")
        copy = crashed(tmp_path / "db")
    async with running(fan(second, concurrency=2), clock, copy) as revived:
        await until(lambda: len(second.inside) >= 1)
        await turns()
        await second.pass_("a", "b")
        await revived.settle()
        assert await ask(revived, "slots_taken", "fn:t-f:0:", "") == [(0,)]
        await sound(revived)


async def test_a_slot_held_by_a_sleeping_run_survives_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()

    def build() -> App:
        app = App("t")

        @app.function("f", trigger="go", concurrency=Concurrency(1, hold="run"))
        async def f(ctx: Context) -> None:
            await step.sleep("nap", "1h")

        return app

    async with running(build(), clock, tmp_path / "db") as engine:
        await engine.ingest([{"name": "go"}] * 2)
        await engine.settle()
    for minutes, expected in ((30, ["RUNNING", "QUEUED"]), (30, ["COMPLETED", "RUNNING"]), (60, ["COMPLETED"] * 2)):
        async with running(build(), clock, tmp_path / "db") as engine:
            await clock.advance(60 * minutes)
            assert await statuses(engine) == expected
            await sound(engine)


async def test_active_runs_take_turns_and_their_steps_need_not() -> None:
    inside: list[str] = []
    gates = {name: asyncio.Event() for name in ("a", "b", "c")}
    app = App("t")

    @app.function("f", trigger="go", concurrency=Concurrency(1, key="event.data.key", hold="active"))
    async def f(ctx: Context) -> None:
        name: str = ctx.event.data["name"]

        async def work(part: str) -> None:
            inside.append(f"{name}{part}")
            await gates[name].wait()

        await asyncio.gather(step.run("one", work, "1"), step.run("two", work, "2"))
        await step.sleep("nap", "1h")
        inside.append(f"{name}!")

    clock = VirtualClock()
    async with running(app, clock) as engine:
        await engine.ingest([{"name": "go", "data": {"key": "k", "name": name}} for name in "ab"])
        await engine.ingest([{"name": "go", "data": {"key": "other", "name": "c"}}])
        await until(lambda: len(inside) == 4)
        await turns()
        assert sorted(inside) == ["a1", "a2", "c1", "c2"], "b waits, and a does two things at once"
        gates["a"].set()
        await until(lambda: "b2" in inside)
        assert "a!" not in inside, "a rests, and holds nothing"
        gates["b"].set()
        gates["c"].set()
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 3
        assert await ask(engine, "slots_taken", "fn:t-f:0:k", "") == [(0,)]
        await sound(engine)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("db", ["memory", "file"])
async def test_limits_hold_and_all_get_through_under_everything_at_once(seed: int, db: str, tmp_path: Path) -> None:
    chance, inside, most = random.Random(seed), dict[str, int](), dict[str, int]()

    async def work(key: str) -> None:
        inside[key] = inside.get(key, 0) + 1
        most[key] = max(most.get(key, 0), inside[key])
        await turns(chance.randrange(5))
        inside[key] -= 1
        if chance.random() < 0.1:
            raise ValueError(key)

    app = App("t")
    for name, limit in (("narrow", 2), ("wide", 4)):

        @app.function(
            name,
            trigger=name,
            concurrency=[Concurrency(limit, key="event.data.key", scope="env"), Concurrency(6)],
            throttle=Throttle(20, "1s"),
            retries=20,
        )
        async def f(ctx: Context) -> None:
            key, width = ctx.event.data["key"], ctx.event.data["width"]
            for _ in range(2):
                await asyncio.gather(*(step.run("work", work, key) for _ in range(width)))
                await step.sleep("nap", "1h" if width % 2 else "1s")

    path = tmp_path / "db" if db == "file" else ":memory:"
    async with running(app, db=path, max_active=3 if seed == 1 else 1000) as engine:
        for _ in range(5):
            await app.send(
                [
                    {
                        "name": chance.choice(["narrow", "wide"]),
                        "data": {"key": chance.choice("xyz"), "width": chance.randrange(1, 5)},
                    }
                    for _ in range(15)
                ]
            )
        await engine.drain()
        assert set(await statuses(engine)) == {"COMPLETED"}
        await sound(engine)
        for key in "xyz":
            assert await ask(engine, "slots_taken", f"env:{key}", "") == [(0,)]
    assert all(count <= 4 for count in most.values())
