"""Endpoints in the frameworks that route to them, under a server that the test plays."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from importlib import import_module
from typing import Annotated

import httpx2
import litestar
import pytest
from fastapi import Depends, FastAPI, Request
from flask import Flask, Response, abort, jsonify
from flask import request as flask_request
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from perdure import App, step
from perdure.model.json import Json
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.stream import stream
from perdure.sdk.sync import stream as blocking_stream
from perdure.serving import use_server
from perdure.serving.endpoints import checkpoints
from perdure.serving.endpoints.bridge import django_view, flask_view, wsgi
from perdure.sync import step as blocking
from tests.support.django_site import django_site
from tests.support.endpoint_server import EndpointServer, endpoint_server, events_in, until
from tests.support.hosting import asgi_server, wsgi_server

SSE = {"accept": "text/event-stream"}


class Order(BaseModel):
    """What is ordered."""

    item: str


async def tenant_of(request: Request) -> str:
    return request.query_params.get("tenant", "none")


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


def naps(app: App) -> Endpoint:
    @app.endpoint()
    async def handler(request: StarletteRequest) -> Json:
        body = (await request.body()).decode()
        await step.run("a", lambda: stream.push("chunk"))
        if request.query_params.get("nap"):
            await step.sleep("nap", "1s")
        return JSONResponse([body, request.url.path, await step.run("b", lambda: 2)], 201)

    return handler


async def exercise(http: httpx2.AsyncClient, server: EndpointServer, path: str = "/x") -> None:
    """The three ways of an answer: at once, later, and streamed."""
    wanted = ["hello", path, 2]
    direct = await http.post(path, content="hello")
    assert (direct.status_code, direct.json()) == (201, wanted)
    await until(lambda: server.run.over)
    server.runs.clear()
    led = await http.post(f"{path}?nap=1", content="hello")
    assert led.status_code == 303
    run = await server.play(http)
    async with httpx2.AsyncClient() as outside:
        output = await outside.get(led.headers["location"])
    assert (output.status_code, output.json()) == (201, wanted)
    assert run.request["path"] == path
    server.runs.clear()
    streamed = await http.post(path, content="hello", headers=SSE)
    names = [name for name, _ in events_in(streamed.text)]
    assert names == ["metadata", "stream", "commit", "redirect_info", "commit", "response"]


def starlette_route(endpoint: Endpoint) -> Json:
    return Starlette(routes=[Route("/x", endpoint, methods=["POST"])])


def starlette_mount(endpoint: Endpoint) -> Json:
    return Starlette(routes=[Mount("/x", endpoint)])


async def _pass(request: StarletteRequest, call_next: Json) -> Json:
    return await call_next(request)


def behind_middleware(endpoint: Endpoint) -> Json:
    routes = [Route("/x", endpoint, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=_pass)])


def fastapi_route(endpoint: Endpoint) -> Json:
    api = FastAPI()
    api.add_route("/x", endpoint, methods=["POST"])
    return api


def fastapi_operation(endpoint: Endpoint) -> Json:
    api = FastAPI()
    api.post("/x", response_model=None)(endpoint)
    return api


def litestar_route(endpoint: Endpoint) -> Json:
    return litestar.Litestar([litestar.asgi("/x", copy_scope=True)(endpoint.asgi)])


@pytest.mark.parametrize(
    "make", [starlette_route, starlette_mount, behind_middleware, fastapi_route, fastapi_operation, litestar_route]
)
async def test_asgi(app: App, server: EndpointServer, make: Callable[[Endpoint], Json]) -> None:
    path = "/x/" if make is starlette_mount else "/x"
    async with asgi_server(make(naps(app))) as url, httpx2.AsyncClient(base_url=url) as http:
        await exercise(http, server, path)


async def test_alone(app: App, server: EndpointServer) -> None:
    async with asgi_server(naps(app).asgi) as url, httpx2.AsyncClient(base_url=url) as http:
        await exercise(http, server)


async def test_fastapi_gives_what_handlers_ask_for(app: App, server: EndpointServer) -> None:
    api = FastAPI()

    @api.post("/orders/{number}")
    @app.endpoint()
    async def order(request: Request, number: int, order: Order, tenant: Annotated[str, Depends(tenant_of)]) -> Json:
        await step.sleep("nap", "1s")
        return [number, order.item, tenant, await request.json()]

    @api.get("/plain")
    @app.endpoint()
    def plain(request: Request, n: int = 1) -> dict[str, int]:
        return {"n": blocking.run("a", lambda: n)}

    async with asgi_server(api) as url, httpx2.AsyncClient(base_url=url) as http:
        assert (await http.post("/orders/17?tenant=t", json={"item": "book"})).status_code == 303
        run = await server.play(http)
        assert run.result["body"] == '[17,"book","t",{"item":"book"}]'
        assert (await http.post("/orders/17", json={})).status_code == 422
        assert (await http.get("/plain?n=5")).json() == {"n": 5}


async def test_a_handler_must_take_the_request(app: App) -> None:
    @app.endpoint()
    async def handler(n: int = 1) -> int:
        return n

    with pytest.raises(Exception, match="got no request"):
        await handler(n=1)


async def test_wsgi(app: App, server: EndpointServer) -> None:
    async with wsgi_server(wsgi(naps(app))) as url, httpx2.AsyncClient(base_url=url) as http:
        await exercise(http, server)


async def test_flask(app: App, server: EndpointServer) -> None:
    api = Flask("api")

    @app.endpoint()
    def order(number: int) -> Json:
        if number == 404:
            abort(404)
        body = flask_request.get_data(as_text=True)
        blocking.run("a", lambda: blocking_stream.push("chunk"))
        if flask_request.args.get("nap"):
            blocking.sleep("nap", "1s")
        response: Response = jsonify([body, flask_request.path, blocking.run("b", lambda: 2)])
        response.set_cookie("seen", str(number))
        return response, 201

    api.add_url_rule("/orders/<int:number>", view_func=flask_view(order), methods=["POST"])
    async with wsgi_server(api) as url, httpx2.AsyncClient(base_url=url) as http:
        await exercise(http, server, "/orders/17")
        server.runs.clear()
        assert (await http.post("/orders/404")).status_code == 404
        assert (await http.post("/orders/1")).headers["set-cookie"].startswith("seen=1")


async def test_django(app: App, server: EndpointServer) -> None:
    http_of = import_module("django.http")

    @app.endpoint()
    def order(request: Json, number: int) -> Json:
        if number == 404:
            raise http_of.Http404("no such order")
        blocking.run("a", lambda: blocking_stream.push("chunk"))
        if request.GET.get("nap"):
            blocking.sleep("nap", "1s")
        told = [request.body.decode(), request.path, blocking.run("b", lambda: 2)]
        response = http_of.JsonResponse(told, safe=False, status=201)
        response.set_cookie("seen", str(number))
        response.set_cookie("twice", "2")
        return response

    site = django_site(("orders/<int:number>", django_view(order)))
    async with wsgi_server(site) as url, httpx2.AsyncClient(base_url=url) as http:
        await exercise(http, server, "/orders/17")
        server.runs.clear()
        assert (await http.post("/orders/404")).status_code == 404
        assert len((await http.post("/orders/1")).headers.get_list("set-cookie")) == 2
