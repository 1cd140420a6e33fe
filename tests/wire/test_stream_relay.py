"""The stream of a run over sockets: what apps say in bodies of their own, and what subscribers get, byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from perdure import App, Context, step, stream
from perdure.model.ids import step_hash
from perdure.runner.streams import Streams
from perdure.server.realtime.events import Timing
from perdure.server.realtime.relay import relay
from tests.support.realtime import connect, token
from tests.support.sockets import Served, served

A, B = step_hash("a", 0), step_hash("b", 0)


@pytest.fixture
async def server() -> AsyncGenerator[Served, None]:
    async with served() as started:
        yield started


def chunk(data: object, step_id: str | None = None) -> bytes:
    told = {"data": data, **({"hashedStepId": step_id} if step_id else {})}
    return f"event: inngest.stream\ndata: {json.dumps(told)}\n\n".encode()


def mark(name: str, step_id: str) -> bytes:
    return f'event: inngest.{name}\ndata: {{"hashedStepId":"{step_id}"}}\n\n'.encode()


RESPONSE = (
    b'event: inngest.response\ndata: {"status":"succeeded","response":{"body":"ok","statusCode":201,"headers":{}}}\n\n'
)


class Body:
    """A request that streams, written by hand: it may stop anywhere, and need not end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await self._writer.drain()

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def status(self) -> int:
        line = await self._reader.readline()
        return int(line.split()[1])

    def break_off(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def teeing(server: Served, run_id: str) -> AsyncGenerator[Body, None]:
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    writer.write(
        f"POST /v1/realtime/publish/tee?channel={run_id} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    try:
        yield Body(reader, writer)
    finally:
        writer.close()


class Events:
    """What one subscriber gets: the blocks of its event stream, without comments."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    async def next(self) -> bytes | None:
        while b"\n\n" not in self._rest:
            piece = await anext(self._pieces, None)
            if piece is None:
                assert self._rest == b""
                return None
            self._rest += piece
        block, _, self._rest = self._rest.partition(b"\n\n")
        return await self.next() if block == b":" else block + b"\n\n"

    async def some(self, count: int) -> bytes:
        blocks = [await self.next() for _ in range(count)]
        return b"".join(block or b"(the end)" for block in blocks)


@asynccontextmanager
async def following(server: Served, run_id: str, after: str = "") -> AsyncGenerator[Events, None]:
    headers = {"last-event-id": after} if after else {}
    jwt = await token(server, (run_id, "$stream"))
    async with server.http.stream("GET", f"/v1/realtime/sse?token={jwt}", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["access-control-allow-origin"] == "*"
        events = Events(response.aiter_raw())
        assert await events.next() == f'event: inngest.metadata\ndata: {{"runId":"{run_id}"}}\n\n'.encode()
        yield events


async def waiting_run(server: Served) -> str:
    """A run that waits until it is cancelled."""
    return await server.wire.start("t/wait")


async def test_a_subscriber_gets_the_log_with_its_offsets_and_comes_back_to_where_it_was(server: Served) -> None:
    app = App("talks")

    async def say() -> str:
        stream.push({"n": 1})
        return await stream.pipe(["x", "y"])

    @app.function("talk", trigger="talk")
    async def talk(ctx: Context) -> str:
        return await step.run("a", say)

    await server.node.register(app)
    run = await server.node.trigger("talks-talk")
    answer = {"body": '"xy"', "statusCode": 200, "headers": {"content-type": "application/json"}}
    told = json.dumps({"status": "succeeded", "response": answer}, separators=(",", ":"))
    blocks = [
        f'id: 1\nevent: inngest.stream\ndata: {{"data":{{"n":1}},"hashedStepId":"{A}"}}\n\n',
        f'id: 2\nevent: inngest.stream\ndata: {{"data":"x","hashedStepId":"{A}"}}\n\n',
        f'id: 3\nevent: inngest.stream\ndata: {{"data":"y","hashedStepId":"{A}"}}\n\n',
        f'id: 4\nevent: inngest.commit\ndata: {{"hashedStepId":"{A}"}}\n\n',
        f"id: 5\nevent: inngest.response\ndata: {told}\n\n",
    ]
    for after in range(5):
        async with following(server, run.run_id, str(after)) as events:
            assert (await events.some(5 - after)).decode() == "".join(blocks[after:])
            assert await events.next() is None
    jwt = await token(server, (run.run_id, "$stream"))
    response = await server.http.get(f"/v1/realtime/sse?token={jwt}", headers={"last-event-id": "5"})
    # Browsers would come again and again.
    assert response.status_code == 204


async def test_bodies_that_come_at_once_do_not_tear_each_others_events_apart(server: Served) -> None:
    run_id = await waiting_run(server)
    async with (
        following(server, run_id) as one,
        following(server, run_id) as two,
        teeing(server, run_id) as left,
        teeing(server, run_id) as right,
    ):
        text = chunk("hé", A)
        await left.say(b'event: inngest.metadata\ndata: {"runId":"x"}\n\n' + text[:30])
        await right.say(chunk("whole", B))
        heard = await one.some(1)
        assert b"whole" in heard
        await left.say(text[30:-1], text[-1:], mark("commit", A))
        await right.say(mark("rollback", B))
        heard += await one.some(3)
        assert heard.count(b"inngest.") == 4 and b"h\\u00e9" in heard
        assert await two.some(4) == heard


async def test_who_listens_is_told_where_another_request_begins_to_speak(server: Served) -> None:
    run_id = await waiting_run(server)
    metadata = f'event: inngest.metadata\ndata: {{"runId":"{run_id}"}}\n\n'.encode()
    async with following(server, run_id) as events:
        # One that has nothing to say is told of with the next that has; the first was told of before it began.
        for said in ([metadata, metadata], [metadata, chunk(1, A), mark("commit", A)], [metadata, RESPONSE]):
            async with teeing(server, run_id) as body:
                await body.say(*said)
                await body.end()
                assert await body.status() == 200
        heard = [(await events.next() or b"").removeprefix(b"id: ").split(b"inngest.")[1][:8] for _ in range(5)]
        assert heard == [b"metadata", b"stream\nd", b"commit\nd", b"metadata", b"response"]
        assert await events.next() is None


async def test_a_body_that_breaks_off_in_mid_step_is_taken_back(server: Served) -> None:
    run_id = await waiting_run(server)
    async with following(server, run_id) as events:
        async with teeing(server, run_id) as body:
            await body.say(chunk(1, A), mark("commit", A), chunk(2, B))
            assert (await events.some(3)).count(b"inngest.stream") == 2
            body.break_off()
            rolled_back = await events.some(1)
            assert b"inngest.rollback" in rolled_back and B.encode() in rolled_back
        async with teeing(server, run_id) as body:
            await body.say(chunk(3, B), mark("commit", B))
            assert b'"data":3' in await events.some(2)
            await body.end()
            assert await body.status() == 200
    async with following(server, run_id) as late:
        heard = await late.some(4)
        assert [number for number in (b"1", b"2", b"3") if b'"data":%s' % number in heard] == [b"1", b"3"]


async def test_a_second_attempt_takes_back_what_the_first_said_if_nobody_has_heard_of_its_end(server: Served) -> None:
    run_id = await waiting_run(server)
    async with following(server, run_id) as events, teeing(server, run_id) as first, teeing(server, run_id) as second:
        await first.say(chunk(1, A))
        await events.some(1)
        await second.say(chunk(2, A))
        heard = await events.some(2)
        assert heard.index(b"inngest.rollback") < heard.index(b'"data":2')


async def test_a_body_that_never_ends_is_let_go_when_the_run_is_over(server: Served) -> None:
    run_id = await waiting_run(server)
    async with following(server, run_id) as events, teeing(server, run_id) as body, teeing(server, run_id) as other:
        await body.say(chunk(1, A))
        await events.some(1)
        await server.node.cancel(run_id)
        heard = await events.some(2)
        assert b"inngest.rollback" in heard and b'"statusCode":410' in heard
        assert await events.next() is None
        assert await body.status() == await other.status() == 200
    assert server.node.streams._tails == {}


async def test_a_body_for_a_run_that_is_over_is_let_go(server: Served) -> None:
    run_id = await waiting_run(server)
    await server.node.cancel(run_id)
    async with teeing(server, run_id) as body:
        await body.say(chunk(1, A))
        assert await body.status() == 200
    async with following(server, run_id) as events:
        assert b'"statusCode":410' in await events.some(1)


async def test_the_response_that_an_app_sends_is_the_one_that_is_told(server: Served) -> None:
    run_id = await waiting_run(server)
    async with following(server, run_id) as events, teeing(server, run_id) as body:
        await body.say(chunk(1), RESPONSE)
        assert await events.some(2) == b"id: 1\n" + chunk(1).replace(b'"data": ', b'"data":') + b"id: 2\n" + RESPONSE
        assert await events.next() is None
    await server.node.cancel(run_id)
    async with following(server, run_id, "1") as events:
        assert await events.some(1) == b"id: 2\n" + RESPONSE
        assert await events.next() is None


async def test_a_step_of_more_than_a_megabyte_arrives_whole(server: Served) -> None:
    run_id = await waiting_run(server)
    async with following(server, run_id) as events, teeing(server, run_id) as body:
        text = "x" * 100_000
        listening = asyncio.create_task(events.some(16))
        for number in range(15):
            await body.say(chunk([number, text], A))
        await body.say(mark("commit", A))
        heard = await listening
        assert heard.count(text.encode()) == 15 and b"inngest.commit" in heard


@pytest.mark.parametrize(
    ("said", "status"),
    [(b"event: inngest.stream\ndata: {\n\n", 400), (b"event: inngest.stream\ndata: " + b"x" * 17_000_000, 400)],
)
async def test_what_cannot_be_read_is_refused_and_taken_back(server: Served, said: bytes, status: int) -> None:
    run_id = await waiting_run(server)
    async with following(server, run_id) as events:
        response = await server.http.post(f"/v1/realtime/publish/tee?channel={run_id}", content=chunk(1, A) + said)
        assert response.status_code == status and "stream" in response.json()["error"]
        assert b"inngest.rollback" in await events.some(2)


async def test_too_much_is_refused(server: Served) -> None:
    run_id = await waiting_run(server)
    server.node.streams._limit = 1000
    response = await server.http.post(
        f"/v1/realtime/publish/tee?channel={run_id}", content=chunk("x" * 600) + chunk("x" * 600)
    )
    assert response.status_code == 413 and "1000 bytes" in response.json()["error"]
    async with following(server, run_id) as events:
        assert b"x" * 600 in await events.some(1)


async def test_a_run_that_there_is_not(server: Served) -> None:
    unknown = "01M812G5DBRMY8JK6C1F20EN4A"
    response = await server.http.post(f"/v1/realtime/publish/tee?channel={unknown}", content=chunk(1))
    assert response.status_code == 404 and unknown in response.json()["error"]
    assert (await server.http.post("/v1/realtime/publish/tee", content=chunk(1))).status_code == 400
    jwt = await token(server, (unknown, "$stream"))
    assert (await server.http.get(f"/v1/realtime/sse?token={jwt}")).status_code == 404
    assert (await server.http.get("/v1/realtime/sse?token=x")).status_code == 401


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 20])
async def test_an_id_that_is_none_is_refused(server: Served, after: str) -> None:
    run_id = await waiting_run(server)
    jwt = await token(server, (run_id, "$stream"))
    response = await server.http.get(f"/v1/realtime/sse?token={jwt}", headers={"last-event-id": after})
    assert response.status_code == 400 and "Last-Event-ID" in response.json()["error"]


async def test_a_websocket_hears_what_apps_send_as_it_is(server: Served) -> None:
    run_id = await waiting_run(server)
    async with connect(server, await token(server, (run_id, "$stream"))) as socket, teeing(server, run_id) as body:
        text = chunk(1, A)
        await body.say(text[:10], text[10:] + b"event")
        assert await socket.recv() == text


async def test_when_the_server_stops_streams_and_bodies_end(server: Served) -> None:
    run_id = await waiting_run(server)
    async with following(server, run_id) as events, teeing(server, run_id) as body:
        await body.say(chunk(1, A))
        await events.some(1)
        stopping = asyncio.create_task(server.stop())
        assert await events.next() is None
        assert await body.status() == 200
        await stopping


async def test_silence_is_filled_with_comments_and_a_stream_ends_in_time(server: Served) -> None:
    streams: Streams = server.node.streams
    run_id = await waiting_run(server)
    with streams.following(run_id) as reader:
        pieces = relay(reader, Timing(keepalive=0.01, longest=60))
        assert [await anext(pieces), await anext(pieces)] == [b":\n\n"] * 2
        async with teeing(server, run_id) as body:
            await body.say(chunk(1))
            piece = await anext(pieces)
            while piece == b":\n\n":
                piece = await anext(pieces)
            assert piece.startswith(b"id: 1\n")
        short = relay(reader, Timing(keepalive=60, longest=0.01))
        assert [piece async for piece in short] == [b":\n\n"]
