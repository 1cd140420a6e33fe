"""A page that is left open for a day, in fast motion: thousands of runs and events come, and it does not grow.

The page is the real one; what its requests and its live connection answer is made here, so that a day takes seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import pytest

import perdure
from perdure import App
from tests.support.devtools import Page
from tests.support.hosting import asgi_server
from tests.support.page_server import PATIENCE, go, open_view

FAST: Final = """(() => {
  const real = window.fetch
  const slow = window.setTimeout
  window.setTimeout = (act, ms, ...rest) => slow(act, ms / 100, ...rest)
  const state = window.day = { asked: 0, newest: 0 }
  const id = (n) => "01M8" + String(n).padStart(22, "0")
  const at = "2026-11-23T08:00:00.000Z"
  const newest = (url) => {
    const cursor = url.searchParams.get("cursor")
    const first = cursor ? Number(cursor.slice(4)) - 1 : state.newest
    return Array.from({ length: 100 }, (_, place) => first - place).filter((n) => n > 0)
  }
  const lists = {
    "/v2/runs": (url) => ({ page: { hasMore: true, cursor: id(newest(url).at(-1) ?? 1) },
      data: newest(url).map((n) => ({
      id: id(n), status: n % 7 ? "COMPLETED" : "FAILED", app: { id: "shop" }, function: { id: "f", name: "F" },
      queuedAt: at, startedAt: at, endedAt: at, durationMs: "7" })) }),
    "/v1/events": (url) => ({ data: newest(url).map((n) => ({
      internal_id: id(n), name: "shop/" + n, data: { n }, received_at: at })) }),
  }
  window.fetch = async (input, init) => {
    const url = new URL(input)
    if (url.pathname === "/v2/changes") {
      const told = new ReadableStream({ async start(stream) {
        for (let n = 0; !init.signal.aborted; n++) {
          stream.enqueue(new TextEncoder().encode(`id: ${n}\\ndata: ${n}\\n\\n`))
          await new Promise((resolve) => slow(resolve, 2))
        }
        stream.close()
      } })
      return new Response(told)
    }
    const made = lists[url.pathname]
    if (!made) return real(input, init)
    state.asked++
    state.newest += 60
    return new Response(JSON.stringify(made(url)))
  }
  return import("/page/live.js").then((live) => void live.connect())
})()"""
UPDATES: Final = 60
KEPT: Final = 5000


@pytest.fixture
async def watched(page: Page) -> AsyncGenerator[Page]:
    async with perdure.embedded(App("shop"), db=":memory:") as node, asgi_server(node.asgi()) as url:
        await open_view(page, url)
        await page.run(FAST)
        yield page


async def _size(page: Page) -> tuple[int, int]:
    """Bytes that are in use, and nodes, those that are not in the document included."""
    await page.call("HeapProfiler.collectGarbage")
    heap = await page.call("Runtime.getHeapUsage")
    counters = await page.call("Memory.getDOMCounters")
    return int(heap["usedSize"]), int(counters["nodes"])


@pytest.mark.parametrize("view", ["#/runs", "#/events"])
async def test_a_list_does_not_grow(watched: Page, view: str) -> None:
    await go(watched, view)
    sizes: list[tuple[int, int]] = []
    for _ in range(3):
        await watched.run("window.day.asked = 0")
        await watched.until(f"window.day.asked > {UPDATES}", PATIENCE)
        assert await watched.run("document.querySelector('p-list').items.length") <= KEPT
        sizes.append(await _size(watched))
    # Ten thousand rows have come, of which at most 5,000 are kept: the last third of the day needs nothing.
    assert await watched.run("document.querySelector('p-list').items.length") > KEPT / 2
    assert sizes[2][0] < sizes[1][0] + 3_000_000, sizes
    assert sizes[2][1] < sizes[1][1] + 500, sizes
    assert watched.errors == []
