"""Real SDK apps in branch environments: over HTTP and as workers, with keys and without, and over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from perdure.cli import main
from perdure.client import ApiError, Client
from perdure.store.naming import database_of
from tests.support.dev_server import DevServer
from tests.support.postgres import PostgresServer
from tests.support.sdk_apps import SdkApp, running

pytestmark = pytest.mark.timeout(240)

SIGNING_KEY = "0123456789abcdef" * 4
EVENT_KEY = "an-event-key"
BRANCH, OTHER = "feature/carts", "staging"
PROGRAMS = ("v4", "v4-worker", "py-fastapi", "py-worker")


def keys_of(environment: str) -> dict[str, str]:
    """What `perdure env keys` prints, as an app gets it."""
    told = CliRunner().invoke(main, ["env", "keys", environment], env={"PERDURE_SIGNING_KEY": SIGNING_KEY})
    assert told.exit_code == 0, told.output
    return dict(line.split("=", 1) for line in told.output.splitlines())


@asynccontextmanager
async def branch(url: str, keys: dict[str, str]) -> AsyncGenerator[Client, None]:
    """A client of an environment that has that environment's keys and no other."""
    async with Client(
        url,
        event_key=keys["INNGEST_EVENT_KEY"],
        signing_key=keys["INNGEST_SIGNING_KEY"],
        environment=keys["INNGEST_ENV"],
    ) as client:
        yield client


async def _works(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("two-steps", {"key": key, "n": 1}) == {"a": {"n": 2}, "b": 3}
    assert await app.noted(key) == ["a", "b"]


async def test_apps_with_the_keys_of_an_environment_work_in_it_and_over_a_restart(sdks: None, tmp_path: Path) -> None:
    keys, others = keys_of(BRANCH), keys_of(OTHER)
    async with (
        running(tmp_path, command="start", event_key=EVENT_KEY, signing_key=SIGNING_KEY) as fleet,
        branch(fleet.server.url, keys) as client,
        branch(fleet.server.url, others) as other,
    ):
        apps = [fleet.process(program, program) for program in PROGRAMS]
        for app in apps:
            app.client = client
        await asyncio.gather(*(app.start(register=True, **keys) for app in apps))
        await asyncio.gather(*(_works(app) for app in apps))
        sleeping = [await app.begin("singleton-cancel", {"key": app.key(), "n": 7}) for app in apps]
        assert await fleet.client.functions() == []
        assert (await fleet.client.list_runs()).runs == []
        with pytest.raises(ApiError, match="there is no environment"):
            await other.functions()
        await asyncio.gather(*(app.waiting(run, "nap") for app, run in zip(apps, sleeping, strict=True)))
        fleet.server.kill()
        fleet.server.start()
        for app, run in zip(apps, sleeping, strict=True):
            assert (await app.ended(run)).output == 7
        await asyncio.gather(*(_works(app) for app in apps))


async def test_an_environment_outlives_one_of_its_nodes(
    sdks: None, postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    keys, options = keys_of(BRANCH), ("--db", postgres_url, "--lifetime", "2")
    secrets = ("--event-key", EVENT_KEY, "--signing-key", SIGNING_KEY)
    async with running(tmp_path, *options, command="start", event_key=EVENT_KEY, signing_key=SIGNING_KEY) as fleet:
        (tmp_path / "second").mkdir()
        with DevServer(tmp_path / "second", *options, *secrets, command="start") as second:
            app = fleet.process("py-fastapi", "py-fastapi")
            # It registers with the first node, and sends its events there; the second has to find them.
            await app.start(register=True, **keys)
            async with branch(second.url, keys) as client:
                app.client = client
                run = await app.begin("singleton-cancel", {"key": app.key(), "n": 3})
                await app.waiting(run, "nap")
                fleet.server.kill()
                assert (await app.ended(run)).output == 3
                (sent,) = await client.send({"name": f"{app.id}/plain", "data": {}})
                assert (await app.ended(await app.run_of(sent))).status == "COMPLETED"
    database = database_of(postgres_url, BRANCH).rpartition("/")[2]
    postgres_server.execute(f"DROP DATABASE {database} WITH (FORCE)")


async def test_one_app_in_two_environments_of_a_server_for_development(sdks: None, tmp_path: Path) -> None:
    async with running(tmp_path, "--no-discovery") as fleet:
        plain, branched = fleet.process("py-fastapi", "py-fastapi"), fleet.process("py-fastapi", "py-fastapi")
        async with Client(fleet.server.url, environment=BRANCH) as client:
            branched.client = client
            await plain.start()
            await branched.start(INNGEST_ENV=BRANCH)
            for app in (plain, branched):
                await _works(app)
            # Each has called its own process, and knows its own runs alone; some begin by the clock.
            runs = [{run.id for run in (await each.list_runs()).runs} for each in (fleet.client, client)]
            assert all(runs) and runs[0].isdisjoint(runs[1])
