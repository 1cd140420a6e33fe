"""The server is killed while runs of real SDK apps sleep, wait, retry and execute; restarted, it finishes them all.

No app registers again: the server knows from its file what there was, and whom to call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure.client import Client
from tests.support.sdk_apps import Fleet, SdkApp, eventually, running

pytestmark = [pytest.mark.timeout(240), pytest.mark.chaos]


@pytest.fixture
async def fleet(sdks: None, tmp_path: Path) -> AsyncGenerator[Fleet, None]:
    async with running(tmp_path, "--no-discovery", "--no-poll", "--retry-interval", "1") as started:
        yield started


async def _healthy(client: Client) -> bool:
    return await client.health()


async def test_runs_outlive_the_server(fleet: Fleet) -> None:
    apps = [await fleet.app(id) for id in ("v4", "v3", "py-fastapi", "v4-worker", "py-worker")]
    keys = {app.id: app.key() for app in apps}
    sleeping, waiting, retrying, executing = {}, {}, {}, {}
    for app in apps:
        sleeping[app.id] = await app.begin("singleton-cancel", {"key": app.key(), "n": 5})
        waiting[app.id] = await app.begin("wait-match", {"key": keys[app.id]})
        retrying[app.id] = await app.begin("step-retry", {"key": f"retry {keys[app.id]}"})
        executing[app.id] = await app.begin("one-at-a-time", {"key": f"work {keys[app.id]}", "n": 1, "ms": 4000})
    for app in apps:
        await app.waiting(waiting[app.id], "approval")
        await app.until_noted(f"retry {keys[app.id]}")
        await app.until_noted(f"work {keys[app.id]}")

    fleet.server.kill()
    fleet.server.start()
    await eventually(lambda: _healthy(fleet.client), "health")

    for app in apps:
        await _finish(app, keys[app.id], sleeping[app.id], waiting[app.id], retrying[app.id], executing[app.id])
    ticks = [entry["at"] for entry in await apps[0].journal("every")]

    async def later_tick() -> bool:
        return len(await apps[0].journal("every")) > len(ticks) + 1

    await eventually(later_tick, "ticks of the cron after the restart")
    assert (await fleet.client.doctor())["orphans"] == []


async def _finish(app: SdkApp, key: str, sleeping: str, waiting: str, retrying: str, executing: str) -> None:
    sent = {"name": f"{app.id}/approved", "data": {"key": key}}
    await app.send(sent)
    approved = await app.ended(waiting)
    assert (approved.status, approved.output["data"]) == ("COMPLETED", {"key": key})
    assert (await app.ended(sleeping)).output == 5
    assert (await app.ended(retrying)).output == "at last"
    assert await app.noted(f"retry {key}") == ["try"] * 3
    # What was in a step when the server died is done again, or was told to the new server: either way once it counts.
    assert (await app.ended(executing)).output == 1
    assert (await app.noted(f"work {key}")).count("1 ends") in (1, 2)
