"""Batching: events collected into one run, by count, time or size (D.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from perdure import App, BatchEvents, Context, step
from perdure.engine import views
from perdure.testing import VirtualClock
from tests.unit.engine.harness import ask, detail, running, runs, sound, statuses


def batching(batch: BatchEvents, **options: Any) -> App:
    app = App("t")

    @app.function("f", trigger="go", batch_events=batch, **options)
    async def f(ctx: Context) -> list[Any]:
        assert ctx.event == ctx.events[0]
        return [event.data["n"] for event in ctx.events]

    return app


def go(*numbers: int, **data: Any) -> list[dict[str, Any]]:
    return [{"name": "go", "data": {"n": number, **data}} for number in numbers]


async def results(engine: Any) -> list[Any]:
    return [msgspec.json.decode(run.output or b"null") for run in await runs(engine, "t-f")]


async def test_a_full_batch_runs_at_once_in_the_order_of_arrival() -> None:
    app = batching(BatchEvents(3, "60s"))
    async with running(app) as engine:
        await app.send(go(*range(8)))
        await engine.settle()
        assert await results(engine) == [[0, 1, 2], [3, 4, 5]]
        await engine.drain()
        assert await results(engine) == [[0, 1, 2], [3, 4, 5], [6, 7]]
        await sound(engine)


async def test_the_timeout_counts_from_the_first_event() -> None:
    clock = VirtualClock()
    begin = clock.now()
    app = batching(BatchEvents(10, "10s"))
    async with running(app, clock) as engine:
        for number in range(3):
            await app.send(go(number))
            await clock.advance("4s")
        await app.send(go(9))
        await engine.drain()
        assert await results(engine) == [[0, 1, 2], [9]]
        assert [run.created_at - begin for run in await runs(engine)] == [10_000, 22_000]


async def test_ten_mebibytes_fill_a_batch() -> None:
    app = batching(BatchEvents(100, "60s"))
    async with running(app) as engine:
        for number in range(5):
            await app.send(go(number, text="x" * 2_500_000))
        await engine.settle()
        assert await results(engine) == [[0, 1, 2, 3, 4]], "the fifth makes it more than 10 MiB"
        await app.send(go(5))
        await engine.drain()
        assert await results(engine) == [[0, 1, 2, 3, 4], [5]]


async def test_each_key_has_its_batch() -> None:
    app = batching(BatchEvents(2, "60s", key="event.data.user"))
    async with running(app) as engine:
        await app.send(go(1, user="a") + go(2, user="b") + go(3, user="a") + go(4) + go(5, user=None))
        await engine.settle()
        assert await results(engine) == [[1, 3], [4, 5]]
        await engine.drain()
        assert await results(engine) == [[1, 3], [4, 5], [2]]


async def test_events_for_which_the_condition_is_false_or_undefined_run_alone_at_once() -> None:
    app = batching(BatchEvents(10, "60s", if_="event.data.bulk"))
    async with running(app) as engine:
        await app.send(go(1, bulk=True) + go(2, bulk=False) + go(3) + go(4, bulk=True) + go(5, bulk=None))
        await engine.settle()
        assert await results(engine) == [[2], [3], [5]]
        await engine.drain()
        assert await results(engine) == [[2], [3], [5], [1, 4]]


async def test_an_event_is_in_a_batch_once() -> None:
    app = batching(BatchEvents(3, "60s"))
    async with running(app) as engine:
        await app.send([{"name": "go", "id": "one", "data": {"n": 1}}] * 5 + go(2))
        seed = (1_700_000_000_000, b"0123456789")
        for _ in range(3):  # a sender that repeats its request
            await engine.ingest(go(3), seed=seed)
        await engine.drain()
        assert await results(engine) == [[1, 2, 3]]


async def test_every_event_of_a_batch_leads_to_its_run() -> None:
    app = batching(BatchEvents(2, "60s"))
    async with running(app) as engine:
        ids = await app.send(go(1, 2))
        await engine.settle()
        (run,) = await runs(engine)
        for internal_id in ids:
            found = await engine.view(lambda internal_id=internal_id: views.runs_of_event(internal_id))  # type: ignore[misc]
            assert [each.id for each in found] == [run.id]
        assert run.batch_id is not None
        assert (await detail(engine, run.id)).event_ids == ids


async def test_a_batch_survives_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    app = batching(BatchEvents(3, "60s"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(1))
        await engine.settle()
    app = batching(BatchEvents(3, "60s"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(2))
        await engine.drain()
        assert await results(engine) == [[1, 2]]
        assert await ask(engine, "batch_items", "batch:t-f:") == []


async def test_an_invoked_batch_function_runs_alone() -> None:
    app = batching(BatchEvents(3, "60s"))

    @app.function("parent")
    async def parent(ctx: Context) -> Any:
        return await step.invoke("call", "t-f", data={"n": 7})

    async with running(app) as engine:
        await app.send(go(1))
        run = await engine.trigger(parent)
        await engine.settle()
        assert await run.result() == [7]


async def test_a_replayed_batch_sees_its_events_in_the_same_order() -> None:
    app = App("t")

    @app.function("f", trigger="go", batch_events=BatchEvents(50, "60s"))
    async def f(ctx: Context) -> bool:
        first = [event.data["n"] for event in ctx.events]
        recorded = await step.run("look", lambda: first)
        await step.sleep("nap", "1d")
        return recorded == first == list(range(50))

    async with running(app) as engine:
        await app.send(go(*range(50)))
        await engine.drain()
        assert await results(engine) == [True]


async def test_a_batch_of_a_function_that_was_archived_meanwhile_is_not_left_behind(tmp_path: Path) -> None:
    clock = VirtualClock()
    app = batching(BatchEvents(3, "60s"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(1))
        await engine.settle()
    async with running(App("t"), clock, tmp_path / "db") as engine:
        await clock.advance("2m")
        await engine.drain()
    app = batching(BatchEvents(3, "60s"))
    async with running(app, clock, tmp_path / "db") as engine:
        await app.send(go(2))
        await engine.drain()
        assert await statuses(engine) == ["COMPLETED"] * 2
        assert [number for numbers in await results(engine) for number in numbers] == [1, 2], (
            "an accepted event is not lost"
        )
