"""Served apps in real frameworks, called by a real server: what docs/serving.md shows works.

Each framework's way in is a function that gives its application; the URL under which it serves the app is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Unpack

import aiohttp
import flask
import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import perdure
from perdure import App, Context, StepError, step
from perdure.client import Client
from perdure.model.json import Json
from perdure.serving import ServeOptions, django_view, wsgi
from perdure.sync import step as blocking
from tests.support.dev_server import DevServer
from tests.support.django_site import django_site
from tests.support.hosting import asgi_server, wsgi_server

PATH = "/api/inngest"
KEY = "signkey-prod-" + "5e" * 32
EVENT_KEY = "a-key-for-events"


def shop() -> App:
    app = App("shop")
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise ValueError("not yet")
        return "at last"

    @app.function("boom", trigger="t/boom", retries=0)
    async def boom(ctx: Context) -> None:
        raise RuntimeError("no")

    @app.function("child", trigger="t/child")
    def child(ctx: Context) -> int:
        return blocking.run("double", lambda: int(ctx.event.data["n"]) * 2)

    @app.function("every", trigger="t/every", retries=2)
    async def every(ctx: Context) -> dict[str, Json]:
        # What is attempted again waits a quarter of a minute where production is.
        found: dict[str, Json] = {"flaky": await step.run("flaky", flaky)} if ctx.event.data.get("flaky", True) else {}
        found["beside"] = await asyncio.gather(
            step.run("p1", lambda: 1), step.sleep("nap", 0.02), step.run("p2", lambda: 2)
        )
        found["child"] = await step.invoke("child", child, data={"n": 4})
        found["sent"] = len(await step.send_event("send", [{"name": "t/other"}, {"name": "t/other"}]))
        found["waited"] = await step.wait_for_event("wait", event="t/never", timeout="20ms")
        found["signalled"] = await step.send_signal("signal", signal="nobody")
        try:
            await step.invoke("bad", boom)
        except StepError as error:
            found["failed"] = [error.name, error.message]
        return found

    return app


WANTED = {
    "beside": [1, None, 2],
    "child": 8,
    "sent": 2,
    "waited": None,
    "signalled": False,
    "failed": ["RuntimeError", "no"],
}


def fastapi_route(app: App, **options: Unpack[ServeOptions]) -> ASGIApp:
    api = FastAPI()
    api.routes.append(Route(PATH, perdure.serve(app, **options)))
    return api


def fastapi_mount(app: App, **options: Unpack[ServeOptions]) -> ASGIApp:
    api = FastAPI()
    api.mount(PATH, perdure.serve(app, **options))
    return api


def starlette(app: App, **options: Unpack[ServeOptions]) -> ASGIApp:
    served = perdure.serve(app, **options)
    return Starlette(routes=[Mount("/inner", routes=[Route(PATH, served)]), Route(PATH, served)])


def behind_middleware(app: App, **options: Unpack[ServeOptions]) -> ASGIApp:
    """Middleware of this kind gives the application a way of receiving of its own."""

    async def passed_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        answer = await call_next(request)
        answer.headers["x-seen"] = "yes"
        return answer

    routes = [Route(PATH, perdure.serve(app, **options))]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed_on)])


def litestar(app: App, **options: Unpack[ServeOptions]) -> Json:
    return Litestar([asgi(PATH, is_mount=True, copy_scope=True)(perdure.serve(app, **options))])


def alone(app: App, **options: Unpack[ServeOptions]) -> ASGIApp:
    return perdure.serve(app, **options)


def flask_dispatcher(app: App, **options: Unpack[ServeOptions]) -> Json:
    site = flask.Flask("site")
    site.wsgi_app = DispatcherMiddleware(site.wsgi_app, {PATH: wsgi(app, **options)})  # type: ignore[method-assign]
    return site


def django_pages(app: App, **options: Unpack[ServeOptions]) -> Json:
    return django_site((PATH[1:], django_view(app, **options)))


ASGI = [fastapi_route, fastapi_mount, starlette, behind_middleware, litestar, alone]
WSGI = [flask_dispatcher, django_pages]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[DevServer, None]:
    with DevServer(tmp_path, "--db", ":memory:", "--no-discovery", "--no-poll", "--retry-interval", "0.05") as started:
        yield started


async def sync(url: str, **headers: str) -> Json:
    async with aiohttp.ClientSession() as session, session.put(url, json={}, headers=headers) as answer:
        return await answer.json()


async def outcome(client: Client, **data: Json) -> Json:
    """Sends an event, and waits for the result of the run that it starts."""
    (event_id,) = await client.send({"name": "t/every", "data": data})
    for _ in range(400):
        for run_id in await client.runs_of_event(event_id):
            run = await client.get_run(run_id)
            if run.status not in ("QUEUED", "RUNNING"):
                return run.output if run.status == "COMPLETED" else run
        await asyncio.sleep(0.02)
    raise AssertionError("the run did not end")


@pytest.mark.parametrize("make", ASGI, ids=lambda make: make.__name__)
async def test_asgi(server: DevServer, make: Callable[..., ASGIApp]) -> None:
    app = shop()
    async with asgi_server(make(app, is_dev=True, base_url=server.url)) as url, Client(server.url) as client:
        assert (await sync(url + PATH))["ok"] is True
        assert await outcome(client) == {**WANTED, "flaky": "at last"}
        assert len(await app.send([{"name": "t/one"}, {"name": "t/two"}])) == 2


@pytest.mark.parametrize("make", WSGI, ids=lambda make: make.__name__)
async def test_wsgi(server: DevServer, make: Callable[..., Json]) -> None:
    app = shop()
    async with wsgi_server(make(app, is_dev=True, base_url=server.url)) as url, Client(server.url) as client:
        assert (await sync(url + PATH))["ok"] is True
        assert await outcome(client) == {**WANTED, "flaky": "at last"}
        sent = await asyncio.to_thread(perdure.sync.send, app, [{"name": "t/one"}, {"name": "t/two"}])
        assert len(sent) == 2


async def test_without_checkpoints(server: DevServer) -> None:
    served = perdure.serve(shop(), is_dev=True, base_url=server.url, checkpointing=False)
    async with asgi_server(served) as url, Client(server.url) as client:
        await sync(url + PATH)
        assert await outcome(client) == {**WANTED, "flaky": "at last"}


@pytest.mark.parametrize("make", [fastapi_route, flask_dispatcher], ids=lambda make: make.__name__)
async def test_in_production_with_keys(tmp_path: Path, make: Callable[..., Json]) -> None:
    options = ["--event-key", EVENT_KEY, "--signing-key", KEY, "--db", str(tmp_path / "p.db")]
    with DevServer(tmp_path, *options, command="start") as server:
        made = make(shop(), signing_key=KEY, event_key=EVENT_KEY, base_url=server.url)
        host = wsgi_server if make in WSGI else asgi_server
        async with host(made) as url, Client(server.url, event_key=EVENT_KEY, signing_key=KEY) as client:
            assert (await sync(url + PATH))["ok"] is True
            assert await outcome(client, flaky=False) == WANTED


async def test_the_example(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_DEV", server.url)
    place = Path(__file__).parents[2] / "examples" / "served_app.py"
    spec = spec_from_file_location("served_app", place)
    assert spec is not None and spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    async with asgi_server(example.web) as url, Client(server.url) as client, aiohttp.ClientSession() as session:
        await sync(url + PATH)
        async with session.post(f"{url}/orders/17") as answer:
            event_id = (await answer.json())["event"]
        for _ in range(200):
            # It is waited for from the moment that both steps are done; what comes before that is missed.
            await client.send({"name": "served/order.collected", "data": {"order": "17"}})
            runs = [await client.get_run(run_id) for run_id in await client.runs_of_event(event_id)]
            if runs and runs[0].status == "COMPLETED":
                assert runs[0].output == "order 17 was collected"
                return
            await asyncio.sleep(0.02)
    raise AssertionError("the run did not end")
