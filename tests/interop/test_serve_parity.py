"""The same handlers in process and on another server: whoever writes one need not know where it will run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import aiohttp
import pytest

import perdure
from perdure import App, BatchEvents, CancelOn, Context, Event, NonRetriableError, RetryAfterError, StepError, step
from perdure.client import Client
from perdure.model.json import Json
from perdure.sync import step as blocking
from tests.support.dev_server import DevServer
from tests.support.hosting import asgi_server

PATH = "/api/inngest"
Outcome: TypeAlias = tuple[str, Json]
_RUN_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


@dataclass
class Line:
    """What a step gives: types that JSON does not know."""

    price: Decimal
    at: datetime
    tags: set[str]


def line() -> Line:
    return Line(Decimal("9.90"), datetime(2026, 11, 22, tzinfo=UTC), {"a"})


def fail(kind: type[Exception], *arguments: Json) -> None:
    raise kind(*arguments) from KeyError("why")


def shop() -> App:
    app = App("shop")
    tries: dict[str, int] = {}

    def again(name: str, times: int) -> int:
        tries[name] = tries.get(name, 0) + 1
        if tries[name] <= times:
            raise ValueError(f"attempt {tries[name]}")
        return tries[name]

    @app.function("types", trigger="types")
    async def types(ctx: Context) -> Json:
        found = await step.run("line", line)
        return [type(found).__name__, found, await step.run("floats", lambda: [1.5, -0.25, 1e300])]

    @app.function("repeated", trigger="repeated")
    async def repeated(ctx: Context) -> list[int]:
        return [await step.run("again", int, number) for number in range(4)]

    @app.function("plain", trigger="plain")
    def plain(ctx: Context) -> Json:
        blocking.sleep("nap", 0.01)
        return [blocking.run("a", lambda: 1), blocking.invoke("child", "shop-repeated")]

    @app.function("retried", trigger="retried", retries=3)
    async def retried(ctx: Context) -> list[int]:
        first = await step.run("first", again, ctx.run_id, 2)
        return [first, await step.with_(retries=1).run("second", again, f"{ctx.run_id} second", 1)]

    @app.function("handler-retried", trigger="handler-retried", retries=3)
    async def handler_retried(ctx: Context) -> list[int]:
        return [again(ctx.run_id, 2), ctx.attempt, ctx.max_attempts]

    @app.function("caught", trigger="caught", retries=1)
    async def caught(ctx: Context) -> list[Json]:
        found: list[Json] = []
        for kind, *arguments in ((NonRetriableError, "n"), (ValueError, "v"), (RetryAfterError, "r", 0.01)):
            try:
                await step.run(kind.__name__, fail, kind, *arguments)
            except StepError as error:
                found.append([error.step_id, error.name, error.message, error.stack.count("in fail")])
                found.append(error.info.cause and error.info.cause.message)
        return found

    @app.function("fewer", trigger="fewer", retries=4)
    async def fewer(ctx: Context) -> int:
        try:
            await step.with_(retries=1).run("fewer", again, ctx.run_id, 9)
        except StepError:
            return tries[ctx.run_id]
        return -1

    @app.function("failing", trigger="failing", retries=1)
    async def failing(ctx: Context) -> None:
        await step.run("before", lambda: 1)
        raise LookupError("gone") from ValueError("why")

    @app.function("uncaught", trigger="uncaught", retries=1)
    async def uncaught(ctx: Context) -> None:
        await step.run("bad", fail, RuntimeError, "bad")

    @app.function("unstorable", trigger="unstorable", retries=0)
    async def unstorable(ctx: Context) -> Json:
        return object()

    @app.function("branches", trigger="branches")
    async def branches(ctx: Context) -> list[str]:
        order: list[str] = []

        async def branch(name: str, *naps: float) -> None:
            for number, nap in enumerate(naps):
                await step.sleep(f"{name} sleeps {number}", nap)
                await step.run(f"{name} {number}", lambda: None)
                order.append(name)

        await asyncio.gather(branch("slow", 0.5), branch("quick", 0.01, 0.01))
        return sorted(order)

    @app.function("race", trigger="race")
    async def race(ctx: Context) -> list[Json]:
        nap = asyncio.ensure_future(step.sleep("long", "1h"))
        work = asyncio.ensure_future(step.run("work", lambda: "done"))
        ended, _ = await asyncio.wait([nap, work], return_when=asyncio.FIRST_COMPLETED)
        return [work in ended, nap in ended, await step.run("after", lambda: work.result())]

    @app.function("limited", trigger="limited")
    async def limited(ctx: Context) -> str:
        try:
            await step.with_(timeout=0.02, retries=0).run("long", lambda: asyncio.sleep(30))
        except StepError as error:
            return f"{error.name}: {error.message}"
        return "never"

    @app.function("talking", trigger="talking")
    async def talking(ctx: Context) -> list[Json]:
        async def answer() -> None:
            await step.sleep("think", 0.05)
            await step.send_event("say", {"name": "said", "data": {"id": ctx.event.data["id"], "text": "hello"}})
            await step.send_signal("signal", signal="go", data=[1])

        heard, signal, _ = await asyncio.gather(
            step.wait_for_event("hear", event="said", timeout="10s", match="data.id"),
            step.wait_for_signal("wait", signal="go", timeout="10s"),
            answer(),
        )
        return [heard and heard.data, signal and [signal.signal, signal.data]]

    @app.function("large", trigger="large")
    async def large(ctx: Context) -> list[int]:
        found = [await step.run(f"part {number}", lambda: "x" * 1_700_000) for number in range(4)]
        await step.sleep("nap", 0.01)
        return [len(part) for part in found]

    @app.function("batch", trigger="batch", batch_events=BatchEvents(2, "5s"))
    async def batch(ctx: Context) -> list[Json]:
        return [event.data["n"] for event in ctx.events]

    @app.function("too-large", trigger="too-large", retries=0)
    async def too_large(ctx: Context) -> None:
        await step.run("large", lambda: "x" * 5_000_000)

    @app.function("too-many", trigger="too-many", retries=0)
    async def too_many(ctx: Context) -> None:
        for number in range(1002):
            await step.run(f"step {number}", int)

    @app.function("conflict", trigger="conflict", retries=0)
    async def conflict(ctx: Context) -> None:
        await asyncio.gather(
            step.wait_for_signal("one", signal=f"c{ctx.run_id}", timeout="1h"),
            step.invoke("other", "shop-conflicting", data={"signal": f"c{ctx.run_id}"}),
        )

    @app.function("conflicting", retries=0)
    async def conflicting(ctx: Context) -> None:
        await step.wait_for_signal("two", signal=ctx.event.data["signal"], timeout="1h")

    @app.function("invoking", trigger="invoking", retries=0)
    async def invoking(ctx: Context) -> list[Json]:
        found: list[Json] = []
        for name, timeout in (("shop-nobody", "1h"), ("shop-sleeper", 0.05), ("shop-failing", "1h")):
            try:
                await step.invoke(name, name, timeout=timeout)
            except StepError as error:
                found.append([error.name, error.message])
        return found

    @app.function("sleeper")
    async def sleeper(ctx: Context) -> None:
        await step.sleep("long", "1d")

    @app.function("wrong", trigger="wrong")
    async def wrong(ctx: Context) -> None:
        await step.sleep("too long", "500d")

    async def seen(ctx: Context) -> None:
        data = ctx.event.data
        told = {"key": data["event"]["data"]["key"], "error": data["error"]["message"], "of": data["function_id"]}
        await step.send_event("tell", {"name": "seen", "data": told})

    @app.function("breaking", retries=0, on_failure=seen)
    async def breaking(ctx: Context) -> None:
        raise ValueError("broken")

    @app.function("watching", trigger="watching")
    async def watching(ctx: Context) -> Json:
        wait = step.wait_for_event("wait", event="seen", timeout="10s", if_=f"async.data.key == '{ctx.run_id}'")
        child = step.invoke("child", "shop-breaking", data={"key": ctx.run_id})
        event, failure = await asyncio.gather(wait, child, return_exceptions=True)
        return [isinstance(event, Event) and event.data, str(failure)]

    @app.function("cancelled", trigger="cancelled", cancel_on=CancelOn("stop", match="data.id"))
    async def cancelled(ctx: Context) -> None:
        await asyncio.gather(step.sleep("long", "1h"), step.send_event("stop", {"name": "stop", "data": {"id": 7}}))

    @app.function("past", trigger="past")
    async def past(ctx: Context) -> None:
        await step.sleep_until("past", datetime(2020, 1, 1, tzinfo=UTC))

    return app


async def ended(client: Client, event_id: str) -> Outcome:
    for _ in range(600):
        for run_id in await client.runs_of_event(event_id):
            run = await client.get_run(run_id)
            if run.status not in ("QUEUED", "RUNNING"):
                return run.status, comparable(run.output)
        await asyncio.sleep(0.02)
    raise AssertionError("the run did not end")


def comparable(output: Json) -> Json:
    """The same without what may differ: ids of runs, and the lines of a stack, in which the engine shows."""
    if isinstance(output, dict):
        found = {key: comparable(value) for key, value in output.items()}
        return {**found, "stack": "Traceback" in output["stack"]} if "stack" in output else found
    if isinstance(output, list):
        return [comparable(value) for value in output]
    return _RUN_ID.sub("RUN", output) if isinstance(output, str) else output


EVENTS: dict[str, list[dict[str, Json]]] = {
    name: [{"name": name, "data": {"id": 7}}]
    for name in (
        "types", "repeated", "plain", "retried", "handler-retried", "caught", "fewer", "failing", "uncaught",
        "unstorable", "branches", "race", "limited", "talking", "large", "past",
        "too-large", "too-many", "conflict", "invoking", "wrong", "watching",
        "cancelled",
    )
} | {"batch": [{"name": "batch", "data": {"n": 1}}, {"name": "batch", "data": {"n": 2}}]}  # fmt: skip


@pytest.fixture(scope="module")
async def local() -> AsyncGenerator[Client, None]:
    """A server in this process that runs the functions itself."""
    async with (
        perdure.embedded(shop(), db=":memory:", retry_interval=10) as node,
        asgi_server(node.asgi()) as url,
        Client(url) as client,
    ):
        yield client


@pytest.fixture(scope="module", params=[True, False], ids=["with-checkpoints", "without"])
async def remote(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Client, None]:
    """A server in a process of its own, which calls them in this one."""
    folder: Path = tmp_path_factory.mktemp("server")
    options = ["--db", ":memory:", "--no-discovery", "--no-poll", "--retry-interval", "0.01"]
    with DevServer(folder, *options) as server:
        served = perdure.serve(shop(), is_dev=True, base_url=server.url, checkpointing=request.param)
        async with asgi_server(served) as url:
            async with aiohttp.ClientSession() as session, session.put(url + PATH, json={}) as answer:
                assert answer.status == 200
            async with Client(server.url) as client:
                yield client


@pytest.mark.parametrize("name", EVENTS)
async def test_a_run_ends_as_it_does_in_process(local: Client, remote: Client, name: str) -> None:
    here, there = await local.send(EVENTS[name]), await remote.send(EVENTS[name])
    expected = await ended(local, here[-1])
    assert await ended(remote, there[-1]) == expected
