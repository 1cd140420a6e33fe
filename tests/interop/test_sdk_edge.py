"""npm's SDK for the edge, behind the server that it brings: what callers of its endpoints get, perdure's client too."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from perdure.client import Commit, Data, Rollback, fetch_with_stream
from tests.support.sdk_apps import Fleet, SdkApp

pytestmark = [pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
async def app(fleet: Fleet) -> SdkApp:
    started = fleet.process("edge", "edge")
    await started.start(register=False)
    return started


async def test_what_needs_no_wait_is_answered_at_once(app: SdkApp) -> None:
    async with app.fleet.http.get(f"{app.url}/two", allow_redirects=False) as answer:
        assert (answer.status, await answer.json()) == (202, {"n": 2})


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_sleep_leads_to_the_answer_and_so_does_the_proxy(app: SdkApp, method: str) -> None:
    async with app.fleet.http.request(method, f"{app.url}/sleep", allow_redirects=False) as answer:
        assert answer.status == 302
        location = answer.headers["location"]
    expected = f'{{"before":"slept","method":"{method}"}}'
    async with app.fleet.http.get(location) as answer:
        # The SDK tells the text of a response only, as JSON.
        assert (answer.status, await answer.json()) == (200, expected)
    split = urlsplit(location)
    query = {"runId": split.path.split("/")[-2], "token": parse_qs(split.query)["token"][0]}
    async with app.fleet.http.get(f"{app.url}/wait", params=query) as answer:
        assert (answer.status, await answer.text()) == (200, expected)


async def test_perdure_s_client_follows_its_stream(app: SdkApp) -> None:
    heard: list[object] = []

    def keep(event: Data | Commit | Rollback) -> None:
        heard.append(event.data if isinstance(event, Data) else type(event).__name__)

    answer = await fetch_with_stream(f"{app.url}/talks", on_data=keep, on_commit=keep, on_rollback=keep)
    assert heard == ["one", "Commit", "try 1", "Rollback", "try 2", "Commit"]
    assert (answer.status_code, answer.json()) == (201, "done")
