"""Waits for events: which event ends one, when it times out, and how it is found (C.7)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import App, Context, Event, RunFailedError, step
from perdure.expressions import match_key
from perdure.model.records import StepStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import ask, detail, pauses, running, runs, sound, statuses, step_named


def waiter(timeout: str = "1h", **options: Any) -> App:
    """A function that waits for `go`, and gives the data of what came."""
    app = App("t")

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> Any:
        event = await step.wait_for_event("wait", event="go", timeout=timeout, **options)
        return event.data if event else None

    return app


async def test_an_event_before_the_wait_is_lost_and_the_first_after_it_wins() -> None:
    app = waiter()
    async with running(app) as engine:
        await app.send({"name": "go", "data": {"n": 0}})
        await app.send({"name": "start"})
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"]
        await app.send([{"name": "go", "data": {"n": 1}}, {"name": "go", "data": {"n": 2}}])
        await engine.settle()
        (run,) = await runs(engine)
        assert run.output == b'{"n":1}'
        assert await pauses(engine, run.id) == []
        await sound(engine)


async def test_the_whole_event_comes_back_with_the_id_that_the_sender_gave() -> None:
    app, seen = App("t"), list[Event]()

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> None:
        event = await step.wait_for_event("wait", event="go", timeout="1h")
        assert event is not None
        seen.append(event)

    async with running(app) as engine:
        await app.send({"name": "start"})
        await engine.settle()
        await app.send({"name": "go", "id": "mine", "data": {"a": [1]}, "ts": 1_700_000_000_000, "v": "2"})
        await engine.settle()
    assert seen == [Event("go", {"a": [1]}, "mine", 1_700_000_000_000, None, "2")]


async def test_a_timeout_gives_none_at_its_time_and_survives_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    start = clock.now()
    app = waiter("2h")
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send({"name": "start"})
        await engine.settle()
        await clock.advance("1h")
    app = waiter("2h")
    async with running(app, clock, tmp_path / "db") as engine:
        await clock.jump_to(start + 2 * 3_600_000 - 1)
        assert await statuses(engine) == ["RUNNING"]
        await clock.jump_to(start + 2 * 3_600_000)
        (run,) = await runs(engine)
        assert (run.output, run.ended_at) == (b"null", start + 2 * 3_600_000)
        await app.send({"name": "go"})
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]


async def test_an_event_survives_a_restart_between_the_wait_and_its_end(tmp_path: Path) -> None:
    clock = VirtualClock()
    app = waiter("2h")
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send({"name": "start"})
        await engine.settle()
    app = waiter("2h")
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send({"name": "go", "data": {"n": 7}})
        await engine.settle()
        (run,) = await runs(engine)
        assert run.output == b'{"n":7}'


@pytest.mark.parametrize("timeout", ["367d", "-1s", "soon"])
async def test_a_timeout_that_cannot_be_fails_the_run_at_the_call(timeout: str) -> None:
    app = waiter(timeout)
    async with running(app) as engine:
        await app.send({"name": "start"})
        await engine.settle()
        (run,) = await runs(engine)
        with pytest.raises(RunFailedError, match="step 'wait': timeout"):
            await engine.run(run.id).result()
        assert len((await detail(engine, run.id)).attempts) == 1


async def test_a_timeout_of_nothing_is_over_at_once() -> None:
    app = waiter("0s")
    async with running(app) as engine:
        await app.send({"name": "start"})
        await engine.settle()
        (run,) = await runs(engine)
        assert run.output == b"null"


@pytest.mark.parametrize(
    ("options", "index", "residual"),
    [
        ({}, (None, None), None),
        ({"match": "data.order"}, ("data.order", "s:o1"), '"o1" == async.data.order'),
        ({"if_": "async.data.order == event.data.order"}, ("data.order", "s:o1"), 'async.data.order == "o1"'),
        (
            {"if_": "event.data.order == async.data.order && async.data.sum > event.data.least"},
            ("data.order", "s:o1"),
            '"o1" == async.data.order && async.data.sum > 5',
        ),
        ({"if_": "async.data.sum > event.data.least"}, (None, None), "async.data.sum > 5"),
        ({"if_": "event.data.least == 5"}, (None, None), None),
    ],
)
async def test_a_condition_is_evaluated_in_part_and_its_equality_indexed(
    options: dict[str, str], index: tuple[str | None, str | None], residual: str | None
) -> None:
    app = waiter(**options)
    async with running(app) as engine:
        await app.send({"name": "start", "data": {"order": "o1", "least": 5}})
        await engine.settle()
        (run,) = await runs(engine)
        (pause,) = await pauses(engine, run.id)
        assert (pause.path, pause.value) == index
        assert pause.expression == residual
        await app.send({"name": "go", "data": {"order": "o1", "sum": 6}})
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]


@pytest.mark.parametrize(
    ("if_", "miss"),
    [
        ("event.data.order == async.data.order", {"order": "o2"}),
        ("event.data.order == async.data.order", {}),
        ("async.data.n > 3", {"n": 3}),
        ("async.data.n > 3", {"n": "many"}),
        ("event.data.order == 'o2'", {"order": "o2"}),
        ("async.data.missing == event.data.gone", {}),
    ],
)
async def test_an_event_that_does_not_satisfy_the_condition_ends_nothing(if_: str, miss: dict[str, Any]) -> None:
    app = waiter(if_=if_)
    async with running(app) as engine:
        await app.send({"name": "start", "data": {"order": "o1"}})
        await engine.settle()
        await app.send([{"name": "go", "data": miss}] * 3)
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"]
        await engine.drain()
        (run,) = await runs(engine)
        assert run.output == b"null"


@pytest.mark.parametrize("size", [100, 100_000])
async def test_a_value_of_any_length_can_be_matched(size: int) -> None:
    value = "x" * size
    app = waiter(match="data.key")
    async with running(app) as engine:
        await app.send({"name": "start", "data": {"key": value}})
        await engine.settle()
        await app.send({"name": "go", "data": {"key": value + "y"}})
        await engine.settle()
        assert await statuses(engine) == ["RUNNING"]
        await app.send({"name": "go", "data": {"key": value}})
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]


async def test_a_thousand_waits_are_told_apart_by_the_index() -> None:
    app = waiter(match="data.n")
    async with running(app) as engine:
        await app.send([{"name": "start", "data": {"n": number}} for number in range(1000)])
        await engine.settle()
        assert await ask(engine, "pauses_unindexed", "go") == []
        assert len(await ask(engine, "pauses_indexed", "go", "data.n", match_key(617))) == 1
        await app.send({"name": "go", "data": {"n": 617}})
        await engine.settle()
        ended = [run for run in await runs(engine) if run.ended_at]
        assert [run.output for run in ended] == [b'{"n":617}']
        await app.send([{"name": "go", "data": {"n": number}} for number in range(1000)])
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 1000


async def test_one_event_ends_every_wait_for_it_and_waits_match_wildcards() -> None:
    app = App("t")

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> list[str]:
        events = await asyncio.gather(
            step.wait_for_event("exact", event="shop/order.paid", timeout="1h"),
            step.wait_for_event("dot", event="shop/order.*", timeout="1h"),
            step.wait_for_event("slash", event="shop/*", timeout="1h"),
        )
        return [event.name for event in events if event]

    async with running(app) as engine:
        await app.send([{"name": "start"}, {"name": "start"}])
        await engine.settle()
        await app.send({"name": "shop/order.paid"})
        await engine.settle()
        assert [run.output for run in await runs(engine)] == [
            b'["shop/order.paid"' + b',"shop/order.paid"' * 2 + b"]"
        ] * 2


async def test_a_step_can_send_what_its_own_run_waits_for() -> None:
    app = App("t")

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> Any:
        async def send() -> None:
            await step.sleep("first wait", "1s")
            await step.send_event("send", {"name": "go", "data": {"n": 1}})

        event, _ = await asyncio.gather(step.wait_for_event("wait", event="go", timeout="1h"), send())
        return event.data if event else None

    async with running(app) as engine:
        await app.send({"name": "start"})
        await engine.drain()
        (run,) = await runs(engine)
        assert run.output == b'{"n":1}'


async def test_the_clock_of_the_machine_may_be_set_back_while_a_run_waits(tmp_path: Path) -> None:
    late, early = VirtualClock(1_800_000_000_000), VirtualClock(1_799_999_000_000)
    app = waiter("1d")
    async with running(app, late, tmp_path / "db") as engine:
        await app.send({"name": "start"})
        await engine.settle()
    app = waiter("1d")
    async with running(app, early, tmp_path / "db") as engine:
        await app.send({"name": "go", "data": {}})
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"]


async def test_a_handler_may_return_while_a_wait_is_open() -> None:
    app = App("t")

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> str:
        waiting = asyncio.create_task(step.wait_for_event("wait", event="go", timeout="1h"))
        await step.sleep("nap", "1s")
        assert not waiting.done()
        return "enough"

    async with running(app) as engine:
        await app.send({"name": "start"})
        await engine.settle()
        await engine.drain()
        (run,) = await runs(engine)
        assert run.output == b'"enough"'
        assert await pauses(engine, run.id) == []
        assert await ask(engine, "jobs_of_run", run.id, run.id + "/", 10) == []
        await app.send({"name": "go"})
        await engine.settle()
        assert (await step_named(engine, run.id, "wait")).status == StepStatus.WAITING


async def test_a_handler_may_put_a_time_limit_of_its_own_around_a_wait() -> None:
    app = App("t")

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.02):
                await step.wait_for_event("wait", event="go", timeout="1h")
        except TimeoutError:
            return await step.run("give up", lambda: "gave up")
        return "came"

    async with running(app) as engine:
        run = await engine.trigger(f)
        assert await run.result(timeout=5) == "gave up"
        await sound(engine)


async def test_of_two_waits_the_handler_may_take_the_first() -> None:
    app = App("t")

    @app.function("f", trigger="start")
    async def f(ctx: Context) -> str:
        names = ["go", "stop"]
        tasks = [asyncio.create_task(step.wait_for_event(name, event=name, timeout="1h"), name=name) for name in names]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().get_name()

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.settle()
        await app.send({"name": "stop"})
        await engine.settle()
        assert await run.result() == "stop"
        await sound(engine)
