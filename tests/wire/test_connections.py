"""What a connection makes the server keep: large heads that are needed pass, and nothing takes memory without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from perdure.cli.protocols import MAX_HEAD, BoundedWebSocket
from tests.support.realtime import connect, frame, token
from tests.support.sockets import Served, served

_HEADS = {
    "url": (b"GET /", b"a"),
    "header": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: ", b"a"),
    "headers": (b"GET /health HTTP/1.1\r\nhost: localhost\r\n", b"x: y\r\n"),
    "chunk": (b"POST /e/k HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1;", b"a"),
    "trailers": (b"POST /e/k HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
    "websocket": (b"GET /v0/connect HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n", b"x: y\r\n"),
}


@pytest.fixture
async def server() -> AsyncGenerator[Served, None]:
    async with served() as started:
        yield started


@pytest.mark.parametrize("kind", _HEADS)
async def test_a_head_without_end_is_cut_off(server: Served, kind: str) -> None:
    begin, more = _HEADS[kind]
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(begin)
    sent = 0
    answer = b""
    try:
        while sent < 20 * MAX_HEAD:
            writer.write(more * (65536 // len(more)))
            sent += 65536
            await writer.drain()
        pytest.fail("it was taken")
    except ConnectionError:
        pass
    try:
        async with asyncio.timeout(5):
            answer = await reader.read()
    except ConnectionError:
        pass
    assert not answer or answer.split(b" ")[1] in (b"431", b"400")
    writer.close()


async def test_a_large_head_gets_an_answer(server: Served) -> None:
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * MAX_HEAD)
    async with asyncio.timeout(5):
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ") and f"content-length: {len(body)}".encode() in head
    writer.close()


async def test_bodies_have_limits_of_their_own(server: Served) -> None:
    async def small_pieces() -> AsyncGenerator[bytes, None]:
        yield b'{"name": "a", "data": "'
        for _ in range(3):
            yield b"x" * MAX_HEAD
        yield b'"}'

    assert (await server.http.post("/e/k", content=b" " * 4 * MAX_HEAD + b'{"name": "a"}')).status_code == 200
    assert (await server.http.post("/e/k", content=small_pieces())).status_code == 400
    for _ in range(3):
        assert (await server.http.get("/health", headers={"x": "a" * (MAX_HEAD // 2)})).status_code == 200


async def test_a_token_for_many_topics_opens_a_websocket(server: Served) -> None:
    topics = [(f"order-{number:026}", "status") for number in range(1000)]
    async with connect(server, await token(server, *topics)) as socket:
        await server.http.post(f"/v1/realtime/publish?channel={topics[-1][0]}&topic=status", json=1)
        assert (await frame(socket))["data"] == 1


async def test_pings_of_who_reads_no_answers_pile_up_nothing(server: Served) -> None:
    async with connect(server, await token(server, ("c", "t")), ping_interval=None) as socket:
        (connection,) = [each for each in server.connections if isinstance(each, BoundedWebSocket)]
        socket.transport.pause_reading()
        ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
        for _ in range(200):
            socket.transport.write(ping * 1000)
            while socket.transport.get_write_buffer_size():
                await asyncio.sleep(0)
        assert connection.transport.get_write_buffer_size() < 1024 * 1024
        socket.transport.abort()
