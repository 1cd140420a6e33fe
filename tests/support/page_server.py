"""The page in a browser over a server with a history, and what is asked of every view."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final, NamedTuple

import httpx2

import perdure
from perdure import Node
from perdure.engine import views
from perdure.model.json import Json
from perdure.model.records import Run, RunStatus
from perdure.server import make_app
from perdure.server.auth import Guard
from tests.support.browser import FOLDER
from tests.support.devtools import Page
from tests.support.hosting import asgi_server
from tests.support.page_app import MARKUP, Flaky, page_apps

PATIENCE: Final = 30.0
_AXE: Final = FOLDER / "node_modules/axe-core/axe.min.js"
_SERIOUS: Final = ("serious", "critical")


class Shown(NamedTuple):
    """A server whose apps have run, its address, and what tests change in it."""

    node: Node
    url: str
    flaky: Flaky
    hold: asyncio.Event
    runs: dict[str, str]
    """The newest run of each function, by the function's id within its app."""

    async def again(self, function: str) -> Run:
        """The newest run of a function."""
        found = await self.node.view(lambda: views.list_runs(1, function_ids=[f"shop-{function}"]))
        return found[0]

    async def start(self, event: str, data: Json = None) -> str:
        """Sends an event that starts one run; returns the run's id once that is recorded."""
        (event_id,) = await self.node.send([{"name": event, "data": data or {}}])
        (run,) = await self.node.runs_of(event_id)
        return str(run.run_id)


@asynccontextmanager
async def shown_server(guard: Guard | None = None) -> AsyncGenerator[Shown]:
    """The server; its runs have come to rest, or hold, wait and are tried again much later."""
    flaky, hold = Flaky(), asyncio.Event()
    async with perdure.embedded(page_apps(flaky, hold), db=":memory:", retry_interval=3_600_000) as node:
        await node.send([{"name": "helpdesk/marked", "data": {MARKUP: MARKUP}}])
        # Some have come to their end.
        orders = [{"n": n, "courier": "1s" if n < 4 else "5m"} for n in range(6)]
        await node.send([{"name": "shop/order.placed", "data": order} for order in orders])
        for name in ("label.wanted", "label.wanted", "approval.asked", "sleep", "print", "letter"):
            await node.send([{"name": f"shop/{name}", "data": {"said": MARKUP}, "user": {"name": MARKUP}}])
        for who in ("ada", "ada", "bob"):
            await node.send([{"name": "shop/hold", "data": {"who": who}}])
        async with asyncio.timeout(PATIENCE):
            while len(newest := await _newest(node)) < 8:
                await asyncio.sleep(0.02)
        application = make_app(node, guard or Guard())
        async with asgi_server(application) as url:
            yield Shown(node, url, flaky, hold, newest)
            hold.set()


async def _newest(node: Node) -> dict[str, str]:
    runs = await node.view(lambda: views.list_runs(100))
    ended = ("shop-broken", "helpdesk-marked")
    settled = [run for run in runs if run.function_id not in ended or RunStatus(run.status).final]
    return {run.function_id.partition("-")[2]: run.id for run in reversed(settled)}


async def open_view(page: Page, url: str, view: str = "#/runs") -> None:
    """Loads the page anew at a view, and waits until that is there."""
    await page.call("Page.navigate", url="about:blank")
    await page.goto(f"{url}/{view}")
    await page.until("document.querySelector('main h1') && !document.querySelector('main .spin')", PATIENCE)


async def go(page: Page, view: str) -> None:
    """Goes to a view within the page."""
    there = json.dumps(view)
    await page.run(
        f"document.querySelector('main h1')?.remove();"
        f" location.hash === {there} ? dispatchEvent(new Event('hashchange')) : (location.hash = {there})"
    )
    await page.until("document.querySelector('main h1') && !document.querySelector('main .spin')", PATIENCE)


async def has_text(page: Page, text: str, selector: str = "main") -> None:
    """Waits until a text is shown."""
    found = f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})"
    await page.until(found, PATIENCE)


async def press_button(page: Page, text: str, inside: str = "main") -> None:
    """Clicks the button with a text, once it is there and can be pressed."""
    found = (
        f"[...document.querySelectorAll({json.dumps(inside + ' button')})]"
        f".find((each) => each.innerText.trim().startsWith({json.dumps(text)}) && !each.disabled)"
    )
    await page.until(f"(() => {{ const e = {found}; if (!e) return false; e.click(); return true }})()", PATIENCE)


async def fill(page: Page, name: str, text: str) -> None:
    """Puts a text into a field of the open dialog."""
    await page.until(f"document.querySelector('dialog [name={name}]')", PATIENCE)
    await page.run(
        f"(e => {{ e.value = {json.dumps(text)}; e.dispatchEvent(new Event('change', {{bubbles: true}})) }})"
        f"(document.querySelector('dialog [name={name}]'))"
    )


@cache
def _axe() -> str:
    return _AXE.read_text(encoding="utf-8")


async def serious_findings(page: Page) -> list[str]:
    """What axe-core finds that keeps people out, each with the elements that it is about."""
    if not await page.run("typeof axe !== 'undefined'"):
        await page.run(_axe())
    found = await page.run("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes']][:3]}"
        for each in found["violations"]
        if each["impact"] in _SERIOUS
    ]


async def markup_that_came_in(page: Page) -> list[str]:
    """The elements that can only come from what users wrote."""
    found: Json = await page.run(
        "[...document.querySelectorAll('main img, main script, main iframe, body > script, [onerror]')]"
        ".map((each) => each.outerHTML)"
    )
    return list(found)


async def sign_in(page: Page, url: str, key: str) -> None:
    """Opens the page of a server with keys, and shows it a key."""
    await page.goto(f"{url}/")
    await page.until("document.querySelector('input[type=password]')", PATIENCE)
    await page.write("input[type=password]", key)
    await page.press("Enter")


async def status_of(url: str, run_id: str) -> str:
    """Where a run stands, as the API says."""
    async with httpx2.AsyncClient(base_url=url) as http:
        return str((await http.get(f"/v2/runs/{run_id}")).json()["data"]["status"])
