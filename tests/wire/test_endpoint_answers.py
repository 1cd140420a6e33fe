"""The answer of a request that became a run, as callers come for it: whenever they come, and however long they wait."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest

from perdure.model.json import Json
from perdure.server import endpoints, make_app
from tests.support.endpoint_world import (
    EndpointWorld,
    api_result,
    complete,
    ended,
    endpoint_world,
    sleep,
)
from tests.support.hosting import asgi_server


@pytest.fixture
async def world() -> AsyncGenerator[EndpointWorld, None]:
    async with endpoint_world(lambda call: ended()) as started:
        yield started


async def begun(world: EndpointWorld, run_id: str, *steps: Json) -> dict[str, str]:
    told: dict[str, str] = (await world.post("/v1/checkpoint", world.body(run_id, *steps)))["data"]
    return told


async def answered(world: EndpointWorld, output: Json, **headers: str) -> httpx2.Response:
    """What a caller gets who comes for the answer of a run with this result."""
    run_id = world.id()
    token = (await begun(world, run_id, complete(output)))["token"]
    return await world.http.get(f"/v1/http/runs/{run_id}/output", params={"token": token}, headers=headers)


async def nobody_waits(world: EndpointWorld) -> None:
    async with asyncio.timeout(5):
        while world.node.runner.ended._listeners:
            await asyncio.sleep(0.001)


# What it is.


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_the_answer_comes_for_every_method(world: EndpointWorld, method: str) -> None:
    """Who is redirected keeps the method of the request, but for POST."""
    run_id = world.id()
    token = (await begun(world, run_id, complete(api_result('{"a":1}', 201, {"x-made": "yes"}))))["token"]
    path = f"/v1/http/runs/{run_id}/output"
    content = b"the body once more" if method in ("POST", "PUT", "PATCH") else None
    response = await world.http.request(method, path, params={"token": token}, content=content)
    assert (response.status_code, response.headers["x-made"]) == (201, "yes")
    assert response.headers["content-type"] == "application/json"
    for _ in range(2):
        assert (await world.http.get(path, params={"token": token})).text == '{"a":1}'


async def test_an_empty_answer(world: EndpointWorld) -> None:
    response = await answered(world, api_result("null", 204))
    assert (response.status_code, response.content) == (204, b"")


async def test_an_answer_that_tells_of_an_error(world: EndpointWorld) -> None:
    response = await answered(world, api_result('{"caught":"boom"}', 500))
    assert (response.status_code, response.json()) == (500, {"caught": "boom"})


@pytest.mark.parametrize("output", [None, 1, "text", [1], {"a": 1}, {"status": "done"}])
async def test_a_result_that_is_no_answer_is_told_as_json(world: EndpointWorld, output: Json) -> None:
    operation = {"op": "RunComplete", "id": "x", "data": output}
    run_id = world.id()
    token = (await begun(world, run_id, operation))["token"]
    response = await world.http.get(f"/v1/checkpoint/{run_id}/output", params={"token": token})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == output


async def test_cookies_and_bytes(world: EndpointWorld) -> None:
    cookies = [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]]
    response = await answered(world, {"status": 200, "headers_list": cookies, "body": "", "body_b64": "AP8="})
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.content == b"\x00\xff"


async def test_who_may_read_an_answer_is_said_once(world: EndpointWorld) -> None:
    """Browsers refuse an answer that says it twice."""
    output = api_result("1", headers={"access-control-allow-origin": "*", "x-kept": "yes"})
    response = await answered(world, output, origin="https://shop.example")
    assert response.headers.get_list("access-control-allow-origin") == ["https://shop.example"]
    assert response.headers["x-kept"] == "yes"
    asked = {"origin": "https://shop.example", "access-control-request-method": "PUT"}
    response = await world.http.options("/v1/http/runs/x/output", headers=asked)
    assert (response.status_code, response.headers["access-control-allow-methods"]) == (200, "PUT")


async def test_a_run_that_failed_says_so_without_its_stack(world: EndpointWorld) -> None:
    error = {"name": "PaymentError", "message": "declined", "stack": "at /srv/app/pay.js:5"}
    failed = {"op": "StepFailed", "id": "0737c22d3bfae812339732d14d8c7dbd6dc4e09c", "error": error}
    run_id = world.id()
    token = (await begun(world, run_id, failed))["token"]
    response = await world.http.get(f"/v1/http/runs/{run_id}/output", params={"token": token})
    assert response.status_code == 500
    assert response.json() == {"error": {"name": "PaymentError", "message": "declined"}}


async def test_a_run_that_was_cancelled_says_so(world: EndpointWorld) -> None:
    run_id = world.id()
    token = (await begun(world, run_id, sleep("nap", "1h")))["token"]
    waiting = asyncio.create_task(world.http.get(f"/v1/http/runs/{run_id}/output", params={"token": token}))
    assert (await world.http.delete(f"/v1/runs/{run_id}")).status_code == 200
    for response in (await waiting, await world.http.get(f"/v1/http/runs/{run_id}/output", params={"token": token})):
        assert (response.status_code, response.json()["error"]["name"]) == (410, "RunCancelled")


@pytest.mark.parametrize("status", [200, 204, 205, 304, 404, 599, 101, 600, 999])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_whatever_the_status_the_connection_lives_on(world: EndpointWorld, status: int, method: str) -> None:
    run_id = world.id()
    token = (await begun(world, run_id, complete(api_result('{"a":1}', status))))["token"]
    async with asgi_server(make_app(world.node)) as url, httpx2.AsyncClient() as http:
        for _ in range(2):
            response = await http.request(method, f"{url}/v1/http/runs/{run_id}/output", params={"token": token})
            assert response.status_code == (status if 200 <= status <= 599 else 200)


# Waiting for it.


async def test_the_answer_comes_as_soon_as_it_is_there(world: EndpointWorld) -> None:
    run_id = world.id()
    token = (await begun(world, run_id))["token"]
    loop, path = asyncio.get_running_loop(), f"/v1/http/runs/{run_id}/output"
    waiting = [asyncio.create_task(world.http.get(path, params={"token": token})) for _ in range(3)]
    while len(world.node.runner.ended._listeners.get(run_id, [])) < 3:
        await asyncio.sleep(0.001)
    await world.report(run_id, complete(api_result("1")))
    began = loop.time()
    assert [response.text for response in await asyncio.gather(*waiting)] == ["1", "1", "1"]
    # Far less than the tick of a server that polls, however busy the machine is.
    assert loop.time() - began < 1.5
    await nobody_waits(world)


async def test_a_wait_ends_after_a_while(world: EndpointWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LONGEST_POLL", 0.02)
    run_id = world.id()
    token = (await begun(world, run_id))["token"]
    for _ in range(3):
        response = await world.http.get(f"/v1/http/runs/{run_id}/output", params={"token": token})
        assert (response.status_code, response.json()["status"]) == (200, "running")
    await nobody_waits(world)


class Caller:
    """A caller that waits for an answer, as the server sees it: it may hang up."""

    def __init__(self, world: EndpointWorld, run_id: str, token: str) -> None:
        self.sent: list[Json] = []
        self._left = asyncio.Event()
        self._asked = False
        path = f"/v1/http/runs/{run_id}/output"
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "http",
            "query_string": f"token={token}".encode(), "headers": [(b"host", b"perdure")], "http_version": "1.1",
            "server": ("perdure", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        self.answer = asyncio.ensure_future(world.app(scope, self._receive, self._send))

    async def _receive(self) -> Json:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Json) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._left.set()


async def test_nobody_waits_for_a_caller_that_hung_up(world: EndpointWorld) -> None:
    run_id = world.id()
    token = (await begun(world, run_id))["token"]
    caller = Caller(world, run_id, token)
    while not world.node.runner.ended._listeners:
        await asyncio.sleep(0.001)
    caller.leave()
    async with asyncio.timeout(5):
        await caller.answer
    await nobody_waits(world)


async def _memory(world: EndpointWorld, run_id: str, token: str, count: int) -> int:
    """What is left in memory after so many callers came, waited beside each other, and left."""
    callers = [Caller(world, run_id, token) for _ in range(count)]
    while len(world.node.runner.ended._listeners.get(run_id, [])) < count:
        await asyncio.sleep(0.001)
    waiting = tracemalloc.get_traced_memory()[0]
    for caller in callers:
        caller.leave()
    await asyncio.gather(*(caller.answer for caller in callers))
    await nobody_waits(world)
    callers.clear()
    gc.collect()
    return waiting


async def test_two_thousand_callers_wait_in_little_memory_and_leave_none(world: EndpointWorld) -> None:
    run_id = world.id()
    token = (await begun(world, run_id))["token"]
    await _memory(world, run_id, token, 50)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        used = await _memory(world, run_id, token, 2000) - before
        left = tracemalloc.get_traced_memory()[0] - before
        for _ in range(2):
            await _memory(world, run_id, token, 500)
        later = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used < 2000 * 32 * 1024
    assert left < used / 10 and later <= left


@asynccontextmanager
async def _served(world: EndpointWorld) -> AsyncGenerator[tuple[str, httpx2.AsyncClient], None]:
    async with asgi_server(make_app(world.node)) as url, httpx2.AsyncClient(timeout=20) as http:
        yield url, http


async def test_a_caller_whose_connection_breaks_is_forgotten(world: EndpointWorld) -> None:
    run_id = world.id()
    token = (await begun(world, run_id))["token"]
    async with _served(world) as (url, http):
        waiting = asyncio.create_task(http.get(f"{url}/v1/http/runs/{run_id}/output", params={"token": token}))
        while not world.node.runner.ended._listeners:
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await nobody_waits(world)
