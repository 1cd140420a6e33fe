"""`python -m bench.page`: how fast the page is over a hundred thousand runs, in the browser of the tests.

The store is filled by SQL, so that it takes seconds; what is measured goes through the server and a headless Chromium.
It prints what each view took from the change of the address to its rows, and the longest frame while a list is
scrolled, and while 500 events arrive a second.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx2

import perdure
from perdure import App, Context, Node
from perdure.model.ids import make_ulid
from tests.support.browser import chromium, launched
from tests.support.devtools import Page
from tests.support.hosting import asgi_server

RUNS: Final = 100_000
STEPS: Final = 1_000
_FUNCTIONS: Final = ("shop-fulfil", "shop-ship", "shop-bill", "shop-write")
_SHOWS: Final = """(async () => {
  const begun = performance.now()
  location.hash = %s
  for (;;) {
    await new Promise(requestAnimationFrame)
    if (document.querySelectorAll(".row").length > 5 && %s) return performance.now() - begun
  }
})()"""
_FRAMES: Final = """(async () => {
  const list = document.querySelector("p-list")
  let worst = 0
  let last = performance.now()
  for (const until = last + %d; last < until; ) {
    list.scrollTop += %d
    await new Promise(requestAnimationFrame)
    const now = performance.now()
    worst = Math.max(worst, now - last)
    last = now
  }
  return worst
})()"""


def apps() -> App:
    app = App("shop")
    for slug in _FUNCTIONS:

        @app.function(slug.removeprefix("shop-"), trigger=slug)
        async def work(ctx: Context) -> None:
            """Nothing: its runs are in the store already."""

    return app


def fill(path: Path, now: int) -> str:
    """Writes the runs; returns the id of the one with many steps."""
    events: list[tuple[object, ...]] = []
    runs: list[tuple[object, ...]] = []
    for n in range(RUNS):
        at = now - (RUNS - n) * 50
        event, run = make_ulid(at, 2 * n), make_ulid(at, 2 * n + 1)
        body = json.dumps({"name": "shop-fulfil", "data": {"n": n}, "id": event, "ts": at}).encode()
        failed = n % 500 == 0
        output = b'{"name":"Error","message":"no stock"}' if failed else b'{"ok":true}'
        events.append((event, "shop-fulfil", at, 0, body))
        runs.append(_run(run, _FUNCTIONS[n % 4], event, 3 if failed else 2, at, output))
    long = make_ulid(now, RUNS * 2)
    begun = now - STEPS * 60
    runs.append(_run(long, "shop-fulfil", str(events[-1][0]), 2, begun, b"1"))
    steps = [_step(long, n, begun + n * 60) for n in range(STEPS)]
    connection = sqlite3.connect(path)
    with connection:
        connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", events)
        connection.executemany(f"INSERT INTO run VALUES ({', '.join('?' * 15)})", runs)
        connection.executemany(f"INSERT INTO step VALUES ({', '.join('?' * 12)})", steps)
    connection.close()
    return long


def _run(run: str, function: str, event: str, status: int, at: int, output: bytes) -> tuple[object, ...]:
    return (run, function, 1, "shop", event, None, None, None, None, status, at, at + 5, at + 50, output, None)


def _step(run: str, n: int, at: int) -> tuple[object, ...]:
    return (run, f"{n:040d}", "StepRun", f"step {n}", 0, n, 0, at, at, at + 50, b'"' + b"x" * 2000 + b'"', None)


async def answers(url: str, paths: list[str]) -> None:
    """How long the API takes, the second time it is asked."""
    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        for path in paths:
            await http.get(path)
            begun = time.perf_counter()
            (await http.get(path)).raise_for_status()
            print(f"{1000 * (time.perf_counter() - begun):8.0f} ms  GET {path}")


async def views(page: Page, url: str, long: str, node: Node) -> None:
    """How long the views take, and how smoothly they move."""
    await page.resize(1280, 800)
    await page.goto(f"{url}/#/runs")
    await page.until("document.querySelector('.row')")
    paint = await page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    size = await page.run("performance.getEntriesByType('resource').reduce((all, e) => all + e.decodedBodySize, 0)")
    print(f"{paint:8.0f} ms  first paint")
    print(f"{size / 1024:8.0f} KiB first load, the answers of the API included")
    for name, view, besides in [
        ("a run of 1,000 steps", f"#/runs/{long}", "document.querySelector('.steps')"),
        ("the list", "#/runs", "!document.querySelector('.steps')"),
        ("failed runs alone", "#/runs?status=FAILED", "document.querySelector('.row').innerText.includes('Failed')"),
    ]:
        print(f"{await page.run(_SHOWS % (json.dumps(view), besides)):8.0f} ms  {name}")
    await page.run(_SHOWS % (json.dumps("#/runs"), "true"))
    print(f"{await page.run(_FRAMES % (4000, 600)):8.0f} ms  the longest frame while the list is scrolled")
    await page.run(_SHOWS % (json.dumps("#/events"), "document.querySelector('h1').innerText === 'Events'"))
    sending = asyncio.create_task(_send(node))
    print(f"{await page.run(_FRAMES % (5000, 0)):8.0f} ms  the longest frame while 500 events/s arrive")
    await sending


async def _send(node: Node) -> None:
    for _ in range(50):
        await node.send([{"name": "nobody/listens", "data": {"n": n}} for n in range(50)])
        await asyncio.sleep(0.1)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.db"
        async with perdure.embedded(apps(), db=path):
            pass
        long = fill(path, int(time.time() * 1000))
        async with perdure.embedded(apps(), db=path) as node, asgi_server(node.asgi()) as url:
            lists = ["", "&status=FAILED", "&status=RUNNING", "&functionId=shop-bill", "&text=nowhere"]
            whole = ["/v2/failures", "/v2/system", "/v2/activity?hours=1", f"/v2/runs/{long}/steps"]
            await answers(url, [f"/v2/runs?limit=100{each}" for each in lists] + whole)
            async with launched(chromium(), Path(folder) / "browser") as browser:
                page = await browser.open()
                await views(page, url, long, node)
                assert page.errors == [], page.errors


if __name__ == "__main__":
    asyncio.run(main())
