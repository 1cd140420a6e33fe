"""`perdure dev` and an app on another server: asked to register, known after a restart, called as it said."""

from __future__ import annotations

from asyncio import to_thread
from pathlib import Path

import httpx2

from perdure.client import Client
from perdure.model.json import Json
from tests.support.dev_server import DevServer
from tests.support.syncing_app import syncing_app


async def test_an_app_is_asked_registers_and_is_known_after_a_restart(tmp_path: Path) -> None:
    address = ""

    async def register(document: dict[str, Json]) -> Json:
        async with httpx2.AsyncClient(base_url=address) as http:
            return (await http.post("/fn/register", json=document)).json()

    async with syncing_app(register) as app:
        options = ("--no-discovery", "--poll-interval", "60")
        with DevServer(tmp_path, *options, "-u", app.url) as server:
            address = server.url
            await to_thread(server.wait_for, "app shop synced, 1 function at")
            assert "it registers itself (INNGEST_DEV=http://localhost:" in "".join(server.printed)
            assert await to_thread(server.stop) == 0
        app.mode = "broken"
        with DevServer(tmp_path, *options) as server:
            await to_thread(server.wait_for, f"app        shop  {app.url}")
            async with Client(server.url) as client:
                functions = await client.functions()
            assert [function["id"] for function in functions] == ["shop-fulfil"]
            await to_thread(server.wait_for, "app shop: ")
            assert await to_thread(server.stop) == 0
