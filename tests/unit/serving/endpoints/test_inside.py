"""Requests to an application in the same process, and to one in another event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from perdure.serving.endpoints.inside import InsideOutbound
from perdure.serving.outbound import ServerError
from perdure.serving.threads import background_loop


async def _echo(request: Request) -> Response:
    return JSONResponse({"body": await request.json(), "loop": id(asyncio.get_running_loop())}, 201)


async def _fail(request: Request) -> Response:
    raise RuntimeError("boom")


async def _count(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            yield b"<" + chunk + b">" if chunk else b""

    return StreamingResponse(pieces(), headers={"X-A": "1"})


APPLICATION = Starlette(
    routes=[
        Route("/echo", _echo, methods=["POST"]),
        Route("/fail", _fail, methods=["POST"]),
        Route("/count", _count, methods=["POST"]),
    ]
)


async def test_a_question() -> None:
    outbound = InsideOutbound(APPLICATION, asyncio.get_running_loop())
    found = await outbound.ask("POST", "/echo", {"a": 1})
    assert (found.status, found.json()["body"]) == (201, {"a": 1})
    assert (await outbound.ask("POST", "/nothing")).status == 404
    with pytest.raises(ServerError, match="boom"):
        await outbound.ask("POST", "/fail")


async def test_a_question_is_asked_where_the_engine_lives() -> None:
    outbound = InsideOutbound(APPLICATION, background_loop())
    found = await outbound.ask("POST", "/echo", 1)
    assert found.json()["loop"] == id(background_loop())
    with pytest.raises(ServerError, match="event loop"):
        async with outbound.open("POST", "/count", {}):
            pass


async def test_both_ways_at_once() -> None:
    outbound = InsideOutbound(APPLICATION, asyncio.get_running_loop())
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def talk() -> AsyncIterator[bytes]:
        yield b"one"
        # The second is said when the first was answered.
        assert await heard.get() == b"<one>"
        yield b"two"

    found: list[bytes] = []
    async with outbound.open("POST", "/count", {}, talk()) as reply:
        assert reply.status == 200 and ("x-a", "1") in reply.headers
        async for chunk in reply.chunks:
            found.append(chunk)
            heard.put_nowait(chunk)
    assert found == [b"<one>", b"<two>"]


async def test_who_leaves_early_is_let_go() -> None:
    outbound = InsideOutbound(APPLICATION, asyncio.get_running_loop())

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0)

    async with asyncio.timeout(5):
        async with outbound.open("POST", "/count", {}, endless()) as reply:
            async for _ in reply.chunks:
                break
