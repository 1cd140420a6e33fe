"""The page of a server in a process of its own: environments, and a server that goes away and comes back."""

from __future__ import annotations

from pathlib import Path

import httpx2

from tests.support.dev_server import DevServer
from tests.support.devtools import Page
from tests.support.page_server import PATIENCE, go, has_text, open_view

APP = """
from perdure import App

app = App("shop")

@app.function("greet", trigger="shop/greet")
async def greet(ctx):
    return "hello"
"""


async def test_environments_are_looked_at_one_by_one(page: Page, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP, encoding="utf-8")
    with DevServer(tmp_path, "shop.py:app", "--db", ":memory:") as server:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            await http.post("/e/key", json={"name": "shop/in.main"})
            await http.post("/e/key", json={"name": "shop/in.branch"}, headers={"x-inngest-env": "feature/carts"})
        await open_view(page, server.url, "#/events")
        await has_text(page, "shop/in.main")
        chosen = "document.querySelector('select[aria-label=Environment]')"
        await page.until(chosen, PATIENCE)
        await page.run(f"{chosen}.value = 'feature/carts'; {chosen}.dispatchEvent(new Event('change'))")
        await has_text(page, "shop/in.branch")
        assert not await page.run("document.querySelector('main').innerText.includes('shop/in.main')")
        await page.until("document.querySelector('.live').dataset.state === 'live'", PATIENCE)
        await go(page, "#/functions")
        await has_text(page, "No function is in force")
        assert page.errors == []


async def test_a_server_that_comes_back_is_live_again(page: Page, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP, encoding="utf-8")
    database = ("shop.py:app", "--db", str(tmp_path / "shop.db"))
    with DevServer(tmp_path, *database) as server:
        await open_view(page, server.url)
        await has_text(page, "Nothing has run yet")
        await page.until("document.querySelector('.live').dataset.state === 'live'", PATIENCE)
        port = int(server.url.rpartition(":")[2])
    await page.until("document.querySelector('.live').dataset.state === 'away'", PATIENCE)
    with DevServer(tmp_path, *database, port=port) as server:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            await http.post("/e/key", json={"name": "shop/greet"})
        await page.until("document.querySelector('.live').dataset.state === 'live'", PATIENCE)
        await has_text(page, "greet", "p-list")
        await has_text(page, "Completed", "p-list")
