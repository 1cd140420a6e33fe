"""Every view of the page in a real browser: it shows, at two widths, to everybody, and what users wrote stays text."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import pytest

from tests.support.accessibility import faint_texts, nameless_controls, overflow
from tests.support.devtools import Page
from tests.support.page_server import (
    Shown,
    go,
    has_text,
    markup_that_came_in,
    open_view,
    press_button,
    serious_findings,
    shown_server,
)
from tests.support.sdk_apps import ROOT

SCREENSHOTS: Final = Path(__file__).parent / "screenshots"
WIDE, NARROW = 1280, 360
VIEWS: Final = {
    "runs": ("#/runs", "Fulfil an order"),
    "runs-filtered": ("#/runs?status=FAILED&text=onerror", "Print a label"),
    "runs-none": ("#/runs?text=nowhere-to-be-found", "No run fits"),
    "run": ("#/runs/{fulfil}", "wait for the courier"),
    "run-failed": ("#/runs/{broken}", "no labels left"),
    "run-marked": ("#/runs/{marked}", "step <img src=x onerror="),
    "function-marked": ("#/functions/helpdesk/marked", "Marked <img src=x onerror="),
    "run-waiting": ("#/runs/{waiting}", "wait for approval"),
    "run-retrying": ("#/runs/{retrying}", "call the printer"),
    "failed": ("#/failed", "no labels left"),
    "events": ("#/events", "shop/order.placed"),
    "functions": ("#/functions", "Fulfil an order"),
    "function": ("#/functions/shop/hold", "who waits"),
    "function-cron": ("#/functions/shop/report", "Next ticks"),
    "apps": ("#/apps", "helpdesk"),
    "agents": ("#/agents", "Help desk"),
    "agent": ("#/agents/desk", "Threads"),
    "endpoints": ("#/endpoints", "No endpoint has been called"),
    "system": ("#/system", "Everything is as it should be"),
}


@pytest.fixture(scope="module")
async def shown() -> AsyncGenerator[Shown]:
    async with shown_server() as server:
        yield server


@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_every_view_shows_to_everybody(shown: Shown, page: Page, width: int) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.resize(width, 800)
    await open_view(page, shown.url)
    for name, (view, text) in VIEWS.items():
        await go(page, view.format(**shown.runs))
        await has_text(page, text)
        assert await overflow(page) == 0, name
        assert await nameless_controls(page) == [], name
        assert await faint_texts(page) == [], name
        if width == WIDE:
            assert await serious_findings(page) == [], name
        assert await markup_that_came_in(page) == [], name
        assert page.errors == [], name
        await page.screenshot(SCREENSHOTS / f"{name}-{width}.png")
    # Nothing comes from anywhere else.
    assert [url for url in page.requests if not url.startswith((shown.url, "about:", "data:"))] == []


async def test_the_dark_page_can_be_read(shown: Shown, page: Page) -> None:
    await page.prefer(color_scheme="dark", reduced_motion="reduce")
    await open_view(page, shown.url)
    for name in ("runs", "run", "run-failed", "function", "system", "agent"):
        view, text = VIEWS[name]
        await go(page, view.format(**shown.runs))
        await has_text(page, text)
        assert await faint_texts(page) == [], name
    await page.press("t")
    await page.until("document.documentElement.dataset.theme === 'light'")
    assert await faint_texts(page) == []


async def test_what_users_wrote_is_text_in_every_detail(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, f"#/runs/{shown.runs['retrying']}")
    await press_button(page, "call the printer")
    await has_text(page, "Attempts that failed")
    await has_text(page, "out of paper <img src=x onerror=")
    assert await markup_that_came_in(page) == []
    await go(page, "#/events")
    await page.until("document.querySelector('.row a.name')")
    await page.run("[...document.querySelectorAll('.row a.name')].find((e) => e.innerText === 'shop/print').click()")
    await has_text(page, "Send it from elsewhere")
    await page.run("document.querySelectorAll('main details').forEach((each) => (each.open = true))")
    await has_text(page, "<img src=x onerror=")
    assert await markup_that_came_in(page) == [] and page.errors == []


async def test_a_view_that_does_not_exist_and_a_run_that_is_gone_say_so(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url)
    await page.run("location.hash = '#/nothing'")
    await has_text(page, "There is no such page")
    await page.run("location.hash = '#/runs/01M811P18277Y0AMMWSQ8QVTTA'")
    await has_text(page, "Run not found")
    await has_text(page, "past its retention")


async def test_the_keyboard_is_enough(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url)
    await page.press("g")
    await page.press("f")
    await page.until("location.hash === '#/functions' && document.querySelector('main h1')?.innerText === 'Functions'")
    await page.press("g")
    await page.press("r")
    await page.until("document.querySelector('.row a.name')")
    await page.press("j")
    assert await page.run("document.activeElement.matches('.row a.name')")
    await page.press("Enter")
    await page.until("location.hash.startsWith('#/runs/0')")
    await go(page, "#/runs")
    await page.press("/")
    assert await page.run("document.activeElement.name") == "text"
    await page.press("Escape")
    await page.press("?")
    await has_text(page, "g r: Runs", "dialog[open]")
    await page.press("Escape")
    await page.until("!document.querySelector('dialog')")


async def test_the_pictures_of_the_readme(shown: Shown, page: Page, tmp_path: Path) -> None:
    """With PERDURE_README_IMAGES=1 they are put into docs/images."""
    folder = ROOT / "docs/images" if os.environ.get("PERDURE_README_IMAGES") == "1" else tmp_path
    folder.mkdir(exist_ok=True)
    await page.resize(1120, 600)
    await open_view(page, shown.url, "#/runs?app=shop")
    await has_text(page, "Completed", "p-list")
    await page.screenshot(folder / "page-runs.png")
    await go(page, f"#/runs/{shown.runs['fulfil']}")
    await has_text(page, "wait for the courier")
    await page.screenshot(folder / "page-run.png")
    for name in ("page-runs.png", "page-run.png"):
        assert 5_000 < (folder / name).stat().st_size < 200_000
