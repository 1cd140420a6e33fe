"""New code while runs are in flight: they go on with it, by the ids of their steps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import App, Context, embedded, step
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock, in_memory


def greeter(greeting: str, done: list[str], *, gate: asyncio.Event | None = None, before: str | None = None) -> App:
    """Two steps around a sleep; what they do is noted with the version that did it."""
    app = App("greeter")

    async def note(name: str) -> str:
        if gate is not None:
            await gate.wait()
        done.append(f"{greeting} {name}")
        return name

    @app.function("greet", trigger="greeter/hello")
    async def greet(ctx: Context) -> str:
        if before is not None:
            await step.run(before, note, before)
        first = await step.run("first", note, "first")
        await step.sleep("a day", "1d")
        second = await step.run("second", note, "second")
        return f"{greeting} {first} {second}"

    return app


async def test_a_sleeping_run_goes_on_with_the_new_code() -> None:
    done: list[str] = []
    async with in_memory(greeter("old", done)) as engine:
        run = await engine.trigger("greeter-greet")
        await engine.settle()
        await engine.register(greeter("new", done))
        await engine.drain()
        assert await run.result() == "new first second"
    assert done == ["old first", "new second"]


async def test_a_step_that_executes_is_finished_and_kept() -> None:
    done: list[str] = []
    gate = asyncio.Event()
    async with in_memory(greeter("old", done, gate=gate)) as engine:
        run = await engine.trigger("greeter-greet")
        async with asyncio.timeout(30):
            # The step waits at the gate.
            while not gate._waiters:
                await asyncio.sleep(0.001)
        await engine.register(greeter("new", done))
        gate.set()
        await engine.drain()
        assert await run.result() == "new first second"
    assert done == ["old first", "new second"]


async def test_a_step_that_new_code_adds_in_front_is_done() -> None:
    done: list[str] = []
    async with in_memory(greeter("old", done)) as engine:
        run = await engine.trigger("greeter-greet")
        await engine.settle()
        await engine.register(greeter("new", done, before="zeroth"))
        await engine.drain()
        assert await run.result() == "new first second"
    assert done == ["old first", "new zeroth", "new second"]


MOMENTS = [0, 1, 2, 3, 5, 8, 12, 20]
"""Turns of the loop after which something comes between: the sleep is about to be, being, or has been committed."""


async def _pass(moment: int) -> None:
    for _ in range(moment):
        await asyncio.sleep(0.0002)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_new_code_at_any_moment(tmp_path: Path, moment: int) -> None:
    done: list[str] = []
    async with embedded(greeter("old", done), db=tmp_path / "db", clock=VirtualClock()) as engine:
        run = await engine.trigger("greeter-greet")
        await _pass(moment)
        await engine.register(greeter("new", done))
        await engine.drain()
        assert await run.result() == "new first second"
    assert [line.split()[1] for line in done] == ["first", "second"]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_stopping_at_any_moment_does_not_wait_for_who_waits(tmp_path: Path, moment: int) -> None:
    loop, done = asyncio.get_running_loop(), list[str]()
    async with embedded(greeter("old", done), db=tmp_path / "db", clock=VirtualClock(), shutdown_timeout=20) as engine:
        await engine.trigger("greeter-greet")
        await _pass(moment)
        started = loop.time()
    assert loop.time() - started < 10
    async with embedded(greeter("new", done), db=tmp_path / "db", clock=VirtualClock()) as engine:
        await engine.drain()
        assert (await engine.health()).runs == {RunStatus.COMPLETED: 1}
    assert [line.split()[1] for line in done] == ["first", "second"]


async def test_a_function_that_is_gone_and_comes_back() -> None:
    done: list[str] = []
    async with in_memory(greeter("old", done)) as engine:
        run = await engine.trigger("greeter-greet")
        await engine.settle()
        await engine.register(App("greeter"))
        await engine.drain()
        assert (await run.status()).name == "RUNNING"
        assert (await engine.health()).unregistered == {"greeter-greet": 1}
        await engine.register(greeter("new", done))
        await engine.drain()
        assert await run.result() == "new first second"


async def test_work_arriving_with_a_registration_is_not_stranded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue knows the new function before the runner has its code: a start in between must not be lost."""
    done: list[str] = []
    async with embedded(App("greeter"), db=tmp_path / "db", clock=VirtualClock()) as engine:
        real = engine.register_configs

        async def and_an_event(*args: object) -> None:
            await real(*args)  # type: ignore[arg-type]
            await engine.ingest([{"name": "greeter/hello", "data": {}}])

        monkeypatch.setattr(engine, "register_configs", and_an_event)
        await engine.register(greeter("new", done))
        await engine.drain()
    assert done == ["new first", "new second"]
