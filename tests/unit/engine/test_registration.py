"""Registration and hot reload: in-flight runs go on with the new code, by step id."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import App, Concurrency, ConfigError, Context, Cron, Node, step
from perdure.engine import reads
from perdure.engine.mutations import PutFunction
from perdure.engine.turn import Decision, Turn
from perdure.model.records import FunctionRow, JobState
from perdure.testing import VirtualClock
from tests.unit.engine.harness import Gate, crashed, job, recorded, running, runs, sound, statuses, turns, until


def version(*parts: str, result: str, log: list[str], gate: Gate | None = None) -> App:
    """A function of these parts: "nap 1h" sleeps, "wait" waits for `on`, "gate" is held open, others are steps."""
    app = App("t")

    async def work(name: str) -> str:
        log.append(name)
        return name

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> str:
        for part in parts:
            if part.startswith("nap"):
                await step.sleep("nap", part.removeprefix("nap "))
            elif part == "wait":
                await step.wait_for_event("wait", event="on", timeout="1d")
            elif part == "gate" and gate is not None:
                await step.run("gate", gate.enter, result)
            else:
                await step.run(part, work, part)
        return result

    return app


async def functions(node: Node) -> dict[str, FunctionRow]:
    return {row.id: row for row in await node.view(reads.functions)}


@pytest.mark.parametrize("pause", ["nap 5s", "nap 30d", "wait"])
@pytest.mark.parametrize(
    ("new", "done"),
    [
        (["a", "{pause}", "b"], ["a", "b"]),
        (["zero", "a", "{pause}", "b"], ["a", "zero", "b"]),
        (["a", "{pause}", "extra", "b"], ["a", "extra", "b"]),
        (["{pause}", "b"], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        (["b"], ["a", "b"]),
    ],
)
async def test_a_run_in_flight_goes_on_with_the_new_code_by_step_id(
    pause: str, new: list[str], done: list[str]
) -> None:
    log = list[str]()
    old = version("a", pause, "b", result="old", log=log)
    async with running(old) as engine:
        run = await engine.trigger("t-f")
        await engine.settle()
        await engine.register(version(*(part.format(pause=pause) for part in new), result="new", log=log))
        await engine.settle()
        if pause == "wait":
            await engine.ingest([{"name": "on"}])
        await engine.drain()
        # Where the step for which the run waits is gone, its timer still wakes the run.
        assert await run.result() == "new"
        await sound(engine)
    assert log == done


async def test_a_step_that_executes_ends_under_the_old_code_and_the_next_is_of_the_new() -> None:
    log, gate = list[str](), Gate()
    old = version("a", "gate", "b", result="old", log=log, gate=gate)
    async with running(old) as engine:
        run = await engine.trigger("t-f")
        await gate.waits("old")
        await engine.register(version("a", "gate", "c", result="new", log=log, gate=gate))
        await gate.pass_("old")
        assert await run.result(timeout=5) == "new"
    assert log == ["a", "c"] and gate.entered == ["old"]


async def test_a_run_that_parks_while_it_is_replaced_does_not_keep_the_old_code() -> None:
    log, gate = list[str](), Gate()

    def build(result: str) -> App:
        app = App("t")

        @app.function("f")
        async def f(ctx: Context) -> str:
            async def branch() -> None:
                await step.run("gate", gate.enter, "gate")
                await step.wait_for_event("later", event="on", timeout="1d")

            await asyncio.gather(branch(), step.wait_for_event("wait", event="on", timeout="1d"))
            log.append(result)
            return result

        return app

    async with running(build("old")) as engine:
        run = await engine.trigger("t-f")
        await gate.waits("gate")
        await engine.register(build("new"))
        await gate.pass_("gate")
        await engine.settle()
        await engine.ingest([{"name": "on"}])
        assert await run.result(timeout=5) == "new"
    assert log == ["new"]


@pytest.mark.parametrize("concurrency", [None, 1, 2])
async def test_a_branch_begins_no_step_of_the_old_code_while_another_ends_its_own(concurrency: int | None) -> None:
    gate, log = Gate(), list[str]()

    def build(result: str) -> App:
        app = App("t")

        @app.function("f", concurrency=concurrency)
        async def f(ctx: Context) -> str:
            async def branch(name: str) -> None:
                await step.run(f"{name}1", gate.enter, f"{name}1")
                await step.run(f"{name}2", log.append, f"{name}2 {result}")

            await asyncio.gather(branch("a"), branch("b"))
            return result

        return app

    async with running(build("old")) as engine:
        run = await engine.trigger("t-f")
        await gate.waits(*["a1", "b1"][:concurrency])
        await engine.register(build("new"))
        await gate.pass_("a1")
        if concurrency != 1:
            await gate.waits("b1")
        assert log == []
        await gate.pass_("b1")
        assert await run.result(timeout=5) == "new"
    assert sorted(log) == ["a2 new", "b2 new"]


async def test_the_new_code_holds_after_a_restart_too(tmp_path: Path) -> None:
    clock, log = VirtualClock(), list[str]()
    async with running(version("a", "nap 1h", "b", result="old", log=log), clock, tmp_path / "db") as engine:
        await engine.trigger("t-f")
        await engine.settle()
    async with running(version("new", "a", "nap 1h", "c", result="new", log=log), clock, tmp_path / "db") as engine:
        await engine.drain()
        assert [run.output for run in await runs(engine)] == [b'"new"']
    assert log == ["a", "new", "c"]


async def test_versions_count_changes_of_the_configuration_only() -> None:
    app, same, other = (App("t") for _ in range(3))
    for each, retries in ((app, 1), (same, 1), (other, 2)):

        @each.function("f", trigger="go", retries=retries)
        async def f(ctx: Context) -> None: ...

    async with running(app) as engine:
        assert (await functions(engine))["t-f"].version == 1
        await engine.register(same)
        assert (await functions(engine))["t-f"].version == 1
        await engine.register(other)
        assert (await functions(engine))["t-f"].version == 2
        run = await engine.trigger("t-f")
        await engine.settle()
        assert (await runs(engine))[0].function_version == 2
        assert await run.status()


async def test_runs_of_an_archived_function_wait_until_it_is_back(tmp_path: Path) -> None:
    clock, log = VirtualClock(), list[str]()
    async with running(version("a", "nap 1h", "b", result="x", log=log), clock, tmp_path / "db") as engine:
        await engine.trigger("t-f")
        await engine.settle()
        await engine.register(App("t"))
        assert (await functions(engine))["t-f"].archived_at is not None
        await engine.ingest([{"name": "go"}])
        await clock.advance("2h")
        assert await statuses(engine) == ["RUNNING"], "it starts no runs, and its own one waits"
        health = await engine.health()
        assert health.unregistered == {"t-f": 1} and health.orphans == []
        held = await job(engine, (await runs(engine))[0].id)
        assert held is not None and held.state == JobState.BLOCKED
        await engine.register(version("a", "nap 1h", "c", result="y", log=log))
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]
    assert log == ["a", "c"]


async def test_functions_of_other_apps_stay() -> None:
    one, two = App("one"), App("two")

    @one.function("f", trigger="go")
    async def f(ctx: Context) -> None: ...

    @two.function("f", trigger="go")
    async def g(ctx: Context) -> None: ...

    async with running([one, two]) as engine:
        await engine.register(App("two"))
        await engine.ingest([{"name": "go"}])
        await engine.settle()
        assert [run.function_id for run in await runs(engine)] == ["one-f"]


async def test_a_paused_function_skips_events_and_rests(tmp_path: Path) -> None:
    clock, log, db = VirtualClock(), list[str](), tmp_path / "db"

    def build() -> App:
        app = version("a", "nap 1h", "b", result="x", log=log)

        @app.function("tick", trigger=Cron("* * * * *"))
        async def tick(ctx: Context) -> None:
            log.append("tick")

        return app

    async with running(build(), clock, db) as engine:
        await engine.trigger("t-f")
        await engine.settle()

        def pause(turn: Turn) -> Decision[None]:
            for row in (yield from reads.functions()):
                row.paused_at = turn.now
                yield PutFunction(*msgspec.structs.astuple(row))

        await engine.decide(pause)
    log.clear()
    async with running(build(), clock, db) as engine:
        await engine.ingest([{"name": "go"}])
        await clock.advance("2h")
        assert await statuses(engine) == ["RUNNING"] and log == []
        await sound(engine)


async def test_an_app_with_a_fault_is_refused_and_changes_nothing() -> None:
    app = App("t")

    @app.function("f", trigger="go")
    async def f(ctx: Context) -> None: ...

    async with running(app) as engine:
        config = app.functions["t-f"].config
        wrong = msgspec.structs.replace(config, concurrency=(Concurrency(1, key="event.data."),))
        with pytest.raises(ConfigError, match=r"concurrency\[0\].key"):
            await engine.register_configs("t", [wrong])
        assert (await functions(engine))["t-f"].version == 1
        await engine.ingest([{"name": "go"}])
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]


async def test_a_process_that_lost_its_lease_records_nothing_more(tmp_path: Path) -> None:
    """The first engine goes on over its copy of the file; what it does there is not what the second one sees."""
    clock, first, second = VirtualClock(), Gate(), Gate()
    old = version("gate", result="old", log=[], gate=first)
    async with running(old, clock, tmp_path / "db") as engine:
        run = await engine.trigger("t-f")
        await first.waits("old")
        copy = crashed(tmp_path / "db")
        new = version("gate", result="new", log=[], gate=second)
        async with running(new, clock, copy) as revived:
            await second.waits("new")
            await first.pass_("old")
            assert await run.result(timeout=5) == "old"
            await turns()
            assert await statuses(revived) == ["RUNNING"]
            await second.pass_("new")
            await recorded(revived, run.run_id, "gate")
            await until(lambda: not second.inside)
            await revived.settle()
            assert [found.output for found in await runs(revived)] == [b'"new"']


async def test_options_of_a_function_may_change_while_its_runs_wait() -> None:
    gates: dict[str, Gate] = {"t": Gate()}

    def build(**options: Any) -> App:
        app = App("t")

        @app.function("f", trigger="go", **options)
        async def f(ctx: Context) -> None:
            await step.run("work", gates["t"].enter, ctx.event.data["name"])

        return app

    app = build(concurrency=1)
    async with running(app) as engine:
        await engine.ingest([{"name": "go", "data": {"name": name}} for name in "abc"])
        await gates["t"].waits("a")
        await engine.register(build(concurrency=Concurrency(2, key="'k'", scope="env")))
        await gates["t"].pass_("a")
        # Those scheduled under the old rule wait for nobody any more.
        await gates["t"].waits("b", "c")
        await gates["t"].pass_("b", "c")
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 3
        await sound(engine)
