"""`@app.endpoint` at its edges: headers of any bytes, bodies that are too large, addresses that fail, and silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import httpx2
import pytest
from fastapi import FastAPI
from flask import Flask
from flask import request as flask_request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure import App, step
from perdure.model.json import Json
from perdure.model.values import UnserializableError
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.stream import stream
from perdure.serving import use_server
from perdure.serving.endpoints import caller
from perdure.serving.endpoints.bridge import django_view, flask_view, wsgi
from tests.support.django_site import django_site
from tests.support.endpoint_server import EndpointServer, endpoint_server, events_in
from tests.support.hosting import asgi_server, wsgi_server

SSE = {"accept": "text/event-stream"}
LATIN, UTF = "é".encode("latin-1"), "é€".encode()


@pytest.fixture
async def server() -> AsyncGenerator[EndpointServer, None]:
    async with endpoint_server() as started:
        yield started


@pytest.fixture
def app(server: EndpointServer) -> App:
    app = App("shop")
    use_server(app, base_url=server.url, is_dev=True)
    return app


@asynccontextmanager
async def client(endpoint: Endpoint) -> AsyncGenerator[httpx2.AsyncClient, None]:
    """A client of an application that routes to the endpoint."""
    application = Starlette(routes=[Route("/x", endpoint, methods=["GET", "POST"])])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://app.test") as http:
        yield http


async def naps(request: Request) -> Json:
    await step.run("a", lambda: stream.push("x"))
    await step.sleep("nap", "1s")
    return "done"


# Headers.


async def test_headers_of_any_bytes_are_the_same_later(app: App, server: EndpointServer) -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    @app.endpoint(capture_headers=["X-Latin", "X-Utf", "X-Twice", "Cookie"])
    async def handler(request: Request) -> Response:
        kept = (b"x-latin", b"x-utf", b"x-twice", b"cookie", b"content-type")
        seen.append([(name, request.headers.get(name.decode(), "-").encode("latin-1")) for name in kept])
        await step.sleep("nap", "1s")
        return Response(b"", headers={"x-told": LATIN.decode("latin-1")})

    pairs = [
        (b"x-latin", LATIN), (b"x-utf", UTF), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"cookie", b"a=1"),
    ]  # fmt: skip
    async with client(handler) as http:
        assert (await http.post("/x", headers=pairs, content=b"body")).status_code == 303
        run = await server.play(http)
    # What a framework says of a header in two lines is the first; later they are one line.
    assert seen[0][:2] == seen[1][:2] == [(b"x-latin", LATIN), (b"x-utf", UTF)]
    assert seen[1][2:] == [(b"x-twice", b"1, 2"), (b"cookie", b"a=1"), (b"content-type", b"-")]
    assert run.result["headers"]["x-told"] == "é"


async def test_an_output_with_headers_of_any_bytes_is_passed_on(app: App, server: EndpointServer) -> None:
    async def output(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nx-told: " + LATIN + b"\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    upstream = await asyncio.start_server(output, "127.0.0.1", 0)
    async with upstream:
        use_server(app, base_url=f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}", is_dev=True)
        application = Starlette(routes=[Route("/wait", app.endpoint_proxy())])
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://app") as http:
            answer = await http.get("/wait?runId=R&token=T")
    assert answer.text == "ok" and (b"x-told", LATIN) in [(name.lower(), value) for name, value in answer.headers.raw]


# Where callers are led.


def _raises(run_id: str, token: str) -> str:
    raise LookupError("no such page")


async def _nothing(run_id: str, token: str) -> Json:
    return None


@pytest.mark.parametrize(("given", "why"), [(_raises, "LookupError: no such page"), (_nothing, "must give a URL")])
@pytest.mark.parametrize("exposed", [True, False])
async def test_an_address_that_fails_is_told_and_the_run_goes_on(
    app: App, server: EndpointServer, given: Json, why: str, exposed: bool
) -> None:
    endpoint = app.endpoint(async_redirect_url=given, stream_url=given, expose_errors=exposed)(naps)
    async with client(endpoint) as http:
        answer = await http.get("/x")
        told = answer.json()
        assert (answer.status_code, told["name"], told["run_id"]) == (500, "RedirectError", server.run.id)
        assert "the run goes on" in told["message"] and "async_redirect_url" in told["message"]
        assert (why in told["message"]) == exposed
        assert (await server.play(http)).result["body"] == '"done"'
        server.runs.clear()
        events = events_in((await http.get("/x", headers=SSE)).text)
        assert [name for name, _ in events] == ["metadata", "stream", "commit", "response"]
        assert events[-1][1]["status"] == "failed" and "stream_url" in events[-1][1]["response"]["body"]
        assert (await server.play(http)).result["body"] == '"done"'


async def test_a_stream_that_needs_no_address_does_not_mind_one_that_fails(app: App, server: EndpointServer) -> None:
    @app.endpoint(stream_url=_raises)
    async def handler(request: Request) -> Json:
        return await step.run("a", lambda: stream.push("x"))

    async with client(handler) as http:
        events = events_in((await http.get("/x", headers=SSE)).text)
    assert [name for name, _ in events] == ["metadata", "stream", "commit", "response"]
    assert events[-1][1]["status"] == "succeeded"


async def test_an_address_with_anything_in_it_fits_into_a_header(app: App, server: EndpointServer) -> None:
    endpoint = app.endpoint(async_redirect_url=lambda run_id, token: "/à la carte?x=1\r\nset-cookie: a=b")(naps)
    async with client(endpoint) as http:
        answer = await http.get("/x")
    assert answer.status_code == 302 and "set-cookie" not in answer.headers
    assert answer.headers["location"] == "/%C3%A0%20la%20carte?x=1%0D%0Aset-cookie:%20a=b"


async def test_a_stream_names_the_output_too(app: App, server: EndpointServer) -> None:
    async with client(app.endpoint(async_redirect_url="/wait")(naps)) as http:
        events = events_in((await http.get("/x", headers=SSE)).text)
    run_id = server.run.id
    assert events[-1][0] == "redirect_info"
    assert events[-1][1]["outputUrl"] == f"http://app.test/wait?runId={run_id}&token=T-{run_id}"


# Silence.


async def test_a_stream_that_is_silent_is_kept_alive(
    app: App, server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "KEEPALIVE", 0.02)

    async def slowly() -> None:
        stream.push("x")
        await asyncio.sleep(0.15)
        stream.push("y")

    @app.endpoint()
    async def handler(request: Request) -> Json:
        return await step.run("a", slowly)

    async with asgi_server(Starlette(routes=[Route("/x", handler)])) as url, httpx2.AsyncClient() as http:
        text = (await http.get(f"{url}/x", headers=SSE)).text
    assert text.count(":\n\n") >= 3
    names = [name for name, _ in events_in(text.replace(":\n\n", ""))]
    assert names == ["metadata", "stream", "stream", "commit", "redirect_info", "response"]


async def test_a_chunk_that_is_no_json_is_an_error_where_it_is_pushed(app: App, server: EndpointServer) -> None:
    caught: list[Exception] = []

    def say() -> str:
        try:
            stream.push({"at": object()})
        except UnserializableError as error:
            caught.append(error)
        stream.push("said")
        return "done"

    @app.endpoint()
    async def handler(request: Request) -> Json:
        return await step.run("a", say)

    async with client(handler) as http:
        events = events_in((await http.get("/x", headers=SSE)).text)
    assert "a chunk of the stream" in str(caught[0])
    assert [data["data"] for name, data in events if name == "stream"] == ["said"]


# Bodies.

LIMIT = 100_000


class Sent:
    """A body in pieces."""

    def __init__(self, pieces: int = 400) -> None:
        self.left = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.left:
            self.left -= 1
            yield b"x" * 10_000


def limited(app: App, handler: Json) -> Endpoint:
    return app.endpoint(max_body=LIMIT)(handler)


async def echo(request: Request) -> Json:
    return len(await request.body())


def fastapi_operation(app: App) -> Json:
    api = FastAPI()

    @api.post("/x")
    @app.endpoint(max_body=LIMIT)
    async def operation(request: Request, n: int = 1) -> Json:
        return len(await request.body())

    return api


def starlette_route(app: App) -> Json:
    return Starlette(routes=[Route("/x", limited(app, echo), methods=["POST"])])


async def _posted(application: Json, declared: bool) -> tuple[int, int, bytes]:
    """Posts four megabytes: how many pieces were asked for, and the answer."""
    asked = 0
    said: list[Json] = []

    async def receive() -> Json:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 10_000, "more_body": asked < 400}

    async def send(message: Json) -> None:
        said.append(message)

    headers = [(b"host", b"app.test"), *([(b"content-length", b"4000000")] if declared else [])]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/x", "raw_path": b"/x", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("app.test", 80),
    }  # fmt: skip
    await application(scope, receive, send)
    return asked, said[0]["status"], said[1]["body"]


@pytest.mark.parametrize("make", [starlette_route, fastapi_operation])
async def test_a_body_that_is_too_large_is_not_read_to_its_end(app: App, server: EndpointServer, make: Json) -> None:
    application = make(app)
    for declared in (True, False):
        asked, status, body = await _posted(application, declared)
        assert status == 413 and b"BodyTooLargeError" in body
        assert asked <= (1 if declared else 12)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://app.test") as http:
        assert (await http.post("/x", content=b"y" * LIMIT)).json() == LIMIT
        assert (await http.post("/x", content=Sent(400))).status_code == 413
    assert len(server.runs) == 1


async def test_a_body_that_a_framework_has_read_already_is_limited_too(app: App, server: EndpointServer) -> None:
    api = FastAPI()

    @api.post("/x")
    @app.endpoint(max_body=100)
    async def operation(request: Request, sent: dict[str, str]) -> Json:
        return [sent, (await request.body()).decode()]

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://app.test") as http:
        assert (await http.post("/x", json={"a": "b"})).json() == [{"a": "b"}, '{"a":"b"}']
        assert (await http.post("/x", json={"a": "b" * 100})).status_code == 413


def flask_site(app: App) -> Json:
    api = Flask("api")

    def handler() -> Json:
        return [len(flask_request.get_data())]

    api.add_url_rule("/x", view_func=flask_view(limited(app, handler)), methods=["POST"])
    return api


def django_pages(app: App) -> Json:
    def handler(request: Json) -> Json:
        return import_module("django.http").JsonResponse([len(request.body)], safe=False)

    return django_site(("x", django_view(limited(app, handler))))


def plain_wsgi(app: App) -> Json:
    def handler(request: Request) -> Json:
        return [LIMIT]

    return wsgi(limited(app, handler))


class Counted:
    """The input of a request of WSGI, which counts what is read of it."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        count = self.left if size < 0 else min(size, self.left)
        self.left -= count
        self.taken += count
        return b"x" * count

    def readline(self, size: int = -1) -> bytes:
        return self.read(size)


@pytest.mark.parametrize(
    ("make", "declared"),
    # Django reads nothing without a length.
    [(flask_site, True), (flask_site, False), (django_pages, True), (plain_wsgi, True), (plain_wsgi, False)],
)
async def test_a_body_of_wsgi_that_is_too_large_is_not_read_to_its_end(
    app: App, server: EndpointServer, make: Json, declared: bool
) -> None:
    site, given, told = make(app), Counted(4_000_000), []
    environ: dict[str, Json] = {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/x", "QUERY_STRING": "", "SERVER_NAME": "app.test",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": given, "wsgi.errors": None, "wsgi.multithread": True, "wsgi.multiprocess": False,
        "wsgi.run_once": False, "wsgi.input_terminated": True, "HTTP_HOST": "app.test",
    }  # fmt: skip
    if declared:
        environ["CONTENT_LENGTH"] = "4000000"

    def start(status: str, headers: Json, _: Json = None) -> None:
        told.append(status)

    body = await asyncio.to_thread(lambda: b"".join(site(environ, start)))
    assert told[0].startswith("413") and b"BodyTooLargeError" in body
    assert given.taken <= (0 if declared else LIMIT + 100_000)
    async with wsgi_server(site) as url, httpx2.AsyncClient() as http:
        assert (await http.post(f"{url}/x", content=b"y" * LIMIT)).json() == [LIMIT]
