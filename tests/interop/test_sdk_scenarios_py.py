"""What only functions of PyPI's `inngest` can do to a server: to behave differently from call to call, to fail beside
other steps, to lose the connection with the answer. The app is in the process of the tests, which see what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import aiohttp
import fastapi
import inngest
import inngest.fast_api
import pytest
import websockets
from inngest.connect import ConnectionState, connect

from perdure.client import RunInfo
from tests.interop.sdk.listening import Listening
from tests.support.sdk_apps import Fleet, eventually

APP = "py-scenarios"
_SUBPROTOCOL = websockets.Subprotocol("v0.connect.inngest.com")
Work = Callable[[], Awaitable[Any]]


class Scenarios:
    """The app, and what its functions noted: by run, how often each thing was done."""

    def __init__(self, fleet: Fleet) -> None:
        url = fleet.server.url
        self.fleet = fleet
        self.sdk = inngest.Inngest(app_id=APP, is_production=False, api_base_url=url, event_api_base_url=url)
        self.done: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.told: dict[str, Any] = {}
        self.functions: list[inngest.Function[Any]] = []
        self._add("lists", self.lists)
        self._add("insists", self.insists)
        self._add("forgets", self.forgets)
        self._add("nests", self.nests, retries=5)
        self._add("fails-beside", self.fails_beside, retries=1)
        self._add("fails", self.fails, on_failure=self.on_failure)

    def _add(self, name: str, handler: Callable[[inngest.Context], Awaitable[Any]], **options: Any) -> None:
        trigger = inngest.TriggerEvent(event=f"{APP}/{name}")
        decorate = self.sdk.create_function(fn_id=name, trigger=trigger, **{"retries": 0, **options})
        self.functions.append(decorate(handler))

    def doing(self, ctx: inngest.Context, what: str, *, fails: bool = False) -> Work:
        """What a step does: it is counted."""

        async def work() -> str:
            self.done[ctx.run_id][what] += 1
            if fails:
                raise ValueError(f"{what} failed")
            return what

        return work

    async def both(self, ctx: inngest.Context, *names: str) -> Any:
        """Steps in parallel."""
        return await ctx.group.parallel(
            tuple((lambda name=name: ctx.step.run(name, self.doing(ctx, name))) for name in names)
        )

    async def lists(self, ctx: inngest.Context) -> Any:
        self.done[ctx.run_id]["calls"] += 1
        mode = inngest.ParallelMode.RACE if ctx.event.data.get("race") else inngest.ParallelMode.WAIT

        async def chain(*names: str) -> list[Any]:
            return [await ctx.step.run(name, self.doing(ctx, name)) for name in names]

        return await ctx.group.parallel((lambda: chain("a1", "a2"), lambda: chain("b1", "b2")), parallel_mode=mode)

    async def insists(self, ctx: inngest.Context) -> None:
        """Once its steps are asked for one by one, it wants another one first."""
        self.done[ctx.run_id]["calls"] += 1
        if self.done[ctx.run_id]["calls"] > 1:
            await ctx.step.run("first", self.doing(ctx, "first"))
        await self.both(ctx, "a", "b")

    async def forgets(self, ctx: inngest.Context) -> None:
        """It plans a step that is gone when it is asked for it."""
        self.done[ctx.run_id]["calls"] += 1
        gone = ("gone",) if self.done[ctx.run_id]["calls"] == 1 else ()
        await self.both(ctx, "a", "b", *gone)
        await ctx.step.run("after", self.doing(ctx, "after"))

    async def nests(self, ctx: inngest.Context) -> None:
        async def outer() -> None:
            self.done[ctx.run_id]["outer"] += 1
            await ctx.step.run("inner", self.doing(ctx, "inner"))

        await ctx.step.run("outer", outer)

    async def fails_beside(self, ctx: inngest.Context) -> list[Any]:
        try:
            await ctx.group.parallel(
                (
                    lambda: ctx.step.run("good", self.doing(ctx, "good")),
                    lambda: ctx.step.run("bad", self.doing(ctx, "bad", fails=True)),
                )
            )
        except inngest.StepError as error:
            return [error.name, error.message, await ctx.step.run("after", self.doing(ctx, "after"))]
        return []

    async def fails(self, ctx: inngest.Context) -> None:
        raise ValueError("a bad day")

    async def on_failure(self, ctx: inngest.Context) -> None:
        self.told[str(ctx.event.data["run_id"])] = ctx.event.data["error"]

    async def run(self, function: str, **data: Any) -> RunInfo:
        """Sends the event of a function, and waits for the end of its run."""
        (sent,) = await self.sdk.send(inngest.Event(name=f"{APP}/{function}", data=data))
        return await ended(self.fleet, sent)


async def ended(fleet: Fleet, event_id: str) -> RunInfo:
    """The run that an event started, once it has ended."""

    async def ask() -> RunInfo | None:
        for run_id in await fleet.client.runs_of_event(event_id):
            run = await fleet.client.get_run(run_id)
            return run if run.ended else None
        return None

    return await eventually(ask, "end of the run")


@pytest.fixture(scope="module")
async def scenarios(fleet: Fleet) -> AsyncGenerator[Scenarios, None]:
    made = Scenarios(fleet)
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, made.sdk, made.functions)
    server = Listening(app, signals=False)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as http, http.put(f"http://127.0.0.1:{port}/api/inngest") as response:
        assert response.status == 200, await response.text()
    yield made
    server.should_exit = True
    await serving


@pytest.mark.parametrize(("race", "calls"), [(False, 7), (True, 9)])
async def test_a_function_is_called_no_more_often_than_its_steps_need(
    scenarios: Scenarios, race: bool, calls: int
) -> None:
    run = await scenarios.run("lists", race=race)
    assert run.output == [["a1", "a2"], ["b1", "b2"]]
    done = scenarios.done[run.run_id]
    assert {step: done[step] for step in ("a1", "a2", "b1", "b2")} == dict.fromkeys(("a1", "a2", "b1", "b2"), 1)
    # In a race each step that is done is a reason to call; otherwise a group of them is.
    assert done["calls"] <= calls and (race or done["calls"] == calls)


@pytest.mark.parametrize(("function", "step"), [("insists", "first"), ("forgets", "after")])
async def test_a_function_that_is_another_when_its_steps_are_asked_for_fails(
    scenarios: Scenarios, function: str, step: str
) -> None:
    run = await scenarios.run(function)
    assert run.status == "FAILED" and run.output["code"] == "step_unexpected"
    assert run.output["message"] == f'found step "{step}" when targeting a different step'
    assert step not in scenarios.done[run.run_id]


async def test_a_step_in_a_step_fails_the_run_at_once(scenarios: Scenarios) -> None:
    run = await scenarios.run("nests")
    assert run.status == "FAILED" and run.output["message"] == "Nested steps are not supported."
    assert scenarios.done[run.run_id] == {"outer": 1}


async def test_a_step_that_fails_beside_others_can_be_made_up_for(scenarios: Scenarios) -> None:
    run = await scenarios.run("fails-beside")
    assert run.output == ["ValueError", "bad failed", "after"]
    assert scenarios.done[run.run_id] == {"good": 1, "bad": 2, "after": 1}


async def test_a_failure_handler_is_told_how_the_function_failed(scenarios: Scenarios) -> None:
    run = await scenarios.run("fails")
    assert run.output.keys() == {"code", "message", "name", "stack"}

    async def told() -> Any:
        return scenarios.told.get(run.run_id)

    error = await eventually(told, "call of the failure handler")
    assert error == {
        "error": "invalid status code: 500",
        "name": "ValueError",
        "message": "a bad day",
        "stack": run.output["stack"],
    }


class Tunnel:
    """Between a worker and the server: it can be cut."""

    def __init__(self, server_url: str) -> None:
        self._target = server_url.replace("http", "ws", 1) + "/v0/connect"
        self._ends: list[Any] = []
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Tunnel, None]:
        async with websockets.serve(self._through, "127.0.0.1", 0, subprotocols=[_SUBPROTOCOL]) as server:
            self.url = "ws://127.0.0.1:{}".format(next(iter(server.sockets)).getsockname()[1])
            yield self

    async def _through(self, worker: websockets.ServerConnection) -> None:
        async with websockets.connect(self._target, subprotocols=[_SUBPROTOCOL]) as server:
            self._ends += [worker, server]
            ways = [asyncio.create_task(_pass_on(*way)) for way in ((worker, server), (server, worker))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()

    def cut(self) -> None:
        """Breaks what is connected, without a word to either side."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()


async def _pass_on(source: Any, target: Any) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in source:
            await target.send(message)


async def test_work_whose_connection_broke_is_not_done_again(fleet: Fleet) -> None:
    url, name = fleet.server.url, f"{APP}-worker"
    sdk = inngest.Inngest(app_id=name, is_production=False, api_base_url=url, event_api_base_url=url)
    began, broken, calls = threading.Event(), threading.Event(), list[str]()

    @sdk.create_function(fn_id="f", trigger=inngest.TriggerEvent(event=name))
    async def f(ctx: inngest.Context) -> str:
        calls.append(ctx.run_id)
        began.set()
        await asyncio.to_thread(broken.wait, 30)
        return "done"

    async with Tunnel(url).open() as tunnel:
        worker = connect([(sdk, [f])], rewrite_gateway_endpoint=lambda _: tunnel.url, shutdown_signals=[])
        working = asyncio.create_task(worker.start())
        await asyncio.wait_for(worker.wait_for_state(ConnectionState.ACTIVE), 20)
        (sent,) = await sdk.send(inngest.Event(name=name))
        assert await asyncio.to_thread(began.wait, 20)
        tunnel.cut()
        broken.set()
        run = await ended(fleet, sent)
        assert run.output == "done" and calls == [run.run_id]
        await worker.close(wait=True)
        await asyncio.wait_for(working, 20)
