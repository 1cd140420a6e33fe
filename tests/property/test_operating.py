"""Whatever is paused, resumed, skipped, woken, done again and registered, in any order: every run ends as it should."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import App, Concurrency, Context, Node, RefusedError, step
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import running, runs, sound

FUNCTIONS = ["t-waits", "t-quick"]
RESULTS = {"t-waits": b"3", "t-quick": b"2"}

order = st.one_of(
    st.tuples(st.sampled_from(["send", "answer", "register"]), st.just("")),
    st.tuples(st.sampled_from(["pause", "resume"]), st.sampled_from(FUNCTIONS)),
    st.tuples(st.just("rerun"), st.sampled_from(["", "a", "nap", "x1", "w2", "b"])),
    st.tuples(st.sampled_from(["skip", "wake"]), st.sampled_from(["nap", "w1", "w2", "x1"])),
    st.tuples(st.just("advance"), st.sampled_from(["1s", "1h"])),
)


def operated() -> App:
    app = App("t")

    @app.function("waits", trigger="go", concurrency=Concurrency(2))
    async def waits(ctx: Context) -> int:
        async def branch(number: int) -> int:
            await step.run(f"x{number}", lambda: number)
            await step.wait_for_event(f"w{number}", event="on", timeout="10s")
            return number

        await step.run("a", lambda: 1)
        await step.sleep("nap", "30m")
        return sum(await asyncio.gather(branch(1), branch(2)))

    @app.function("quick", trigger="go")
    async def quick(ctx: Context) -> int:
        await step.run("a", lambda: 1)
        await asyncio.sleep(0)
        return await step.run("b", lambda: 2)

    return app


async def obey(engine: Node, clock: VirtualClock, app: App, what: str, argument: str) -> None:
    if what in ("send", "answer"):
        await engine.ingest([{"name": "go" if what == "send" else "on"}])
    elif what == "register":
        await engine.register(app)
    elif what == "pause":
        await engine.pause_function(argument)
    elif what == "resume":
        await engine.resume_function(argument)
    elif what == "advance":
        await clock.advance(argument)
    elif what in ("skip", "wake"):
        for run in (await runs(engine, "t-waits"))[-2:]:
            try:
                await (engine.skip_step if what == "skip" else engine.wake_step)(run.id, argument)
            except RefusedError as refused:
                assert refused.reason in ("run_ended", "step_not_found", "step_decided")
    else:
        for run in (await runs(engine))[-1:]:
            try:
                await engine.rerun(run.id, argument or None)
            except RefusedError as refused:
                assert refused.reason in ("step_not_found", "function_paused")


async def play(rounds: list[list[tuple[str, str]]]) -> None:
    clock, app = VirtualClock(), operated()
    async with running(app, clock) as engine:
        for together in rounds:
            await asyncio.gather(*(obey(engine, clock, app, *each) for each in together))
            await sound(engine)
        for function in FUNCTIONS:
            await engine.resume_function(function)
        await engine.drain(20)
        for run in await runs(engine):
            assert (run.status, run.output) == (RunStatus.COMPLETED, RESULTS[run.function_id])
        await sound(engine)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(order, min_size=1, max_size=6), min_size=1, max_size=10))
def test_every_run_ends(rounds: list[list[tuple[str, str]]]) -> None:
    asyncio.run(play(rounds))
