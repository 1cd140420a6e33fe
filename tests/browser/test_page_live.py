"""A page that is left open: its lists follow what comes, without a gap and without growing, however much that is."""

from __future__ import annotations

from typing import Final

import perdure
from perdure import App, Context
from perdure.engine import views
from perdure.model.json import Json
from tests.support.devtools import Page
from tests.support.hosting import asgi_server
from tests.support.page_server import PATIENCE, go, has_text, open_view

FEW: Final = 60
"""Rows that may be in the page for a list of 44 px a row on a screen of 800."""
_ELEMENTS: Final = "document.querySelectorAll('*').length"
_MORE_THAN_A_PAGE: Final = 130


async def _sent(node: perdure.Node, count: int, first: int = 0) -> None:
    for at in range(first, first + count, 50):
        last = min(at + 50, first + count)
        await node.send([{"name": "shop/greet", "data": {"n": n}} for n in range(at, last)])


async def _shows_the_newest(page: Page, node: perdure.Node) -> None:
    (newest,) = await node.view(lambda: views.list_runs(1))
    await page.until(f"document.querySelector('p-list').items[0]?.id === '{newest.id}'", PATIENCE)


async def test_lists_follow_what_comes_and_do_not_grow(page: Page) -> None:
    app = App("shop")

    @app.function("greet", trigger="shop/greet")
    async def greet(ctx: Context) -> Json:
        return ctx.event.data["n"]

    async with perdure.embedded(app, db=":memory:") as node, asgi_server(node.asgi()) as url:
        await _sent(node, 20)
        await open_view(page, url, "#/runs")
        await page.until("document.querySelector('p-list').items.length === 20", PATIENCE)
        first = await page.run(_ELEMENTS)
        # More than a page of runs comes at once: the list has no gap, all of them are found by scrolling.
        await _sent(node, _MORE_THAN_A_PAGE, 20)
        await _shows_the_newest(page, node)
        whole = 20 + _MORE_THAN_A_PAGE
        await page.until(
            "(() => { const list = document.querySelector('p-list'); list.scrollTop = list.scrollHeight;"
            f" return list.items.length === {whole} }})()",
            PATIENCE,
        )
        assert await page.run("document.querySelectorAll('.row').length") < FEW
        for view in ("#/events", "#/functions", "#/system", "#/failed", "#/runs"):
            await go(page, view)
        await has_text(page, "Completed", "p-list")
        # What was left is gone, and what is watched is what is shown.
        assert await page.run(_ELEMENTS) < first + 12 * FEW
        for round_ in range(4):
            await _sent(node, 25, whole + 25 * round_)
            await _shows_the_newest(page, node)
        assert await page.run("document.querySelectorAll('.row').length") < FEW
        assert page.errors == []
