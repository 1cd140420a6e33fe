"""What functions of PyPI's `inngest` can do to a server: differ from call to call, fail beside other steps, and lose
the connection with their answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator

import pytest
import websockets

from tests.support.sdk_apps import Fleet, SdkApp

PROGRAM = "py-scenarios"
_SUBPROTOCOL = websockets.Subprotocol("v0.connect.inngest.com")


@pytest.fixture
async def app(fleet: Fleet) -> SdkApp:
    return await fleet.app(PROGRAM)


@pytest.mark.parametrize(("race", "calls"), [(False, 7), (True, 9)])
async def test_a_function_is_called_no_more_often_than_its_steps_need(app: SdkApp, race: bool, calls: int) -> None:
    key = app.key()
    assert await app.result("chains", {"key": key, "race": race}) == [["a1", "a2"], ["b1", "b2"]]
    noted = Counter(await app.noted(key))
    # Four calls for the steps; and those that find the next: after each step of a race, else after each group.
    assert noted.pop("call") == calls or (race and noted["call"] <= calls)
    assert noted == dict.fromkeys(("a1", "a2", "b1", "b2"), 1)


@pytest.mark.parametrize(("function", "step"), [("insists", "first"), ("forgets", "after")])
async def test_a_function_that_is_another_when_its_steps_are_asked_for_fails(
    app: SdkApp, function: str, step: str
) -> None:
    key = app.key()
    run = await app.run(function, {"key": key})
    assert run.status == "FAILED"
    assert run.output == {
        "code": "step_unexpected",
        "name": "StepUnexpectedError",
        "message": f'found step "{step}" when targeting a different step',
        "stack": None,
    }
    assert step not in await app.noted(key)


async def test_a_step_in_a_step_fails_the_run_at_once(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("nests", {"key": key})
    assert run.status == "FAILED" and run.output["message"] == "Nested steps are not supported."
    assert await app.noted(key) == ["outer"]


async def test_a_step_that_fails_beside_others_can_be_made_up_for(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("fails-beside", {"key": key}) == ["ValueError", "bad failed", "after"]
    assert Counter(await app.noted(key)) == {"good": 1, "bad": 2, "after": 1}


async def test_a_failure_handler_is_told_how_the_function_failed(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("fails", {"key": key})
    assert run.output.keys() == {"code", "message", "name", "stack"}
    (told,) = await app.until_noted(key)
    assert told == {
        "error": "invalid status code: 500",
        "name": "ValueError",
        "message": "a bad day",
        "stack": run.output["stack"],
    }


class Tunnel:
    """Between a worker and the server: it can be cut."""

    def __init__(self, server_url: str) -> None:
        self._target = server_url.replace("http", "ws", 1) + "/v0/connect"
        self._ends: list[websockets.ClientConnection | websockets.ServerConnection] = []
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Tunnel, None]:
        async with websockets.serve(self._through, "127.0.0.1", 0, subprotocols=[_SUBPROTOCOL]) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            yield self

    async def _through(self, worker: websockets.ServerConnection) -> None:
        async with websockets.connect(self._target, subprotocols=[_SUBPROTOCOL]) as server:
            self._ends += [worker, server]
            there, back = (asyncio.create_task(_pass_on(*ends)) for ends in ((worker, server), (server, worker)))
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            there.cancel()
            back.cancel()

    def cut(self) -> None:
        """Breaks what is connected, without a word to either side."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()


async def _pass_on(
    source: websockets.ClientConnection | websockets.ServerConnection,
    target: websockets.ClientConnection | websockets.ServerConnection,
) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in source:
            await target.send(message)


async def test_work_whose_connection_broke_is_not_done_again(fleet: Fleet) -> None:
    worker = fleet.process(f"{PROGRAM}-worker", PROGRAM)
    async with Tunnel(fleet.server.url).open() as tunnel:
        await worker.start(register=False, GATEWAY=tunnel.url)
        key = worker.key()
        run_id = await worker.begin("holds", {"key": key})
        await worker.until_noted(key)
        tunnel.cut()
        # The worker keeps its answer until it sees that nobody got it, and posts it.
        run = await worker.ended(run_id)
        assert run.output == "done" and await worker.noted(key) == ["call"]
        worker.kill()
