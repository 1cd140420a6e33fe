"""Lists of runs by whatever they are asked for: each way to find them gives what looking at all of them gives."""

from __future__ import annotations

import itertools

import pytest

from perdure import App, Concurrency, Context, Node, NonRetriableError, Throttle, step
from perdure.engine import observe, views
from perdure.engine.turn import Decision
from perdure.engine.views import Span
from perdure.model.records import Run, RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import running

STATUSES = [
    None,
    [RunStatus.FAILED],
    [RunStatus.CANCELLED, RunStatus.FAILED],
    [RunStatus.QUEUED, RunStatus.RUNNING],
    [RunStatus.COMPLETED],
    [RunStatus.RUNNING, RunStatus.COMPLETED],
    [],
]
FUNCTIONS = [None, ["a-ok"], ["a-ok", "b-bad", "gone"], []]
APPS = [None, ["a"], ["b", "gone"]]


def apps() -> list[App]:
    first, second = App("a"), App("b")

    @first.function("ok", trigger="ok")
    async def ok(ctx: Context) -> int:
        return 1

    @first.function("asleep", trigger="asleep", concurrency=2)
    async def asleep(ctx: Context) -> None:
        await step.sleep("nap", "1d")

    @second.function("bad", trigger="bad", retries=0)
    async def bad(ctx: Context) -> None:
        raise NonRetriableError(f"broken {ctx.event.data['n'] % 2}")

    return [first, second]


async def history(node: Node, clock: VirtualClock) -> list[Run]:
    for n in range(6):
        await node.send([{"name": name, "data": {"n": n}} for name in ("ok", "asleep", "bad")])
        await node.settle()
        await clock.advance("1m")
    every = await node.view(lambda: views.list_runs(100))
    for run in [run for run in every if run.function_id == "a-asleep"][:3]:
        await node.cancel(run.id)
    return await node.view(lambda: views.list_runs(100))


async def test_every_way_finds_what_looking_at_all_runs_finds() -> None:
    clock = VirtualClock()
    async with running(apps(), clock) as node:
        every = await history(node, clock)
        span = Span(every[12].created_at, every[3].created_at)
        for statuses, functions, named, within in itertools.product(STATUSES, FUNCTIONS, APPS, (Span(), span)):

            def listed(limit: int, cursor: str | None, oldest: bool) -> Decision[list[Run]]:
                return views.list_runs(
                    limit, cursor, statuses=statuses, function_ids=functions, app_ids=named, span=within,  # noqa: B023
                    oldest_first=oldest,
                )  # fmt: skip

            wanted = [
                run.id
                for run in every
                if (statuses is None or run.status in statuses)
                and (functions is None or run.function_id in functions)
                and (named is None or run.app_id in named)
                and (within.begin is None or run.created_at >= within.begin)
                and (within.end is None or run.created_at <= within.end)
            ]
            found = await node.view(lambda: listed(100, None, False))
            assert [run.id for run in found] == wanted
            paged: list[str] = []
            while len(paged) < len(wanted):
                cursor = paged[-1] if paged else None
                paged += [run.id for run in await node.view(lambda: listed(3, cursor, False))]  # noqa: B023
            assert paged == wanted
            oldest = await node.view(lambda: listed(100, None, True))
            assert [run.id for run in oldest] == wanted[::-1]


async def test_failures_are_grouped_by_function_and_error() -> None:
    clock = VirtualClock()
    async with running(apps(), clock) as node:
        every = [run for run in await history(node, clock) if run.status == RunStatus.FAILED]
        groups, cursor = await node.view(lambda: observe.failures(100))
        assert cursor is None
        assert [(each.function_id, each.name, each.message, each.count) for each in groups] == [
            ("b-bad", "NonRetriableError", "broken 1", 3),
            ("b-bad", "NonRetriableError", "broken 0", 3),
        ]
        assert sorted(id for each in groups for id in each.run_ids) == sorted(run.id for run in every)
        first, cursor = await node.view(lambda: observe.failures(4))
        second, end = await node.view(lambda: observe.failures(4, cursor))
        assert sum(each.count for each in first) == 4 and sum(each.count for each in second) == 2 and end is None


@pytest.mark.parametrize("function_id", [None, "a-asleep"])
async def test_runs_are_counted_over_time(function_id: str | None) -> None:
    clock = VirtualClock()
    async with running(apps(), clock) as node:
        every = await history(node, clock)
        chosen = [run for run in every if function_id in (None, run.function_id)]
        since = every[-1].created_at
        buckets = await node.view(lambda: observe.series(since, 60_000, function_id))
        assert sum(each.count for each in buckets) == len(chosen)
        assert all(each.at % 60_000 == 0 and each.at + 60_000 > since for each in buckets)
        cancelled = [each for each in buckets if each.status == RunStatus.CANCELLED]
        assert sum(each.count for each in cancelled) == 3


async def test_flow_control_tells_who_holds_and_who_waits() -> None:
    clock = VirtualClock()
    app = App("t")
    limits = [Concurrency(1, key="event.data.who", hold="run"), Concurrency(2, key="'all'", scope="env", hold="run")]

    @app.function("f", trigger="go", concurrency=limits)
    async def f(ctx: Context) -> None:
        await step.sleep("nap", "1d")

    @app.function("slow", trigger="slow", throttle=Throttle(1, "1h"))
    async def slow(ctx: Context) -> None:
        await step.sleep("nap", "1d")

    async with running(app, clock) as node:
        held, throttled = node.catalogue.functions["t-f"], node.catalogue.functions["t-slow"]
        assert await node.view(lambda: observe.flow(held)) == []
        for who in ("ada", "ada", "ada", "bob", "eve"):
            await node.send([{"name": "go", "data": {"who": who}}])
            await node.settle()
        await node.send([{"name": "slow", "data": {}}, {"name": "slow", "data": {}}])
        await node.settle()
        first, *_, bobs, _ = runs = (await node.view(lambda: views.list_runs(10, function_ids=["t-f"])))[::-1]
        keys = {each.key: each for each in await node.view(lambda: observe.flow(held))}
        shared = next(key for key in keys if key.startswith("env:"))
        assert set(keys) == {"fn:t-f:0:ada", "fn:t-f:0:bob", shared}
        assert [each.run_id for each in keys["fn:t-f:0:ada"].holders] == [first.id]
        assert [each.run_id for each in keys["fn:t-f:0:ada"].first] == [run.id for run in runs[1:3]]
        assert [each.since for each in keys["fn:t-f:0:ada"].first] == [run.created_at for run in runs[1:3]]
        assert keys["fn:t-f:0:ada"].waiting == 2 and keys["fn:t-f:0:ada"].limit == 1
        assert {each.run_id for each in keys[shared].holders} == {first.id, bobs.id}
        assert keys[shared].waiting == 1 and keys[shared].limit == 2
        (gate,) = await node.view(lambda: observe.flow(throttled))
        assert (gate.kind, gate.limit, gate.waiting) == ("throttle", 1, 1)
        await node.pause_function("t-f")
        await node.cancel(first.id)
        await node.settle()
        paused = {each.kind: each for each in await node.view(lambda: observe.flow(held))}
        assert paused["paused"].waiting >= 1 and paused["paused"].limit is None


async def test_the_whole_is_told() -> None:
    async with running(App("t"), VirtualClock()) as node:
        whole = await node.view(observe.whole)
        assert len(whole.nodes) == 1 and whole.size > 0 and whole.oldest_ready is None
