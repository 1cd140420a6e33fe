"""Subscribers for tests: tokens, WebSockets, event streams and their frames."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket

from tests.support.sockets import Served

ENVIRONMENT = "00000000-0000-4000-b000-000000000000"
RUN = "01M812G5DBRMY8JK6C1F20EN4A"


async def token(server: Served, *topics: tuple[str, str], bearer: str = "") -> str:
    asked = [{"channel": channel, "name": name, "kind": "run"} for channel, name in topics]
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    response = await server.http.post("/v1/realtime/token", json=asked, headers=headers)
    assert response.status_code == 201
    jwt: str = response.json()["jwt"]
    return jwt


def connect(server: Served, jwt: str, **options: Any) -> AbstractAsyncContextManager[ClientConnection]:
    return connect_socket(server.ws(f"/v1/realtime/connect?token={jwt}"), proxy=None, **options)


@asynccontextmanager
async def listening(server: Served, *topics: tuple[str, str]) -> AsyncGenerator[ClientConnection, None]:
    async with connect(server, await token(server, *topics)) as socket:
        yield socket


async def frame(socket: ClientConnection) -> dict[str, Any]:
    text = await socket.recv()
    assert isinstance(text, str)
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def claims(jwt: str) -> dict[str, Any]:
    part = jwt.split(".")[1]
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return parsed


@asynccontextmanager
async def event_stream(server: Served, jwt: str, **headers: str) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async with server.http.stream("GET", f"/v1/realtime/sse?token={jwt}", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["access-control-allow-origin"] == headers.get("origin", "*")
        yield response.aiter_raw()
