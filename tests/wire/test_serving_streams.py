"""What served functions stream: told to their server while they go on, one body a call, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import httpx2
import pytest

from perdure import App, Context, NonRetriableError, serve, step, stream
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.model.keys import SigningKey
from perdure.model.streams import StreamTooLargeError
from perdure.serving.asgi import ServedApp
from perdure.serving.endpoint import Endpoint
from perdure.serving.settings import ServeOptions, resolve
from perdure.sync import step as blocking
from perdure.sync import stream as plain_stream
from tests.support.endpoint_server import events_in
from tests.support.fake_server import NOW, RUN_ID, FakeServer, fake_server
from tests.support.hosting import asgi_server
from tests.support.realtime import token
from tests.support.sockets import served

A, B = step_hash("a"), step_hash("b")
KEY, OLD_KEY = "signkey-prod-" + "ab" * 16, "signkey-prod-" + "cd" * 16
META: tuple[str, Json] = ("metadata", {"runId": RUN_ID})


@pytest.fixture
async def server() -> AsyncGenerator[FakeServer, None]:
    async with fake_server() as started:
        yield started


async def play(app: App, server: FakeServer, **more: Json) -> Json:
    """What a run of the one function comes to: its result, or its error."""
    options: ServeOptions = {"base_url": server.url, "is_dev": True, "checkpointing": more.pop("checkpointing", True)}
    options.update(more.pop("keys", {}))
    transport = httpx2.ASGITransport(ServedApp(Endpoint(app, resolve(options, {}), lambda: NOW)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.test:3000") as server.http:
        ended = await server.play("shop-f", **more)
    return ended.error if ended.error is not None else ended.result


def data(value: Json, step_id: str | None = None) -> tuple[str, Json]:
    return "stream", {"data": value, **({} if step_id is None else {"hashedStepId": step_id})}


def commit(step_id: str) -> tuple[str, Json]:
    return "commit", {"hashedStepId": step_id}


def rollback(step_id: str) -> tuple[str, Json]:
    return "rollback", {"hashedStepId": step_id}


def told(server: FakeServer) -> list[list[tuple[str, Json]]]:
    return [events_in(body.decode()) for body in server.told]


def two_steps(name: str = "shop") -> App:
    app = App(name)

    async def words() -> AsyncIterator[str]:
        yield "x"
        yield "y"

    @app.function("f", trigger="t/start")
    async def f(ctx: Context) -> Json:
        stream.push("hi")
        await step.run("a", lambda: stream.push({"n": 1}))
        return [await step.run("b", lambda: stream.pipe(words()))]

    return app


async def test_what_steps_stream_is_told_and_committed_in_order(server: FakeServer) -> None:
    assert await play(two_steps(), server) == ["xy"]
    steps = [data({"n": 1}, A), commit(A), data("x", B), data("y", B), commit(B)]
    assert told(server) == [[META, data("hi"), *steps]]


async def test_without_checkpoints_there_is_a_body_for_each_call(server: FakeServer) -> None:
    assert await play(two_steps(), server, checkpointing=False) == ["xy"]
    assert told(server) == [
        [META, data("hi"), data({"n": 1}, A), commit(A)],
        [META, data("x", B), data("y", B), commit(B)],
    ]


@pytest.mark.parametrize("words", [1, 40])
async def test_a_server_that_knows_the_fallback_key_hears_it_all(server: FakeServer, words: int) -> None:
    app = App("shop")

    @app.function("f", trigger="t/start")
    async def f(ctx: Context) -> int:
        async def talk() -> AsyncIterator[str]:
            for word in range(words):
                yield f"{word}"
                await asyncio.sleep(0.005)

        return len(await step.run("a", lambda: stream.pipe(talk())))

    server.accepts = f"Bearer {SigningKey.parse(OLD_KEY).bearer}"
    keys: ServeOptions = {"signing_key": KEY, "signing_key_fallback": OLD_KEY}
    await play(app, server, keys=keys)
    said = [data(f"{word}", A) for word in range(words)]
    assert told(server) == [[META, *said, commit(A)]]
    tees = [headers["Authorization"] for _, path, headers in server.requests if "tee" in path]
    assert tees == [f"Bearer {SigningKey.parse(key).bearer}" for key in (KEY, OLD_KEY)]


async def test_what_a_failed_attempt_streamed_is_taken_back(server: FakeServer) -> None:
    app, tries = App("shop"), [0]

    def flaky() -> str:
        tries[0] += 1
        stream.push(tries[0])
        if tries[0] == 1:
            raise ValueError("not yet")
        return "done"

    @app.function("f", trigger="t/start")
    async def f(ctx: Context) -> str:
        return await step.run("a", flaky)

    assert await play(app, server) == "done"
    assert told(server) == [[META, data(1, A), rollback(A)], [META, data(2, A), commit(A)]]


async def test_what_a_call_streamed_that_the_server_gave_up_is_taken_back(server: FakeServer) -> None:
    server.refuse = 409
    error = await play(two_steps(), server)
    assert error["code"] == "stale_dispatch"
    assert told(server) == [[META, data("hi"), data({"n": 1}, A), rollback(A)]]


async def test_parallel_steps_stream_in_calls_of_their_own(server: FakeServer) -> None:
    app = App("shop")

    @app.function("f", trigger="t/start")
    async def f(ctx: Context) -> Json:
        return await asyncio.gather(step.run("a", lambda: stream.push("a")), step.run("b", lambda: stream.push("b")))

    assert await play(app, server) == [None, None]
    assert told(server) == [[META, data("a", A), commit(A)], [META, data("b", B), commit(B)]]


async def test_plain_functions_stream_from_their_threads(server: FakeServer) -> None:
    app = App("shop")

    def words() -> Iterator[str]:
        yield "x"
        yield "y"

    @app.function("f", trigger="t/start")
    def f(ctx: Context) -> str:
        return blocking.run("a", lambda: plain_stream.pipe(words()))

    assert await play(app, server) == "xy"
    assert told(server) == [[META, data("x", A), data("y", A), commit(A)]]


async def test_a_run_that_says_nothing_makes_no_request(server: FakeServer) -> None:
    app = App("shop")

    @app.function("f", trigger="t/start")
    async def f(ctx: Context) -> int:
        return await step.run("a", lambda: 1)

    assert await play(app, server) == 1
    assert not [path for _, path, _ in server.requests if "tee" in path]


@pytest.mark.parametrize("status", [404, 405, 401, 500])
async def test_a_server_that_takes_no_streams_changes_nothing(
    server: FakeServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.tee = status
    assert await play(two_steps(), server) == ["xy"]
    # One that does not know of streams is no fault of anybody's.
    assert bool(caplog.messages) == (status in (401, 500))


async def test_a_server_that_has_enough_is_an_error_where_more_is_pushed(server: FakeServer) -> None:
    app = App("shop")
    server.tee = 413

    async def talk() -> None:
        for number in range(10_000):
            stream.push(number)
            await asyncio.sleep(0.001)

    @app.function("f", trigger="t/start")
    async def f(ctx: Context) -> None:
        try:
            await step.run("a", talk)
        except Exception as error:
            raise NonRetriableError(str(error)) from error

    assert "the stream has enough" in (await play(app, server))["message"]
    assert issubclass(StreamTooLargeError, NonRetriableError)


async def test_a_chunk_that_is_no_json_is_an_error_where_it_is_pushed(server: FakeServer) -> None:
    app = App("shop")

    @app.function("f", trigger="t/start", retries=0)
    async def f(ctx: Context) -> None:
        await step.run("a", lambda: stream.push(object()))

    error = await play(app, server, retries=0)
    assert "a chunk of the stream" in error["message"] and not server.told


async def test_chunks_come_while_the_step_goes_on(server: FakeServer) -> None:
    app, gate = App("shop"), asyncio.Event()

    async def talk() -> None:
        stream.push("early")
        await gate.wait()

    @app.function("f", trigger="t/start")
    async def f(ctx: Context) -> None:
        await step.run("a", talk)

    playing = asyncio.create_task(play(app, server))
    async with asyncio.timeout(5):
        while not (server.told and b"early" in server.told[0]):
            await asyncio.sleep(0.005)
    assert not playing.done()
    gate.set()
    await playing


async def test_streams_of_a_served_app_are_followed_at_its_server() -> None:
    async with served() as perdure:
        app = serve(two_steps("talks"), base_url=f"http://{perdure.address}", is_dev=True)
        async with asgi_server(app) as url, httpx2.AsyncClient() as http:
            assert (await http.put(url)).status_code == 200
            run = await perdure.node.trigger("talks-f")
            jwt = await token(perdure, (run.run_id, "$stream"))
            heard = (await perdure.http.get(f"/v1/realtime/sse?token={jwt}")).text
    names = [line for line in heard.splitlines() if line.startswith("event: ")]
    wanted = ["metadata", "stream", "stream", "commit", "stream", "stream", "commit", "response"]
    assert names == [f"event: inngest.{name}" for name in wanted]
