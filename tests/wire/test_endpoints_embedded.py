"""Endpoints of an app that an engine runs in the same process: nothing is configured, and nothing is outside."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import perdure
from perdure import App, Node, NonRetriableError, step
from perdure.model.json import Json
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.stream import stream
from perdure.serving import use_server
from perdure.serving.endpoints.bridge import wsgi
from tests.support.endpoint_server import events_in
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
