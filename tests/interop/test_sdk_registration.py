"""How a server comes to know real SDK apps: told their URL, polling, a restart elsewhere; and functions that go."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.client import Client
from tests.support.sdk_apps import eventually, running

pytestmark = pytest.mark.timeout(240)
KEY = "0123456789abcdef" * 4


async def _slugs(client: Client) -> list[str]:
    return [each["id"] for each in await client.functions()]


@pytest.mark.parametrize("id", ["v4", "v3", "py-fastapi", "py-flask"])
async def test_an_app_is_found_by_its_url_and_polled(sdks: None, tmp_path: Path, id: str, free_port: int) -> None:
    arguments = ("--no-discovery", "-u", f"http://127.0.0.1:{free_port}/api/inngest", "--poll-interval", "0.5")
    async with running(tmp_path, *arguments) as fleet:
        app = fleet.process(id, id)
        await app.start(register=False, PORT=str(free_port))

        async def known() -> bool:
            return f"{id}-two-steps" in await _slugs(fleet.client)

        await eventually(known, "functions of the app")
        assert await app.result("two-steps", {"key": app.key(), "n": 1}) == {"a": {"n": 2}, "b": 3}


async def test_an_app_moves_to_another_address(sdks: None, tmp_path: Path) -> None:
    async with running(tmp_path, "--no-discovery", "--no-poll", "--retry-interval", "1") as fleet:
        app = fleet.process("v4", "v4")
        await app.start()
        run_id = await app.begin("wait-match", {"key": "moving"})
        await app.waiting(run_id, "approval")
        app.kill()
        before = sorted(await _slugs(fleet.client))
        await app.start()
        assert sorted(await _slugs(fleet.client)) == before
        await app.send({"name": "v4/approved", "data": {"key": "moving"}})
        assert (await app.ended(run_id)).output["data"] == {"key": "moving"}


async def test_runs_survive_their_app(sdks: None, tmp_path: Path, free_port: int) -> None:
    # Longer than an app takes to start on a busy machine: none of the attempts may find it away.
    async with running(tmp_path, "--no-discovery", "--no-poll", "--retry-interval", "4") as fleet:
        app = fleet.process("py-fastapi", "py-fastapi")
        await app.start(PORT=str(free_port))
        # Its step is being done when the app dies: the call fails, and is made again to the app that is back.
        run_id = await app.begin("step-retry", {"key": "dying"})
        await app.until_noted("dying")
        app.kill()
        await app.start(PORT=str(free_port))
        run = await app.ended(run_id)
        assert (run.status, run.output) == ("COMPLETED", "at last")


async def test_a_server_with_keys_asks_an_app_to_register(sdks: None, tmp_path: Path, free_port: int) -> None:
    arguments = ("-u", f"http://127.0.0.1:{free_port}/api/inngest", "--poll-interval", "0.5")
    async with running(tmp_path, *arguments, command="start", event_key="key", signing_key=KEY) as fleet:
        app = fleet.process("py-fastapi", "py-fastapi")
        await app.start(register=False, PORT=str(free_port))

        async def known() -> bool:
            return "py-fastapi-two-steps" in await _slugs(fleet.client)

        await eventually(known, "functions of the app")
        assert await app.result("two-steps", {"key": app.key(), "n": 1}) == {"a": {"n": 2}, "b": 3}
