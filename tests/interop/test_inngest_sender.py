"""The official Python client of the protocol sends events here, as it does to any server of the protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import inngest
import pytest

from perdure.client import Client
from tests.support.dev_server import DevServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[DevServer, None]:
    with DevServer(tmp_path, "--db", ":memory:") as started:
        yield started


@pytest.fixture
async def sender(server: DevServer) -> AsyncGenerator[inngest.Inngest, None]:
    made = inngest.Inngest(app_id="sender", is_production=False, event_api_base_url=server.url)
    yield made
    # It has no way to close its connections.
    await made._http_client._http_client.aclose()
    made._http_client._http_client_sync.close()


async def test_the_official_client_sends_events(server: DevServer, sender: inngest.Inngest) -> None:
    ids = await sender.send([inngest.Event(name="o/one", data={"n": 1}), inngest.Event(name="o/two", id="mine")])
    async with Client(server.url) as client:
        stored = {event["internal_id"]: event for event in await client.events()}
    assert [stored[each]["name"] for each in ids] == ["o/one", "o/two"]
    assert stored[ids[1]]["id"] == "mine" and stored[ids[0]]["data"] == {"n": 1}
    with pytest.raises(Exception, match="event name is reserved for internal use"):
        await sender.send(inngest.Event(name="inngest/mine"))
