"""Endpoints of an app that an engine runs in the same process: nothing is configured, and nothing is outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Message, Scope

import perdure
from perdure import App, Node, NonRetriableError, StepError, step
from perdure.engine import reads
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.stream import stream
from perdure.serving import use_server
from perdure.serving.endpoints.bridge import wsgi
from perdure.serving.endpoints.links import link_of
from perdure.serving.outbound import Reply
from tests.support.endpoint_server import events_in, until
from tests.support.hosting import asgi_server, wsgi_server

SSE = {"accept": "text/event-stream"}


@asynccontextmanager
async def hosted(app: App, endpoint: Endpoint, db: str = ":memory:") -> AsyncGenerator[tuple[httpx2.AsyncClient, Node]]:
    """The endpoint at /x, the app's proxy at /wait and the engine's server at /engine."""
    async with perdure.embedded(app, db=db, retry_interval=20) as node:
        routes = [
            Route("/x", endpoint, methods=["GET", "POST", "PUT"]),
            Route("/wait", app.endpoint_proxy()),
            Mount("/engine", node.asgi()),
        ]
        async with (
            asgi_server(Starlette(routes=routes)) as url,
            httpx2.AsyncClient(base_url=url, follow_redirects=True, timeout=20) as http,
        ):
            yield http, node


def naps(app: App, **options: Json) -> Endpoint:
    @app.endpoint(**options)
    async def handler(request: Request) -> Response:
        await step.run("a", lambda: stream.push("one"))
        await step.sleep("nap", 0.05)
        await step.run("b", lambda: stream.push("two"))
        response = JSONResponse((await request.body()).decode("latin-1"), 201)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    return handler


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_a_caller_that_follows_gets_the_answer(method: str) -> None:
    app = App("shop")
    async with hosted(app, naps(app)) as (http, _):
        answer = await http.request(method, "/x", content=b"h\xe9llo" if method != "GET" else b"")
        assert (answer.status_code, answer.json()) == (201, "héllo" if method != "GET" else "")
        assert len(answer.headers.get_list("set-cookie")) == 2 and len(answer.history) == 1
        forged = {"x-run-id": "01KAP5Z3M0000000000000000A", "x-inngest-signature": "", "x-request-id": "first"}
        assert (await http.get("/x", headers=forged)).status_code == 401


async def test_callers_are_led_to_the_proxy_or_to_the_server() -> None:
    app = App("shop")
    endpoint = naps(app)
    async with hosted(app, endpoint.with_options(async_redirect_url="/wait")) as (http, _):
        answer = await http.get("/x")
        assert answer.url.path == "/wait" and answer.status_code == 201
    async with hosted(app, endpoint) as (http, _):
        use_server(app, base_url=str(http.base_url.join("/engine")), is_dev=True)
        answer = await http.get("/x")
        assert answer.url.path.startswith("/engine/v1/http/runs/") and answer.status_code == 201


async def test_a_stream_goes_on_where_it_is_told() -> None:
    app = App("shop")
    async with hosted(app, naps(app)) as (http, _):
        direct = events_in((await http.get("/x", headers=SSE)).text)
        assert [name for name, _ in direct] == ["metadata", "stream", "commit", "redirect_info"]
        relayed = (await http.get(direct[-1][1]["url"], headers=SSE)).text
    told = [line.removeprefix("event: inngest.") for line in relayed.splitlines() if line.startswith("event:")]
    assert told[-3:] == ["stream", "commit", "response"] and '"statusCode":201' in relayed


async def test_a_failure_is_told(tmp_path: Path) -> None:
    app = App("shop")

    @app.endpoint(retries=1)
    async def handler(request: Request) -> Json:
        if request.query_params.get("final"):
            raise NonRetriableError("never")
        raise RuntimeError("boom")

    async with hosted(app, handler) as (http, _):
        later = await http.get("/x")
        assert later.status_code == 500 and later.json()["error"]["message"] == "boom"
        now = await http.get("/x?final=1")
        assert now.status_code == 400 and now.json() == {"name": "NonRetriableError", "message": "never"}


async def test_a_step_that_failed_for_good_is_caught_in_the_same_request() -> None:
    app = App("shop")

    def fails() -> None:
        stream.push("no")
        raise NonRetriableError("no such card")

    @app.endpoint()
    async def handler(request: Request) -> Json:
        try:
            await step.run("a", fails)
        except StepError as error:
            return [error.message, await step.run("b", lambda: 2)]

    async with hosted(app, handler) as (http, _):
        answer = await http.get("/x")
        assert (answer.status_code, answer.json(), answer.history) == (200, ["no such card", 2], [])
        names = [name for name, _ in events_in((await http.get("/x", headers=SSE)).text)]
        assert names == ["metadata", "stream", "rollback", "redirect_info", "commit", "response"]


async def test_a_run_survives_its_process(tmp_path: Path) -> None:
    done: list[str] = []

    def count() -> int:
        done.append("a")
        return len(done)

    def make() -> tuple[App, Endpoint]:
        app = App("shop")

        @app.endpoint()
        async def handler(request: Request) -> Json:
            first = await step.run("a", count)
            await step.sleep("nap", 0.4)
            return first

        return app, handler

    db = str(tmp_path / "shop.db")
    app, endpoint = make()
    async with hosted(app, endpoint, db) as (http, _):
        led = await http.get("/x", follow_redirects=False)
        address = http.base_url
    assert led.status_code == 302
    app, endpoint = make()
    async with (
        perdure.embedded(app, db=db, retry_interval=20),
        # The same address, as after a restart.
        asgi_server(Starlette(routes=[Route("/x", endpoint)]), port=address.port) as url,
        httpx2.AsyncClient(base_url=url, timeout=20) as http,
    ):
        answer = await http.get(led.headers["location"])
    assert answer.json() == 1 and done == ["a"]


async def test_wsgi_beside_an_engine() -> None:
    app = App("shop")
    async with (
        perdure.embedded(app, db=":memory:"),
        wsgi_server(wsgi(naps(app))) as url,
        httpx2.AsyncClient(base_url=url, follow_redirects=True, timeout=20) as http,
    ):
        answer = await http.post("/x", content=b"hello")
        assert (answer.status_code, answer.json()) == (201, "hello")


async def test_head_waits_like_get() -> None:
    app = App("shop")
    async with hosted(app, naps(app)) as (http, _):
        answer = await http.head("/x")
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (201, b"", "2")


@pytest.mark.parametrize("body", [b"\xff" * (4 * 1024 * 1024 - 1), b"\x01" * 1024 * 1024], ids=["bytes", "text"])
async def test_an_answer_that_no_record_holds_ends_its_run(body: bytes) -> None:
    app = App("shop")
    runs: list[str] = []

    @app.endpoint()
    async def handler(request: Request) -> Response:
        runs.append(request.scope["perdure.run_id"])
        await step.run("a", lambda: 1)
        if "wait" in request.query_params:
            await step.sleep("nap", 0.01)
        return Response(body)

    async with hosted(app, handler) as (http, node):
        assert (await http.get("/x")).content == body
        await until(lambda: node.runner.resident(runs[0]) is None)
        run = await node.view(lambda: reads.run_by_id(runs[0]))
        assert run is not None and run.status == RunStatus.COMPLETED
        answer = await http.get("/x?wait=1")
        assert answer.status_code == 500 and answer.json()["error"]["name"] == "ResponseTooLargeError"


async def test_an_output_is_let_go_when_its_reader_leaves() -> None:
    app = App("shop")
    asked = asyncio.Event()
    left = asyncio.Event()

    async def receive() -> Message:
        await asked.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    @asynccontextmanager
    async def opened(*_: object) -> AsyncGenerator[Reply]:
        asked.set()
        try:
            await asyncio.Event().wait()
            yield Reply(200, [], empty())
        finally:
            left.set()

    async with perdure.embedded(app, db=":memory:"):
        link = link_of(app)
        link.outbound.open = opened  # type: ignore[method-assign, assignment]  # pyright: ignore[reportAttributeAccessIssue]
        scope: Scope = {"type": "http", "method": "GET", "headers": [], "query_string": b"runId=R&token=T"}
        await asyncio.wait_for(app.endpoint_proxy()(scope, receive, send), 5)
        assert left.is_set()


async def empty() -> AsyncGenerator[bytes]:
    yield b""


@pytest.mark.parametrize("host", ["[", "a b", "evil.test/path?", "user@evil.test"])
async def test_a_host_that_is_none_is_refused(host: str) -> None:
    app = App("shop")
    async with hosted(app, naps(app)) as (http, _):
        answer = await http.get("/x", headers={"host": host})
        assert (answer.status_code, answer.json()["name"]) == (400, "BadHostError")


async def test_a_task_after_the_response_does_not_fail_the_run() -> None:
    app = App("shop")

    def fails() -> None:
        raise ValueError("too late")

    @app.endpoint()
    async def handler(request: Request) -> Response:
        found = await step.run("a", lambda: 1)
        if "wait" in request.query_params:
            await step.sleep("nap", 0.01)
        return JSONResponse(found, background=BackgroundTask(fails))

    async with hosted(app, handler) as (http, _):
        for url in ("/x", "/x?wait=1"):
            answer = await http.get(url)
            assert (answer.status_code, answer.json()) == (200, 1)


async def test_half_a_character_in_an_error() -> None:
    app = App("shop")

    @app.endpoint()
    async def handler(request: Request) -> Response:
        raise NonRetriableError("no file \udcff")

    async with hosted(app, handler) as (http, _):
        answer = await http.get("/x")
        assert (answer.status_code, answer.json()["message"]) == (400, "no file ?")


async def test_a_wsgi_server_that_wants_no_body_holds_up_nothing() -> None:
    app = App("shop")
    made = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(100):
            yield b"x"
        made.set()

    @app.endpoint()
    async def handler(request: Request) -> Response:
        return StreamingResponse(pieces())

    def ask() -> None:
        environ = {"REQUEST_METHOD": "HEAD", "PATH_INFO": "/x", "wsgi.url_scheme": "http", "wsgi.input": BytesIO()}
        body: Json = wsgi(handler)(environ, lambda *_: bytes.__len__)
        body.close()

    async with perdure.embedded(app, db=":memory:"):
        await asyncio.to_thread(ask)
        await asyncio.wait_for(made.wait(), 5)


async def test_later_calls_go_where_the_app_says_and_not_where_its_caller_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("INNGEST_DEV", "PERDURE_DEV", "INNGEST_SIGNING_KEY", "PERDURE_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    app = App("shop")
    async with hosted(app, naps(app)) as (http, _):
        use_server(app, serve_origin=str(http.base_url))
        answer = await http.get("/x", headers={"host": "127.0.0.1:9"}, follow_redirects=False)
        query = answer.headers["location"].partition("?")[2]
        assert (await http.get(f"/x?{query}")).status_code == 201
