"""Real SDK apps in production mode: signed calls and answers, keys asked for, on a server started with `start`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from perdure.client import Client
from tests.support.provider import provider
from tests.support.sdk_apps import Fleet, Server

pytestmark = pytest.mark.timeout(240)

SIGNING_KEY = "0123456789abcdef" * 4
EVENT_KEY = "an-event-key"


@pytest.fixture
async def fleet(sdks: None, tmp_path: Path) -> AsyncGenerator[Fleet, None]:
    server = Server(tmp_path, "--event-key", EVENT_KEY, "--signing-key", SIGNING_KEY, command="start")
    server.start()
    with provider() as provider_url:
        async with (
            Client(server.url, event_key=EVENT_KEY, signing_key=SIGNING_KEY) as client,
            aiohttp.ClientSession() as http,
        ):
            started = Fleet(server, tmp_path, client, http, provider_url)
            started.environment = {
                "INNGEST_DEV": "0",
                "INNGEST_BASE_URL": server.url,
                "INNGEST_EVENT_KEY": EVENT_KEY,
                "INNGEST_SIGNING_KEY": SIGNING_KEY,
            }
            try:
                yield started
            finally:
                started.stop()


@pytest.mark.parametrize("id", ["v4", "v3", "py-fastapi", "py-flask", "v4-worker", "py-worker"])
async def test_signed_apps_run(fleet: Fleet, id: str) -> None:
    # npm's SDKs want the key with a prefix, which is no part of it; Python's takes it either way.
    if not id.startswith("py"):
        fleet.environment = {**fleet.environment, "INNGEST_SIGNING_KEY": f"signkey-prod-{SIGNING_KEY}"}
    app = await fleet.app(id)
    key = app.key()
    assert await app.result("two-steps", {"key": key, "n": 1}) == {"a": {"n": 2}, "b": 3}
    assert await app.noted(key) == ["a", "b"]
    assert await app.result("parallel", {"key": app.key()}) == ["one", "two", None]
    assert len(await app.result("send-event", {"key": app.key()})) == 2
    assert await app.result("large-state", {"size": 1_000_000}) == 5_000_000


async def test_an_unsigned_call_is_refused_by_the_app(fleet: Fleet) -> None:
    app = await fleet.app("py-fastapi")
    async with fleet.http.post(f"{app.url}/api/inngest?fnId={app.id}-plain&stepId=step", json={}) as response:
        assert response.status == 401
    async with fleet.http.get(f"{fleet.server.url}/v1/functions") as response:
        assert response.status == 401
