"""The module for pages: what it does alone, and how the server serves it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from perdure.client import browser
from tests.support.sdk_apps import node
from tests.support.wire import serving
from tests.wire.test_streaming_clients import MODULE

TESTS = Path(__file__).with_name("page.test.mjs")


async def test_the_module_alone() -> None:
    process = await asyncio.create_subprocess_exec(
        node(),
        "--test",
        "--test-reporter=tap",
        str(TESTS),
        env=os.environ | {"MODULE": str(MODULE)},
        stdout=-1,
        stderr=-1,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode == 0, out.decode() + errors.decode()


async def test_the_server_serves_it_to_every_page() -> None:
    async with serving() as wire:
        answer = await wire.http.get("/perdure-stream.js", headers={"origin": "https://shop.example"})
        assert (answer.status_code, answer.text) == (200, browser.source())
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        again = await wire.http.get("/perdure-stream.js", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
