"""What the engine tells about the ends of runs, `on_failure`, and matching of events (A.6, A.7)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import App, Context, NonRetriableError, on, step
from perdure.engine import views
from perdure.testing import VirtualClock
from tests.unit.engine.harness import detail, running, runs, statuses


def telling(log: list[Any], *, events: str = "inngest/function.*") -> App:
    app = App("t")

    @app.function("f", trigger="go", retries=0)
    async def f(ctx: Context) -> Any:
        if ctx.event.data.get("fails"):
            raise NonRetriableError("boom")
        if ctx.event.data.get("nap"):
            await step.sleep("nap", "1h")
        return {"n": 1}

    @app.function("watch", trigger=events, retries=0)
    async def watch(ctx: Context) -> None:
        log.append(ctx.event)
        raise NonRetriableError("a watcher that fails must not watch itself")

    return app


@pytest.mark.parametrize(
    ("data", "names", "status"),
    [
        ({}, ["inngest/function.finished"], "Completed"),
        ({"fails": True}, ["inngest/function.failed", "inngest/function.finished"], "Failed"),
        ({"nap": True}, ["inngest/function.cancelled", "inngest/function.finished"], "Cancelled"),
    ],
)
async def test_every_end_is_told_once_with_what_the_protocol_says(
    data: dict[str, Any], names: list[str], status: str
) -> None:
    clock, log = VirtualClock(), list[Any]()
    app = telling(log)
    async with running(app, clock) as engine:
        await app.send({"name": "go", "data": data, "id": "mine"})
        await engine.settle()
        (run,) = await runs(engine, "t-f")
        if data.get("nap"):
            await engine.cancel(run.id)
        await engine.drain()
        assert sorted(event.name for event in log) == names
        assert len(await engine.view(lambda: views.list_events(10))) == 1, "internal events are not listed"
        assert len(await engine.view(lambda: views.list_events(10, internal=True))) == 1 + len(names)
    for event in log:
        body = event.data
        assert (body["function_id"], body["run_id"]) == ("t-f", run.id)
        assert body["event"]["name"] == "go" and body["event"]["id"] == "mine"
        assert body["events"] == [body["event"]]
        assert body["_inngest"] == {"status": status}
        assert "correlation_id" not in body
        assert (event.id == run.id) == (event.name != "inngest/function.finished")
        if status == "Completed":
            assert body["result"] == {"n": 1} and "error" not in body
        elif status == "Failed":
            assert body["error"]["error"] == "NonRetriableError" and body["error"]["message"] == "boom"
            assert body["result"]["message"] == "boom"
        else:
            assert "error" not in body and "result" not in body


async def test_the_end_of_an_invoked_run_names_the_step_that_called() -> None:
    log = list[Any]()
    app = telling(log, events="inngest/function.finished")

    @app.function("parent")
    async def parent(ctx: Context) -> Any:
        return await step.invoke("call", "t-f")

    async with running(app) as engine:
        run = await engine.trigger(parent)
        await engine.settle()
        child = next(event for event in log if event.data["function_id"] == "t-f")
        called = (await detail(engine, run.run_id)).steps[0]
        assert child.data["correlation_id"] == f"{run.run_id}.{called.id}"


async def test_on_failure_runs_once_after_the_last_attempt_and_sees_the_error() -> None:
    app, seen = App("t"), list[Any]()

    async def tell(ctx: Context) -> str:
        seen.append(ctx.event)
        return await step.run("mail", lambda: "sent")

    @app.function("f", trigger="go", retries=2, on_failure=tell)
    async def f(ctx: Context) -> None:
        raise ValueError(f"attempt {ctx.attempt} of {ctx.max_attempts}")

    @app.function("other", trigger="go", retries=0)
    async def other(ctx: Context) -> None:
        raise ValueError("not watched")

    async with running(app) as engine:
        await app.send({"name": "go", "data": {"order": 5}})
        await engine.settle()
        assert seen == []
        await engine.drain()
        (run,) = await runs(engine, "t-f")
        assert await statuses(engine, "t-f-failure") == ["COMPLETED"]
    (event,) = seen
    assert event.name == "inngest/function.failed"
    assert event.data["error"]["name"] == "ValueError"
    assert event.data["error"]["message"] == "attempt 2 of 3"
    assert event.data["run_id"] == run.id
    assert event.data["event"]["data"] == {"order": 5}


async def test_on_failure_may_be_a_plain_function_and_may_fail_itself() -> None:
    app, calls = App("t"), list[str]()

    def tell(ctx: Context) -> None:
        calls.append(ctx.event.data["error"]["message"])
        raise ValueError("the mail server is down")

    @app.function("f", trigger="go", retries=0, on_failure=tell)
    async def f(ctx: Context) -> None:
        raise ValueError("no")

    async with running(app) as engine:
        await app.send({"name": "go"})
        await engine.drain()
        assert await statuses(engine, "t-f-failure") == ["FAILED"]
    assert calls == ["no", "no"], "it has one retry"


async def test_a_run_may_wait_for_the_end_of_another() -> None:
    app = telling([], events="never")

    @app.function("waits", trigger="wait")
    async def waits(ctx: Context) -> Any:
        event = await step.wait_for_event(
            "end", event="inngest/function.finished", timeout="1d", if_="async.data.function_id == 't-f'"
        )
        return event.data["result"] if event else None

    async with running(app) as engine:
        await app.send({"name": "wait"})
        await engine.settle()
        await app.send({"name": "go"})
        await engine.settle()
        assert [run.output for run in await runs(engine, "t-waits")] == [b'{"n":1}']


async def test_ends_that_nobody_listens_to_are_not_stored() -> None:
    app = telling([], events="never")
    async with running(app) as engine:
        await app.send([{"name": "go"}] * 5)
        await engine.settle()
        assert len(await engine.view(lambda: views.list_events(50, internal=True))) == 5


@pytest.mark.parametrize(
    ("triggers", "name", "data", "starts"),
    [
        (["app/user.created"], "app/user.created", {}, 1),
        (["app/user.created"], "app/user.created.twice", {}, 0),
        (["app/*"], "app/user.created", {}, 1),
        (["app/*"], "app/a/b", {}, 1),
        (["app/*"], "application/x", {}, 0),
        (["app/user.*"], "app/user.created", {}, 1),
        (["app/user.*"], "app/user.email.changed", {}, 1),
        (["app/user.*"], "app/user", {}, 0),
        (["app/user.created", "app/*", "app/user.*"], "app/user.created", {}, 1),
        ([on("go", if_="event.data.n > 5")], "go", {"n": 6}, 1),
        ([on("go", if_="event.data.n > 5")], "go", {"n": 5}, 0),
        ([on("go", if_="event.data.n > 5")], "go", {}, 0),
        ([on("go", if_="event.data.n > 5")], "go", {"n": "many"}, 0),
        ([on("go", if_="event.data.n > 5"), on("go", if_="event.data.n < 3")], "go", {"n": 1}, 1),
        ([on("go", if_="event.data.n > 5"), on("go", if_="event.data.n > 3")], "go", {"n": 9}, 1),
    ],
)
async def test_one_run_a_function_for_an_event_that_matches(
    triggers: list[Any], name: str, data: dict[str, Any], starts: int
) -> None:
    app = App("t")

    @app.function("f", trigger=triggers)
    async def f(ctx: Context) -> None: ...

    async with running(app) as engine:
        accepted = await engine.ingest([{"name": name, "data": data}])
        await engine.settle()
        assert len(await runs(engine)) == starts
        assert [len(started) for started in accepted.run_ids] == [starts]


async def test_a_step_sends_events_once_and_gets_their_ids() -> None:
    app, seen = App("t"), list[Any]()

    @app.function("f", trigger="go", retries=1)
    async def f(ctx: Context) -> list[str]:
        ids = await step.send_event("send", [{"name": "told", "data": {"n": n}} for n in range(3)])
        await step.sleep("nap", "1d")
        if not seen.count("failed"):
            seen.append("failed")
            raise ValueError("replays once more")
        return ids

    @app.function("g", trigger="told")
    async def g(ctx: Context) -> None:
        seen.append(ctx.event.data["n"])

    async with running(app) as engine:
        run = await engine.trigger(f)
        await engine.drain()
        ids = await run.result()
        events = await engine.view(lambda: views.list_events(50))
        assert sorted(ids) == sorted(event.internal_id for event in events)
    assert sorted(seen, key=str) == [0, 1, 2, "failed"]


async def test_the_order_of_sending_is_the_order_of_starting() -> None:
    app, order = App("t"), list[int]()

    @app.function("f", trigger="go", concurrency=1)
    async def f(ctx: Context) -> None:
        order.append(ctx.event.data["n"])
        await asyncio.sleep(0)

    async with running(app) as engine:
        for first in range(0, 60, 20):
            await app.send([{"name": "go", "data": {"n": n}} for n in range(first, first + 20)])
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 60
    assert order == list(range(60))
