"""Real SDK workers that come, go and die: their runs wait for them, and go on at another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.sdk_apps import Fleet, SdkApp, eventually, running

pytestmark = [pytest.mark.timeout(240), pytest.mark.chaos]
WORKERS = ["v4-worker", "v3-worker", "py-worker"]


@pytest.fixture
async def fleet(sdks: None, tmp_path: Path) -> AsyncGenerator[Fleet, None]:
    async with running(tmp_path, "--no-discovery", "--no-poll", "--retry-interval", "1") as started:
        yield started


async def _two(fleet: Fleet, id: str) -> list[SdkApp]:
    workers = [fleet.process(id, id), fleet.process(id, id)]
    for worker in workers:
        await worker.start()
    return workers


@pytest.mark.parametrize("id", WORKERS)
async def test_another_worker_goes_on_with_what_waits(fleet: Fleet, id: str) -> None:
    dying, other = await _two(fleet, id)
    runs = [await dying.begin("singleton-cancel", {"key": dying.key(), "n": n}) for n in range(6)]
    for run_id in runs:
        await dying.waiting(run_id, "nap")
    dying.kill()
    assert [(await other.ended(run_id)).output for run_id in runs] == list(range(6))


@pytest.mark.parametrize("id", WORKERS)
async def test_runs_wait_for_a_worker(fleet: Fleet, id: str) -> None:
    worker = fleet.process(id, id)
    await worker.start()
    worker.kill()
    (sent,) = await fleet.client.send({"name": f"{id}/plain", "data": {}})
    run_id = await worker.run_of(sent)
    await asyncio.sleep(1.5)
    assert not (await fleet.client.get_run(run_id)).ended
    await worker.start()
    run = await worker.ended(run_id)
    # Waiting for it has cost no attempt.
    assert run.output["attempt"] == 0


@pytest.mark.parametrize("id", WORKERS)
async def test_a_worker_that_is_asked_to_end_finishes_its_work(fleet: Fleet, id: str) -> None:
    workers = await _two(fleet, id)
    keys = [workers[0].key() for _ in range(6)]
    runs = [await workers[0].begin("one-at-a-time", {"key": key, "n": 1, "ms": 1500}) for key in keys]

    async def all_busy() -> bool:
        noted = [await worker.noted(key) for worker in workers for key in keys]
        return sum(map(len, noted)) >= len(keys)

    await eventually(all_busy, "work in every run")
    workers[0].end()
    for run_id in runs:
        assert (await workers[1].ended(run_id)).status == "COMPLETED"
    # The other one did its own share and no more: nothing was done twice.
    assert sum([len(await workers[1].noted(key)) for key in keys]) <= 2 * len(keys)
