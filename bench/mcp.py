"""`python -m bench.mcp`: what tools add to the calls of the API behind them. Needs the environment of the tests.

One server in this process, and one client that asks over HTTP, in turns: the API itself, and the same by a tool in the
newest revision, in an older one, and in a session of it. Printed are milliseconds, and what is added at the median.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx2

from perdure import App, Context, embedded
from perdure.server import make_app
from tests.support.hosting import asgi_server
from tests.support.mcp import Rpc

_OLD = "2025-11-25"
_WARM = 20


async def measure(rounds: int) -> None:
    """Measures, and prints."""
    app = App("shop")

    @app.function("order")
    async def order(ctx: Context) -> dict[str, object]:
        return {"got": ctx.event.data}

    async with (
        embedded(app, db=":memory:") as node,
        asgi_server(make_app(node)) as url,
        httpx2.AsyncClient(base_url=url) as http,
    ):
        await http.post("/invoke/shop-order", json={"data": {"n": 1}})
        await node.settle()
        run = (await http.get("/v2/runs")).json()["data"][0]["id"]
        new, old = Rpc(http), Rpc(http, revision=_OLD)
        begun = await old.ask(
            "initialize", protocolVersion=_OLD, capabilities={}, clientInfo={"name": "b", "version": "1"}
        )
        kept = Rpc(http, revision=_OLD, **{"mcp-session-id": begun.headers["mcp-session-id"]})
        given = {"name": "get_run", "arguments": {"runId": run}}
        calls: dict[str, dict[str, Callable[[], Awaitable[httpx2.Response]]]] = {
            "a run": {
                "GET /v2/runs/{id}": lambda: http.get(f"/v2/runs/{run}"),
                "2026-07-28": lambda: new.ask("tools/call", **given),
                "2025-11-25": lambda: old.ask("tools/call", **given),
                "2025-11-25, session": lambda: kept.ask("tools/call", **given),
            },
            "a list": {
                "GET /v2/operations": lambda: http.get("/v2/operations"),
                "2026-07-28": lambda: new.ask("tools/list"),
                "2025-11-25": lambda: old.ask("tools/list"),
            },
        }
        for about, kinds in calls.items():
            _show(about, await _taken(kinds, rounds))


async def _taken(kinds: dict[str, Callable[[], Awaitable[httpx2.Response]]], rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(_WARM + rounds):
        for name, call in kinds.items():
            began = time.perf_counter()
            answer = await call()
            if turn >= _WARM:
                taken[name].append((time.perf_counter() - began) * 1000)
            answer.raise_for_status()
    return {name: sorted(times) for name, times in taken.items()}


def _show(about: str, taken: dict[str, list[float]]) -> None:
    native = next(iter(taken.values()))
    print(about)
    for name, times in taken.items():
        middle = times[len(times) // 2]
        added = "" if times is native else f"   +{middle - native[len(native) // 2]:.2f}"
        print(f"  {name:<22} p50 {middle:6.2f}   p95 {times[int(len(times) * 0.95)]:6.2f}{added}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400)
    asyncio.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
