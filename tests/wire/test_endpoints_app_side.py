"""`@app.endpoint` under a server that the test plays: what is reported, what callers get, and later calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from perdure import App, NonRetriableError, RetryAfterError, StepError, step
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.model.keys import SigningKey
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.stream import stream
from perdure.serving import use_server
from perdure.serving.endpoints import checkpoints, first
from perdure.serving.settings import ServeOptions
from perdure.sync import step as blocking
from tests.support.endpoint_server import BROKEN, EndpointServer, endpoint_server, events_in, until
from tests.support.hosting import asgi_server

KEY = "signkey-prod-00ff00ff"
A, B = step_hash("a"), step_hash("b")
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
SSE = {"accept": "text/event-stream"}


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[EndpointServer, None]:
    monkeypatch.setattr(checkpoints, "_PAUSE", 0.001)
    async with endpoint_server() as started:
        yield started


@pytest.fixture
def app(server: EndpointServer) -> App:
    app = App("shop")
    use_server(app, base_url=server.url, is_dev=True)
    return app


@asynccontextmanager
async def client(endpoint: Endpoint, path: str = "/x") -> AsyncGenerator[httpx2.AsyncClient, None]:
    """A client of an application that routes to the endpoint."""
    application = Starlette(routes=[Route(path, endpoint, methods=METHODS)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://app.test") as http:
        yield http


async def two_steps(request: Request) -> Response:
    found = [await step.run("a", lambda: {"n": 1}), await step.run("b", lambda: 2)]
    return JSONResponse(found, 202, {"x-my": "v"})


async def sleeps(request: Request) -> Response:
    first = await step.run("a", lambda: "hello")
    await step.sleep("nap", "1s")
    return JSONResponse([first, await step.run("b", lambda: "world")], 201, {"x-my": "v"})


# The first request.


async def test_every_step_is_reported_before_the_next_begins(app: App, server: EndpointServer) -> None:
    async with client(app.endpoint()(two_steps)) as http:
        answer = await http.get("/x?q=1&z=a%20b", headers={"x-forwarded-for": "1.2.3.4, 5.6.7.8"})
        await settled(server)
    assert (answer.status_code, answer.json(), answer.headers["x-my"]) == (202, [{"n": 1}, 2], "v")
    assert [path for path, _ in server.reports] == ["/v1/checkpoint", "/steps", "/steps"]
    assert server.ops == [("StepRun", "a"), ("StepRun", "b"), ("RunComplete", "")]
    assert server.run.request == {
        "domain": "http://app.test", "method": "GET", "path": "/x", "query_params": "q=1&z=a%20b", "body": "",
        "body_encoding": "base64", "content_type": "", "ip": "1.2.3.4", "fn": "",
    }  # fmt: skip
    assert server.run.retries == 3
    assert server.run.result["status"] == 202 and server.run.result["body"] == '[{"n":1},2]'


async def settled(server: EndpointServer) -> None:
    """Waits until the run is over."""
    async with asyncio.timeout(5):
        while not server.runs or not server.run.over:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("value", "body"),
    [({"a": 1}, b'{"a":1}'), ("All done", b'"All done"'), (None, b"null"), (b"\x00\xff", b"\x00\xff")],
)
async def test_values_are_answers(app: App, server: EndpointServer, value: Json, body: bytes) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        return value

    async with client(handler) as http:
        answer = await http.get("/x")
        # It was recorded before it was given.
        assert server.run.over
    assert (answer.status_code, answer.content) == (200, body)


async def test_a_response_without_steps_needs_no_server(app: App, server: EndpointServer) -> None:
    server.fail = [BROKEN] * 5

    @app.endpoint()
    async def handler(request: Request) -> Response:
        return PlainTextResponse("fine")

    async with client(handler) as http:
        assert (await http.get("/x")).text == "fine"


async def test_cookies_and_bytes_are_kept(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Response:
        response = Response(b"\x00\xff\xfe", media_type="application/octet-stream")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        if await step.run("a", lambda: True) and "later" in request.query_params:
            await step.sleep("nap", "1s")
        return response

    async with client(handler) as http:
        direct = await http.get("/x")
        await settled(server)
        server.runs.clear()
        led = await http.get("/x?later=1")
        await server.play(http)
    async with httpx2.AsyncClient() as outside:
        output = await outside.get(led.headers["location"])
    assert direct.content == output.content == b"\x00\xff\xfe"
    assert len(direct.headers.get_list("set-cookie")) == 2
    assert output.headers.get_list("set-cookie") == direct.headers.get_list("set-cookie")


async def test_streaming_responses_stream_and_are_recorded(app: App, server: EndpointServer) -> None:
    seen = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one,"
        await seen.wait()
        yield b"two"

    @app.endpoint()
    async def handler(request: Request) -> Response:
        await step.run("a", lambda: 1)
        return StreamingResponse(pieces(), media_type="text/plain")

    application = Starlette(routes=[Route("/x", handler)])
    async with asgi_server(application) as url, httpx2.AsyncClient() as http, http.stream("GET", f"{url}/x") as answer:
        found: list[bytes] = []
        async for chunk in answer.aiter_raw():
            found.append(chunk)
            seen.set()
    await settled(server)
    assert b"".join(found) == b"one,two" and server.run.result["body"] == "one,two"


async def test_an_exception_of_http_is_an_answer(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        await step.run("a", lambda: 1)
        raise HTTPException(404, "no such order", {"x-why": "gone"})

    async with client(handler) as http:
        answer = await http.get("/x")
        await settled(server)
    assert (answer.status_code, answer.json(), answer.headers["x-why"]) == (404, {"detail": "no such order"}, "gone")
    assert server.run.result["status"] == 404


async def test_steps_beside_each_other_execute_at_once(app: App, server: EndpointServer) -> None:
    both = asyncio.Barrier(2)

    async def meet(value: int) -> int:
        await both.wait()
        return value

    @app.endpoint()
    async def handler(request: Request) -> Json:
        return await asyncio.gather(step.run("a", meet, 1), step.run("b", meet, 2))

    async with client(handler) as http:
        answer = await http.get("/x")
    assert answer.json() == [1, 2]
    assert sorted(server.ops[:2]) == [("StepRun", "a"), ("StepRun", "b")]


async def test_repeated_ids_and_round_trips(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        return [await step.run("a", lambda: (1, 2)) for _ in range(3)]

    async with client(handler) as http:
        assert (await http.get("/x")).json() == [[1, 2]] * 3
    ids = [op["id"] for _, ops in server.reports for op in ops if op["op"] == "StepRun"]
    assert ids == [A, step_hash("a", 1), step_hash("a", 2)]


async def test_plain_handlers_run_in_threads(app: App, server: EndpointServer) -> None:
    @app.endpoint(function_id="plain")
    def handler(request: Request) -> Json:
        first = blocking.run("a", lambda: 1)
        blocking.sleep("nap", "1s")
        return {"first": first, "path": request.url.path}

    async with client(handler) as http:
        assert (await http.get("/x")).status_code == 302
        run = await server.play(http)
    assert run.result["body"] == '{"first":1,"path":"/x"}' and run.request["fn"] == "plain"


async def test_events_are_sent_in_the_same_request(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        return await step.send_event("tell", {"name": "shop/done", "data": {"n": 1}})

    async with client(handler) as http:
        assert (await http.get("/x")).json() == ["ID"]
    assert server.events[0][0]["name"] == "shop/done"
    assert server.ops[0] == ("StepRun", "tell")


async def test_nested_steps_are_refused(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        async def outer() -> Json:
            return await step.run("inner", lambda: 1)

        return await step.run("outer", outer)

    server.goes_on = True
    async with client(handler) as http:
        answer = await http.get("/x")
    assert answer.status_code == 400 and "called inside step 'outer'" in answer.json()["message"]


async def test_many_requests_at_once_do_not_mix(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        mine = request.query_params["n"]
        return [await step.run("a", lambda: mine), await step.run("b", lambda: mine), mine]

    async with client(handler) as http:
        answers = await asyncio.gather(*(http.get(f"/x?n={n}") for n in range(50)))
    assert [answer.json() for answer in answers] == [[str(n)] * 3 for n in range(50)]


# Reports that do not succeed.


async def test_reports_are_repeated(app: App, server: EndpointServer) -> None:
    server.fail = [503, BROKEN]
    server.lose = 1
    async with client(app.endpoint()(two_steps)) as http:
        assert (await http.get("/x")).status_code == 202
        await settled(server)
    assert len(server.runs) == 1
    assert server.ops == [("StepRun", "a"), ("StepRun", "a"), ("StepRun", "b"), ("RunComplete", "")]


@pytest.mark.parametrize("status", [400, 401, 404, 413])
async def test_a_report_that_is_refused_is_not_repeated(app: App, server: EndpointServer, status: int) -> None:
    server.fail = [status]
    async with client(app.endpoint()(two_steps)) as http:
        answer = await http.get("/x")
    assert answer.status_code == (413 if status == 413 else 500)
    assert [path for _, path, _ in server.requests] == ["/v1/checkpoint"]


async def test_a_server_that_is_down(app: App, server: EndpointServer) -> None:
    server.fail = [BROKEN] * 5
    async with client(app.endpoint()(two_steps)) as http:
        answer = await http.get("/x")
    assert answer.status_code == 500 and answer.json()["name"] == "ServerError"
    assert len(server.requests) == 5


@pytest.mark.parametrize("place", ["step", "answer"])
@pytest.mark.parametrize("headers", [{}, SSE])
async def test_a_server_that_is_gone_in_the_middle_has_the_answer_later(
    app: App, server: EndpointServer, place: str, headers: dict[str, str]
) -> None:
    failures: list[int | str] = [503, BROKEN, 503, 503, BROKEN]
    server.goes_on = True

    def leaves() -> None:
        server.fail, failures[:] = list(failures), []

    @app.endpoint()
    async def handler(request: Request) -> Json:
        await step.run("a", lambda: stream.push("x"))
        if place == "answer":
            leaves()
            return "done"
        await step.run("b", leaves)
        return "done"

    async with client(handler) as http:
        answer = await http.get("/x", headers=headers)
        await until(lambda: not server.fail)
        if headers:
            names = [name for name, _ in events_in(answer.text)]
            assert names == ["metadata", "stream", "commit", "redirect_info", *(["response"] * (place == "answer"))]
        else:
            assert answer.status_code == 302
        assert (await server.play(http)).result["body"] == '"done"'


async def test_a_run_that_was_taken_away_still_has_an_answer(app: App, server: EndpointServer) -> None:
    done: list[str] = []

    @app.endpoint()
    async def handler(request: Request) -> Json:
        await step.run("a", lambda: 1)
        server.fail = [409]
        await step.run("b", lambda: 2)
        done.append("beyond")

    async with client(handler) as http:
        answer = await http.get("/x")
    assert answer.status_code == 302 and "/output?token=T-" in answer.headers["location"]
    assert done == []


async def test_a_server_hears_that_a_long_step_goes_on(
    app: App, server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first, "_BEAT", 0.01)
    long = asyncio.Event()

    @app.endpoint()
    async def handler(request: Request) -> Json:
        await step.run("a", lambda: 1)
        await step.run("b", long.wait)

    async with client(handler) as http:
        asking = asyncio.ensure_future(http.get("/x"))
        await until(lambda: [ops for _, ops in server.reports].count([]) > 2)
        server.fail = [409]
        # The server gave the run to another request: this one leads there.
        assert (await asking).status_code == 302


async def test_how_often_a_server_hears_of_a_request_is_for_the_server_to_say(
    app: App, server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.goes_on, server.patience = True, {"silence": 60.0, "grace": 0.02}
    long = asyncio.Event()

    @app.endpoint()
    async def handler(request: Request) -> Json:
        await step.run("a", lambda: 1)
        await step.run("b", long.wait)

    async with client(handler) as http:
        asking = asyncio.ensure_future(http.get("/x"))
        await until(lambda: [ops for _, ops in server.reports].count([]) > 2)
        # A server that is away for a while is no reason to give up what goes on.
        server.fail = [BROKEN] * 5
        await until(lambda: not server.fail)
        heard = [ops for _, ops in server.reports].count([])
        await until(lambda: [ops for _, ops in server.reports].count([]) > heard)
        long.set()
        assert (await asking).status_code == 200
    assert server.ops == [("StepRun", "a"), ("StepRun", "b"), ("RunComplete", "")]


async def test_a_server_hears_that_a_response_goes_on(
    app: App, server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first, "_BEAT", 0.01)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        await until(lambda: len(server.reports) >= 3)
        yield b"b"

    @app.endpoint()
    async def handler(request: Request) -> Response:
        await step.run("a", lambda: 1)
        return StreamingResponse(pieces())

    async with client(handler) as http:
        assert (await http.get("/x")).content == b"ab"
    assert server.ops == [("StepRun", "a"), ("RunComplete", "")]


async def test_a_step_that_is_too_large_fails(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        try:
            return await step.run("a", lambda: "x" * 5_000_000)
        except StepError as error:
            return error.name

    server.goes_on = True
    async with client(handler) as http:
        assert (await http.get("/x")).json() == "StepTooLargeError"


async def test_a_body_that_is_too_large_is_refused(app: App, server: EndpointServer) -> None:
    async with client(app.endpoint(max_body=10)(two_steps)) as http:
        answer = await http.post("/x", content=b"x" * 11)
    assert answer.status_code == 413 and server.requests == []


# The run must wait.


async def test_a_sleep_leads_to_the_output(app: App, server: EndpointServer) -> None:
    async with client(app.endpoint()(sleeps)) as http:
        answer = await http.get("/x?q=1&z=a%20b")
        assert answer.status_code == 302
        assert answer.headers["location"] == f"{server.url}/v1/http/runs/{server.run.id}/output?token=T-{server.run.id}"
        assert server.ops == [("StepRun", "a"), ("Sleep", "nap")]
        run = await server.play(http)
    assert run.result["status"] == 201 and run.result["body"] == '["hello","world"]'
    assert [status for status, _ in server.calls] == [206, 206]
    assert server.calls[0][1][0]["displayName"] == "b" and server.calls[1][1]["op"] == "RunComplete"
    # One answer for each, and steps that are recorded are not done again.
    assert len(server.calls[0][1]) == 1
    assert server.headers[0]["x-inngest-sdk-handled"] == "true"


async def test_a_sleep_may_come_first(app: App, server: EndpointServer) -> None:
    @app.endpoint(async_response="token")
    async def handler(request: Request) -> Json:
        await step.sleep("nap", "1s")
        return "tok"

    async with client(handler) as http:
        answer = await http.get("/x")
        run = await server.play(http)
    assert answer.json() == {"run_id": run.id, "token": f"T-{run.id}"}
    assert server.reports[0][0] == "/v1/checkpoint" and run.result["body"] == '"tok"'


async def test_where_callers_are_led(app: App, server: EndpointServer) -> None:
    async def later(run_id: str, token: str) -> str:
        return f"https://other.test/{run_id}/{token}"

    cases: list[tuple[Json, str]] = [
        ("/wait?x=1", "http://app.test/wait?x=1&runId={id}&token=T-{id}"),
        ("https://other.test/poll", "https://other.test/poll?runId={id}&token=T-{id}"),
        (lambda run_id, token: f"/mine/{run_id}", "/mine/{id}"),
        (later, "https://other.test/{id}/T-{id}"),
    ]
    endpoint = app.endpoint()(sleeps)
    for given, wanted in cases:
        server.runs.clear()
        async with client(endpoint.with_options(async_redirect_url=given)) as http:
            answer = await http.get("/x")
        assert answer.headers["location"] == wanted.format(id=server.run.id)
    assert endpoint.config.async_redirect_url is None


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b"\x00\xff\x80binary", b"aGVsbG8=", b"a=1&b=2"])
async def test_requests_are_the_same_later(app: App, server: EndpointServer, method: str, body: bytes) -> None:
    seen: list[tuple[str, str, str, bytes]] = []

    @app.endpoint()
    async def handler(request: Request) -> Json:
        seen.append((request.method, request.url.path, request.query_params["q"], await request.body()))
        await step.sleep("nap", "1s")
        assert await request.body() == body

    async with client(handler, "/orders/{id}") as http:
        headers = {"content-type": "application/x-thing"} if body else {}
        answer = await http.request(method, "/orders/17?q=a%20b", content=body, headers=headers)
        assert answer.status_code == (302 if method == "GET" else 303)
        await server.play(http)
    assert seen == [(method, "/orders/17", "a b", body)] * 2


async def test_headers_that_are_kept(app: App, server: EndpointServer) -> None:
    seen: list[tuple[str | None, str | None]] = []

    @app.endpoint(capture_headers=["X-Tenant", "authorization"])
    async def handler(request: Request) -> Json:
        seen.append((request.headers.get("x-tenant"), request.headers.get("cookie")))
        await step.sleep("nap", "1s")

    async with client(handler) as http:
        await http.get("/x", headers={"x-tenant": "t1", "cookie": "a=1"})
        assert server.run.request["headers"] == {"x-tenant": "t1"}
        await server.play(http)
    assert seen == [("t1", "a=1"), ("t1", None)]


async def test_what_is_beside_a_wait_is_executed_once(app: App, server: EndpointServer) -> None:
    done: list[str] = []
    server.answers = {"approval": {"name": "shop/approved", "data": {"by": "eve"}, "id": "E2", "ts": 1}}

    def do(name: str) -> str:
        done.append(name)
        return name

    @app.endpoint()
    async def handler(request: Request) -> Json:
        async def branch() -> list[str]:
            return [await step.run(name, do, name) for name in ("a", "b")]

        found, _, event = await asyncio.gather(
            branch(),
            step.sleep("nap", "1s"),
            step.wait_for_event("approval", event="shop/approved", timeout="1h"),
        )
        return [*found, event.data["by"] if event else None, await step.run("after", do, "after")]

    async with client(handler) as http:
        assert (await http.get("/x")).status_code == 302
        assert ("StepRun", "a") in server.ops and ("Sleep", "nap") in server.ops
        run = await server.play(http)
    assert run.result["body"] == '["a","b","eve","after"]'
    assert done == ["a", "b", "after"]


async def test_a_race_that_is_lost_asks_for_nothing(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        nap = asyncio.ensure_future(step.sleep("nap", "1h"))
        won = asyncio.ensure_future(step.run("a", lambda: 1))
        await asyncio.wait([nap, won], return_when=asyncio.FIRST_COMPLETED)
        nap.cancel()
        return await won

    async with client(handler) as http:
        found = await http.get("/x")
        if found.status_code == 302:
            await server.play(http)
        else:
            assert found.json() == 1
    assert server.run.result["body"] == "1"


# Failures.


async def test_a_step_that_fails_is_tried_again_later(app: App, server: EndpointServer) -> None:
    tries: list[int] = []

    def fails_once() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise RetryAfterError("busy", 2)
        return "fine"

    @app.endpoint()
    async def handler(request: Request) -> Json:
        return await step.run("a", fails_once)

    async with client(handler) as http:
        assert (await http.get("/x")).status_code == 302
        op = server.reports[0][1][0]
        assert (op["op"], op["error"]["message"], op["retry_after"]) == ("StepError", "busy", 2)
        run = await server.play(http)
    assert run.result["body"] == '"fine"' and len(tries) == 2


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (2, 3)])
async def test_attempts_are_used_up(app: App, server: EndpointServer, retries: int, attempts: int) -> None:
    tries: list[int] = []

    def fails() -> None:
        tries.append(1)
        raise ValueError("boom")

    @app.endpoint(retries=retries)
    async def handler(request: Request) -> Response:
        try:
            await step.run("a", fails)
        except StepError as error:
            return JSONResponse({"caught": error.message}, 500)
        raise AssertionError

    async with client(handler) as http:
        assert (await http.get("/x")).status_code == 302
        run = await server.play(http)
    assert len(tries) == attempts
    assert run.result["status"] == 500 and run.result["body"] == '{"caught":"boom"}'


async def test_a_step_that_failed_for_good_can_be_caught_at_once(app: App, server: EndpointServer) -> None:
    server.goes_on = True

    def fails() -> None:
        raise NonRetriableError("no such card")

    @app.endpoint()
    async def handler(request: Request) -> Json:
        try:
            await step.run("a", fails)
        except StepError as error:
            return [error.message, await step.run("b", lambda: 2)]

    async with client(handler) as http:
        assert (await http.get("/x")).json() == ["no such card", 2]
    assert server.ops == [("StepFailed", "a"), ("StepRun", "b"), ("RunComplete", "")]


async def test_a_handler_that_fails_is_tried_again(app: App, server: EndpointServer) -> None:
    tries: list[int] = []

    @app.endpoint()
    async def handler(request: Request) -> Json:
        tries.append(await step.run("a", lambda: 1))
        if len(tries) < 3:
            raise RuntimeError("boom")
        return len(tries)

    async with client(handler) as http:
        assert (await http.get("/x")).status_code == 302
        assert server.reports[1][1] == [{"id": step_hash("complete"), "op": "StepError", "error": error_of(server)}]
        run = await server.play(http)
    assert run.result["body"] == "3"


def error_of(server: EndpointServer) -> Json:
    error = server.reports[1][1][0]["error"]
    assert (error["name"], error["message"]) == ("RuntimeError", "boom") and "test_endpoints" in error["stack"]
    return error


@pytest.mark.parametrize("exposed", [True, False])
async def test_a_handler_that_fails_for_good_ends_the_run(app: App, server: EndpointServer, exposed: bool) -> None:
    @app.endpoint(expose_errors=exposed)
    async def handler(request: Request) -> Json:
        raise NonRetriableError("no")

    async with client(handler) as http:
        answer = await http.get("/x")
    assert answer.status_code == 400 and answer.headers["x-inngest-no-retry"] == "true"
    assert {**answer.json(), "stack": ""} == {"name": "NonRetriableError", "message": "no", "stack": ""}
    assert ("stack" in answer.json()) is exposed
    assert server.run.over and server.run.error["message"] == "no"


async def test_a_handler_that_always_fails(app: App, server: EndpointServer) -> None:
    @app.endpoint(retries=1)
    async def handler(request: Request) -> Json:
        raise RuntimeError("boom")

    async with client(handler) as http:
        assert (await http.get("/x")).status_code == 302
        run = await server.play(http)
    assert run.error["message"] == "boom" and server.calls[-1][0] == 500


@pytest.mark.parametrize("later", [False, True])
async def test_a_handler_that_never_returns_is_told_so(app: App, server: EndpointServer, later: bool) -> None:
    @app.endpoint(timeout=0.1, retries=0)
    async def handler(request: Request) -> Json:
        if later:
            await step.sleep("nap", "1s")
        await asyncio.Event().wait()

    async with client(handler) as http:
        answer = await http.get("/x")
        if later:
            await server.play(http)
        else:
            assert answer.status_code == 504 and "did not return within 0.1s" in answer.json()["message"]
    assert server.run.error["name"] == "EndpointTimeoutError"


# Who may call.


async def test_later_calls_need_a_signature(server: EndpointServer) -> None:
    app = App("shop")
    options: ServeOptions = {"base_url": server.url, "signing_key": KEY, "is_dev": False}
    use_server(app, **options)
    key = SigningKey.parse(KEY)
    server.accepts = f"Bearer {key.bearer}"
    async with client(app.endpoint()(sleeps)) as http:
        assert (await http.post("/x", json={"b": 1, "a": 2})).status_code == 303
        refused = await server.call(http, server.run)
        assert (refused.status_code, refused.json()) == (401, {"message": "Unauthorized"})
        assert "x-inngest-sdk" not in refused.headers
        forged = {"x-run-id": server.run.id, "x-inngest-signature": "t=1&s=" + "0" * 64}
        assert (await http.post("/x", headers=forged)).status_code == 401


async def test_a_run_that_nobody_knows(app: App, server: EndpointServer) -> None:
    async with client(app.endpoint()(sleeps)) as http:
        answer = await http.get("/x", headers={"x-run-id": "01KAP5Z3M0000000000000000A", "x-inngest-signature": ""})
    assert answer.status_code == 500 and answer.json()["code"] == "internal"
    assert server.runs == {}


async def test_a_run_id_alone_is_nothing(app: App, server: EndpointServer) -> None:
    async with client(app.endpoint()(two_steps)) as http:
        answer = await http.get("/x", headers={"x-run-id": "01KAP5Z3M0000000000000000A"})
    assert answer.status_code == 202 and server.run.id != "01KAP5Z3M0000000000000000A"


async def test_without_a_key_production_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INNGEST_DEV", "PERDURE_DEV", "INNGEST_SIGNING_KEY", "PERDURE_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with client(App("shop").endpoint()(two_steps)) as http:
        assert (await http.get("/x")).status_code == 500


# Streams.


async def test_what_is_pushed_comes_at_once(app: App, server: EndpointServer) -> None:
    gate = asyncio.Event()

    async def write() -> str:
        stream.push("one")
        await gate.wait()
        stream.push({"two": 2})
        return await stream.pipe(iter(["three", "-four"]))

    @app.endpoint()
    async def handler(request: Request) -> Response:
        text = await step.run("a", write)
        return JSONResponse(text, 202, {"x-my": "v"})

    application = Starlette(routes=[Route("/x", handler)])
    found = b""
    async with (
        asgi_server(application) as url,
        httpx2.AsyncClient(headers=SSE) as http,
        http.stream("GET", f"{url}/x") as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        async for chunk in answer.aiter_raw():
            found += chunk
            if b"one" in found:
                gate.set()
    url = f"{server.url}/v1/realtime/sse?token=R-{server.run.id}"
    output = f"{server.url}/v1/http/runs/{server.run.id}/output?token=T-{server.run.id}"
    response = {"body": '"three-four"', "statusCode": 202}
    events = events_in(found.decode())
    assert events[-1][1]["response"].pop("headers")["x-my"] == "v"
    assert events == [
        ("metadata", {"runId": server.run.id}),
        ("stream", {"data": "one", "hashedStepId": A}),
        ("stream", {"data": {"two": 2}, "hashedStepId": A}),
        ("stream", {"data": "three", "hashedStepId": A}),
        ("stream", {"data": "-four", "hashedStepId": A}),
        ("commit", {"hashedStepId": A}),
        ("redirect_info", {"runId": server.run.id, "url": url, "outputUrl": output}),
        ("response", {"status": "succeeded", "response": response}),
    ]
    await settled(server)


async def test_a_stream_that_nobody_pushes_to(app: App, server: EndpointServer) -> None:
    async with client(app.endpoint()(two_steps)) as http:
        answer = await http.get("/x", headers=SSE)
    names = [name for name, _ in events_in(answer.text)]
    assert names == ["metadata", "commit", "redirect_info", "commit", "response"]


async def test_a_stream_goes_on_at_the_server(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        await step.run("a", lambda: stream.push("now"))
        await step.sleep("nap", "1s")
        await step.run("b", lambda: stream.push("later"))
        return "done"

    for keeps in (True, False):
        server.runs.clear()
        server.told.clear()
        server.keeps = keeps
        async with client(handler) as http:
            answer = await http.get("/x", headers=SSE)
            run = await server.play(http)
        assert [name for name, _ in events_in(answer.text)] == ["metadata", "stream", "commit", "redirect_info"]
        told = [events_in(part.decode()) for part in server.told]
        assert told[0] == [
            ("metadata", {"runId": run.id}),
            ("stream", {"data": "later", "hashedStepId": B}),
            ("commit", {"hashedStepId": B}),
        ]
        # A server that keeps the request whole makes the last event of the result.
        assert [name for name, _ in told[-1]] == (
            ["metadata", "stream", "commit"] if keeps else ["metadata", "response"]
        )


async def test_what_a_failed_attempt_pushed_is_taken_back(app: App, server: EndpointServer) -> None:
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        stream.push(f"try {len(tries)}")
        if len(tries) < 3:
            raise ValueError("boom")

    @app.endpoint()
    async def handler(request: Request) -> Json:
        await step.run("a", write)

    async with client(handler) as http:
        answer = await http.get("/x", headers=SSE)
        await server.play(http)
    first = [name for name, _ in events_in(answer.text)]
    assert first == ["metadata", "stream", "rollback", "redirect_info"]
    later = [name for part in server.told for name, _ in events_in(part.decode())]
    assert later == ["metadata", "stream", "rollback", "metadata", "stream", "commit"]


async def test_a_stream_whose_step_is_not_recorded(app: App, server: EndpointServer) -> None:
    server.fail = [400]

    @app.endpoint()
    async def handler(request: Request) -> Json:
        return await step.run("a", lambda: stream.push("x"))

    async with client(handler) as http:
        answer = await http.get("/x", headers=SSE)
    found = events_in(answer.text)
    assert [name for name, _ in found] == ["metadata", "stream", "rollback", "response"]
    assert found[-1][1]["response"]["body"] == '"Internal execution error"'


async def test_an_error_before_anything_is_pushed_is_no_stream(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        if "push" in request.query_params:
            stream.push(1)
        raise NonRetriableError("no")

    async with client(handler) as http:
        assert (await http.get("/x", headers=SSE)).status_code == 400
        answer = await http.get("/x?push=1", headers=SSE)
    assert events_in(answer.text)[-1][1]["status"] == "failed"


async def test_a_plain_caller_gets_what_is_piped_in_the_answer_only(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Json:
        async def write() -> int:
            return len(await stream.pipe(str(n % 10) for n in range(5000)))

        return await step.run("a", write)

    async with client(handler) as http:
        assert (await http.get("/x")).json() == 5000


async def test_answers_without_a_body_in_a_stream(app: App, server: EndpointServer) -> None:
    @app.endpoint()
    async def handler(request: Request) -> Response:
        return Response(status_code=204)

    async with client(handler) as http:
        found = events_in((await http.get("/x", headers=SSE)).text)
    assert found[-1][1]["response"] == {"body": "", "statusCode": 204, "headers": {}}


async def test_a_caller_that_hangs_up_stops_nothing(app: App, server: EndpointServer) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    async def wait() -> int:
        stream.push("x")
        begun.set()
        await gate.wait()
        return 1

    @app.endpoint()
    async def handler(request: Request) -> Json:
        return await step.run("a", wait) + await step.run("b", lambda: 1)

    application = Starlette(routes=[Route("/x", handler)])
    for headers in (SSE, {}):
        server.runs.clear()
        gate.clear()
        begun.clear()
        async with asgi_server(application) as url:
            async with httpx2.AsyncClient(headers=headers) as http:
                asking = asyncio.ensure_future(http.get(f"{url}/x"))
                await begun.wait()
                asking.cancel()
            gate.set()
            await settled(server)
        assert server.run.result["body"] == "2"


# The proxy.


async def test_the_proxy_passes_on_outputs(app: App, server: EndpointServer) -> None:
    @app.endpoint(async_redirect_url="/wait", stream_url="/wait")
    async def handler(request: Request) -> Response:
        await step.sleep("nap", "1s")
        return JSONResponse({"a": 1}, 201, {"x-my": "v"})

    routes = [Route("/x", handler), Route("/wait", app.endpoint_proxy())]
    transport = httpx2.ASGITransport(Starlette(routes=routes))
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.test") as http:
        led = await http.get("/x")
        run = await server.play(http)
        output = await http.get(led.headers["location"])
        assert (output.status_code, output.json(), output.headers["x-my"]) == (201, {"a": 1}, "v")
        assert output.headers["access-control-allow-origin"] == "*"
        missing = await http.get("/wait?runId=x")
        assert (missing.status_code, missing.json()) == (400, {"error": "Missing runId or token query parameter"})
        assert (await http.get(f"/wait?runId={run.id}&token=forged")).status_code == 401
        preflight = await http.options("/wait")
        assert preflight.status_code == 204 and "GET" in preflight.headers["access-control-allow-methods"]
        assert (await http.post("/wait")).status_code == 405
        followed = await http.get(f"/wait?runId={run.id}&token=R", headers={**SSE, "last-event-id": "7"})
        assert followed.headers["content-type"] == "text/event-stream" and followed.text == "id: 7\n\n"


async def test_the_proxy_without_its_server(app: App) -> None:
    use_server(app, base_url="http://127.0.0.1:9", is_dev=True)
    transport = httpx2.ASGITransport(app.endpoint_proxy(allow_origin=None))
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.test") as http:
        answer = await http.get("/?runId=a&token=b")
    assert answer.status_code == 502 and "access-control-allow-origin" not in answer.headers
