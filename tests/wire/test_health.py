"""Live and ready: what a server says of itself to whoever sends it requests, and starts it again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import httpx2
import pytest

from perdure import App, embedded
from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app
from tests.support.postgres import PostgresServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.wire import Wire

KEYS = Keys([EventKey.parse("evtkey1")], [SigningKey.parse("00ff00ff")])


@pytest.fixture
async def http(wire: Wire) -> AsyncGenerator[httpx2.AsyncClient]:
    """A server with keys; the requests have none."""
    transport = httpx2.ASGITransport(make_app(wire.node, Guard(KEYS, kind="cloud")))
    async with httpx2.AsyncClient(transport=transport, base_url="http://perdure.example") as client:
        yield client


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_a_server_that_runs_is_live_and_ready_and_asks_for_no_key(http: httpx2.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert (response.status_code, response.json()) == (200, {"status": 200, "message": "OK"})


@pytest.mark.parametrize("failure", [StoreError("the disk is on fire"), "silence"])
async def test_a_server_whose_store_does_not_answer_is_live_but_not_ready(
    http: httpx2.AsyncClient, wire: Wire, failure: Json, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    async def view(_: Json) -> Json:
        if isinstance(failure, StoreError):
            raise failure
        await asyncio.Event().wait()

    monkeypatch.setattr(wire.node, "view", view)
    monkeypatch.setattr("perdure.server.health._PATIENCE", 0.05)
    with caplog.at_level(logging.WARNING, "perdure.server"):
        response = await http.get("/health/ready")
    assert response.status_code == 503 and "the store does not answer" in response.text
    assert "on fire" not in response.text and "not ready: the store does not answer" in caplog.text
    assert (await http.get("/health/live")).status_code == 200
    assert (await http.get("/health")).status_code == 200


async def test_a_server_that_is_about_to_stop_is_not_ready(wire: Wire) -> None:
    stopping: list[bool] = []
    transport = httpx2.ASGITransport(make_app(wire.node, draining=lambda: bool(stopping)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/health/ready")).status_code == 200
        stopping.append(True)
        response = await client.get("/health/ready")
        assert response.status_code == 503 and "the server is stopping" in response.text
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.post("/e/key", json={"name": "t/plain"})).status_code == 200


async def test_only_these_are_open_below_health(http: httpx2.AsyncClient) -> None:
    for path in ("/health/other", "/health/live/x", "/health/ready/../../metrics"):
        assert (await http.get(path)).status_code == 401


async def test_a_server_is_ready_again_when_its_database_is_back(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    proxy = TcpProxy(postgres_server.port)
    url = postgres_url.replace(str(postgres_server.port), str(await proxy.start()))
    try:
        async with embedded(App("h"), db=url) as node:
            transport = httpx2.ASGITransport(make_app(node))
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                assert (await client.get("/health/ready")).status_code == 200
                proxy.refusing = True
                proxy.cut()
                assert (await client.get("/health/ready")).status_code == 503
                assert (await client.get("/health/live")).status_code == 200
                proxy.refusing = False
                async with asyncio.timeout(10):
                    while (await client.get("/health/ready")).status_code == 503:
                        await asyncio.sleep(0.05)
    finally:
        await proxy.stop()
