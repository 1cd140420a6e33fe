"""`POST /v2/apps/{app}/syncs`: an app on another server is asked to register, as after a deployment."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from perdure.apps.asking import Asker
from perdure.apps.polling import Poller
from perdure.apps.settings import Polling
from perdure.model.json import Json
from tests.support.syncing_app import SyncingApp, syncing_app
from tests.support.wire import Wire


@asynccontextmanager
async def deployed(wire: Wire) -> AsyncGenerator[SyncingApp]:
    """An app that is served and has not registered, and a server that asks apps."""

    async def register(document: dict[str, Json]) -> Json:
        return (await wire.http.post("/fn/register", json=document)).json()

    poller = Poller(wire.node.registry, Asker("dev", None, wire.clock.now), Polling(interval=0))
    poller.start()
    try:
        async with syncing_app(register, "store") as app:
            yield app
    finally:
        await poller.close()


async def sync(wire: Wire, app_id: str, body: Json = None, mount: str = "/v2") -> tuple[int, Json]:
    answer = await wire.http.post(f"{mount}/apps/{app_id}/syncs", json=body)
    found = answer.json()
    return answer.status_code, found.get("data", found)


async def test_an_app_is_synced(wire: Wire) -> None:
    async with deployed(wire) as app:
        status, data = await sync(wire, "store", {"url": app.url})
        stored = (await wire.http.get("/v2/apps/store")).json()["data"]
        assert (status, data) == (200, {"appId": "store", "status": "SUCCESS", "id": stored["latestSync"]["id"]})
        assert (stored["functionCount"], stored["latestSync"]["url"]) == (1, app.url)
        # Where it is served is known now.
        assert (await sync(wire, "store", mount="/api/v2"))[0] == 200
        assert [each.method for each in app.asked] == ["PUT", "PUT"]


async def test_a_sync_that_fails_tells_why(wire: Wire) -> None:
    async with deployed(wire) as app:
        assert (await sync(wire, "store", {"url": app.url}))[0] == 200
        app.mode = "not_found"
        status, data = await sync(wire, "store", {"url": app.url})
        assert (status, data["status"], data["error"]["code"]) == (422, "ERROR", "url_not_found")
        assert app.url in data["error"]["message"]
        stored = (await wire.http.get("/v2/apps/store")).json()["data"]
        assert stored["latestSync"]["error"]["code"] == "url_not_found"
        app.mode = "out_of_band"
        assert (await sync(wire, "store"))[0] == 200
        assert "error" not in (await wire.http.get("/v2/apps/store")).json()["data"]["latestSync"]


async def test_another_app_at_the_url_is_told(wire: Wire) -> None:
    async with deployed(wire) as app:
        status, data = await sync(wire, "other", {"url": app.url})
    assert (status, data["appId"], data["error"]["code"]) == (422, "store", "app_mismatch")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (None, 400, "missing_field"),
        ({"url": 3}, 400, "api_error"),
        ({"url": "file:///etc/passwd"}, 400, "invalid_field_format"),
        ({"link": "http://127.0.0.1:9/"}, 400, "api_error"),
        ({"url": "http://127.0.0.1:9/"}, 422, "unreachable"),
    ],
)
async def test_what_cannot_be_asked(wire: Wire, body: Json, status: int, code: str) -> None:
    async with deployed(wire):
        found, data = await sync(wire, "store", body)
    told = data["error"] if "error" in data else data["errors"][0]
    assert (found, told["code"]) == (status, code)


async def test_a_server_that_asks_nobody_says_so(wire: Wire) -> None:
    status, data = await sync(wire, "store", {"url": "http://127.0.0.1:9/"})
    assert (status, data["errors"][0]["code"]) == (501, "not_implemented")
