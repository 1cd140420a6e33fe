"""What was recorded of npm's SDK and the server of its makers, played again on perdure: nothing else is to be seen.

`sdk/transcripts.json` has of each scenario what its caller heard (`first`, where it was led to `final`, `events` of a
stream) and what the SDK asked of its server. Ids and tokens are named, stacks left out. Where `defect` says what the
real server does wrong, it has what is right instead.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import aiohttp
import pytest

from perdure.model.json import Json
from tests.support.sdk_apps import SDK, Fleet, SdkApp, eventually

pytestmark = [pytest.mark.timeout(120)]

SCENARIOS: dict[str, dict[str, Json]] = json.loads(Path(SDK / "transcripts.json").read_text())


@pytest.fixture(scope="module")
async def app(fleet: Fleet) -> SdkApp:
    started = fleet.process("transcripts", "transcripts")
    await started.start(register=False)
    return started


def named(app: SdkApp, text: str) -> str:
    """A text without what is different each time."""
    text = text.replace(app.url, "APP").replace(app.fleet.server.url, "SERVER")
    text = re.sub(r"01[0-9A-HJKMNP-TV-Z]{24}", "ID", text)
    text = re.sub(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN", text)
    return re.sub(r"[?&]k=[\w-]+", "", text)


def shown(app: SdkApp, answer: Json, expected: Json) -> Json:
    """An answer as the scenario has it: the headers that it names, and no stack."""
    body = answer["body"]
    if '"stack"' in body:
        body = json.dumps(
            {key: value for key, value in json.loads(body).items() if key != "stack"}, separators=(",", ":")
        )
    headers = {name: named(app, answer["headers"][name]) for name in expected["headers"] if name in answer["headers"]}
    return {"status": answer["status"], "headers": headers, "body": named(app, body).rstrip()}


async def followed(app: SdkApp, url: str) -> Json:
    async with app.fleet.http.get(url, allow_redirects=False, timeout=aiohttp.ClientTimeout(60)) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return {"status": response.status, "headers": headers, "body": await response.text()}


async def asked(app: SdkApp, count: int) -> list[str]:
    """What the SDK asked of its server, once it has asked so often."""

    async def enough() -> bool:
        return len(await app.ask("/asked")) >= count

    await eventually(enough, f"{count} requests of the SDK")
    calls = [entry["call"] for entry in await app.ask("/asked")]
    return sorted(named(app, call).replace("?channel=ID", "") for call in calls)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_is_what_was_recorded_of_it(app: SdkApp, name: str) -> None:
    scenario, key = SCENARIOS[name], app.key()
    method, _, path = scenario["request"].partition(" ")
    url = f"{app.url}{path}{'&' if '?' in path else '?'}k={key}"
    request = {"url": url, "method": method, "streams": "events" in scenario}
    first = await app.ask("/play", request | ({"body": scenario["sends"]} if "sends" in scenario else {}))
    assert shown(app, first, scenario["first"]) == scenario["first"]
    if "event" in scenario:
        await app.fleet.client.send({"name": scenario["event"], "data": {"id": key, "who": "me"}})
    if "final" in scenario:
        final = await followed(app, first["headers"]["location"])
        assert shown(app, final, scenario["final"]) == scenario["final"]
    assert first.get("events") == scenario.get("events")
    assert await asked(app, len(scenario["asked"])) == scenario["asked"]
