"""Real SDK apps in production mode: signed calls and answers, keys asked for, on a server started with `start`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.sdk_apps import Fleet, SdkApp, running

pytestmark = pytest.mark.timeout(240)

SIGNING_KEY = "0123456789abcdef" * 4
OLD_KEY = "fedcba9876543210" * 4
EVENT_KEY = "an-event-key"
APPS = ("v4", "v3", "py-fastapi", "py-flask", "v4-worker", "v3-worker", "py-worker")


@pytest.fixture
async def fleet(sdks: None, tmp_path: Path) -> AsyncGenerator[Fleet, None]:
    async with running(tmp_path, command="start", event_key=EVENT_KEY, signing_key=SIGNING_KEY) as started:
        yield started


def _prefixed(id: str, key: str) -> str:
    # npm's SDKs are given the key with a prefix, which is no part of it; Python's takes it either way.
    return key if id.startswith("py") else f"signkey-prod-{key}"


async def _everything_works(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("two-steps", {"key": key, "n": 1}) == {"a": {"n": 2}, "b": 3}
    assert await app.noted(key) == ["a", "b"]
    assert await app.result("parallel", {"key": app.key()}) == ["one", "two", None]
    assert len(await app.result("send-event", {"key": app.key()})) == 2
    assert await app.result("large-state", {"size": 1_000_000}) == 5_000_000


async def test_signed_apps_run(fleet: Fleet) -> None:
    apps = [fleet.process(id, id) for id in APPS]
    for app in apps:
        await app.start(INNGEST_SIGNING_KEY=_prefixed(app.id, SIGNING_KEY))
    await asyncio.gather(*(_everything_works(app) for app in apps))


async def test_keys_change_one_side_after_the_other(sdks: None, tmp_path: Path) -> None:
    # The server has the new key already and still takes the old one; the apps sign with the old, and know the new.
    fallback = ("--signing-key-fallback", OLD_KEY)
    async with running(tmp_path, *fallback, command="start", event_key=EVENT_KEY, signing_key=SIGNING_KEY) as fleet:
        for id in ("v4", "py-fastapi"):
            app = fleet.process(id, id)
            await app.start(
                INNGEST_SIGNING_KEY=_prefixed(id, OLD_KEY), INNGEST_SIGNING_KEY_FALLBACK=_prefixed(id, SIGNING_KEY)
            )
            await _everything_works(app)


async def test_an_unsigned_call_is_refused_by_the_app(fleet: Fleet) -> None:
    app = await fleet.app("py-fastapi")
    async with fleet.http.get(f"{app.url}/api/inngest") as response:
        assert response.status == 401
    async with fleet.http.post(f"{app.url}/api/inngest?fnId={app.id}-plain&stepId=step", json={}) as response:
        assert response.status == 401
    async with fleet.http.get(f"{fleet.server.url}/v1/functions") as response:
        assert response.status == 401
