"""`python -m bench.endpoints`: what a durable endpoint costs beside the same handler without durability.

The load, the app and the server share the machine. Latencies are of one call after another, taken by turns with those
of the plain handler, so that what the machine does besides falls on both; throughput is that of 50 connections. Needs
the environment of the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from bench.report import table
from bench.sdk import start
from perdure.model.json import Json
from tests.support.sdk_apps import SDK, NotInstalled, install, node

_ONE, _WARM, _CONNECTIONS, _SECONDS = 400, 50, 50, 4.0
_WAITS, _NAPS, _NAP = 2000, 10, 1.1
Figures = list[tuple[str, str, str]]


async def _get(http: aiohttp.ClientSession, url: str, **more: Json) -> bytes:
    async with http.get(url, **more) as response:
        body = await response.read()
        if response.status not in (200, 201, 202):
            raise RuntimeError(f"{url} answered {response.status}: {body[:200]!r}")
        return body


async def _added(http: aiohttp.ClientSession, url: str) -> tuple[list[float], list[float]]:
    """The ms of calls of the plain handler and of the durable one, by turns."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(_WARM + _ONE):
        for taken, path in zip(found, ("plain", "three"), strict=True):
            begun = time.perf_counter()
            await _get(http, f"{url}/{path}")
            if turn >= _WARM:
                taken.append((time.perf_counter() - begun) * 1000)
    return found


async def _rate(url: str) -> float:
    """Calls a second with 50 connections."""
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    done = 0
    async with aiohttp.ClientSession(connector=connector) as http:
        until = time.perf_counter() + _SECONDS

        async def call() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await _get(http, url)
                done += 1

        begun = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(_CONNECTIONS)))
        return done / (time.perf_counter() - begun)


async def _late(http: aiohttp.ClientSession, url: str) -> list[float]:
    """How many ms after the end of its sleep each call was answered, redirects and all."""
    late: list[float] = []
    for _ in range(_NAPS):
        begun = time.perf_counter()
        await _get(http, f"{url}/nap?span={_NAP}s")
        late.append((time.perf_counter() - begun - _NAP) * 1000)
    return late


async def _streamed(http: aiohttp.ClientSession, url: str, *, later: bool) -> float:
    """Chunks a second that reach one caller, from the first to the last."""
    headers = {"accept": "text/event-stream"}
    if later:
        text = (await _get(http, f"{url}/talk?later=1", headers=headers)).decode()
        where = next(line for line in text.splitlines() if '"url":' in line)
        url = where.split('"url":"')[1].split('"')[0]
    else:
        url = f"{url}/talk"
    count, first, last, rest = 0, 0.0, 0.0, b""
    async with http.get(url, headers=headers) as response:
        async for piece in response.content.iter_any():
            found = (rest + piece).count(b"inngest.stream")
            # A name that is cut in two counts with its second half.
            rest = (rest + piece)[-13:]
            if found and not count:
                first = time.perf_counter()
            count += found
            last = time.perf_counter()
    return count / (last - first)


async def _waiting(http: aiohttp.ClientSession, url: str, pid: int) -> tuple[float, float, float]:
    """MiB before and with 2,000 callers who wait for answers, and after as many more calls have come and gone."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as many:
        async with http.get(f"{url}/nap?span=1h", allow_redirects=False) as response:
            where = str(response.url.join(response.url.__class__(response.headers["location"])))
        await _rate(f"{url}/three")
        before = _memory(pid)
        waits = [asyncio.create_task(_get(many, where)) for _ in range(_WAITS)]
        await asyncio.sleep(3)
        if any(wait.done() for wait in waits):
            raise RuntimeError("a wait ended")
        during = _memory(pid)
        for _ in range(200):
            await _get(http, f"{url}/three")
        await asyncio.sleep(3)
        later = _memory(pid)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return before, during, later


def _memory(pid: int) -> float:
    """MiB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _p50(values: list[float]) -> float:
    return statistics.median(values)


async def _of_app(kind: str, url: str, pid: int) -> Figures:
    async with aiohttp.ClientSession() as http:
        bare, durable = await _added(http, url)
        plain_rate, rate = await _rate(f"{url}/plain"), await _rate(f"{url}/three")
        late = await _late(http, url)
        direct = [await _streamed(http, url, later=False) for _ in range(3)]
        relayed = [await _streamed(http, url, later=True) for _ in range(3)]
        before, during, later = await _waiting(http, url, pid)
    added = _p50(durable) - _p50(bare)
    return [
        (f"{kind}: three steps add, p50", f"{added:.1f} ms", f"{_p50(durable):.1f} ms beside {_p50(bare):.1f} ms"),
        (f"{kind}: calls/s, {_CONNECTIONS} connections", f"{rate:.0f}", f"{plain_rate:.0f} of the plain one"),
        (f"{kind}: answer after a sleep of {_NAP} s", f"{_p50(late):.0f} ms late", f"at most {max(late):.0f} ms"),
        (f"{kind}: chunks/s to the caller", f"{_p50(direct):,.0f}", "of a step in the first request"),
        (f"{kind}: chunks/s by the log", f"{_p50(relayed):,.0f}", "of a step after a sleep"),
        (
            f"{kind}: {_WAITS:,} open waits", f"{during - before:+.0f} MiB",
            f"{later - during:+.0f} MiB after 200 more calls; {before:.0f} MiB before",
        ),
    ]  # fmt: skip


def _embedded(stack: ExitStack, folder: Path) -> tuple[str, int, str]:
    app, url = stack.enter_context(start([sys.executable, "-m", "bench.endpoint_app", "embedded", str(folder)], None))
    return "embedded", app, url


def _server(stack: ExitStack, folder: Path, core: int | None) -> tuple[int, str]:
    serve = [sys.executable, "-m", "perdure", "dev", "--no-discovery", "--no-poll", "--port", "0"]
    return stack.enter_context(start(serve, core, folder=folder, says="perdure serves on "))


def _remote(stack: ExitStack, folder: Path) -> tuple[str, int, str]:
    server, address = _server(stack, folder, None)
    _, url = stack.enter_context(start([sys.executable, "-m", "bench.endpoint_app", "remote", address], None))
    return "by a server", server, url


def _npm(stack: ExitStack, folder: Path) -> tuple[str, str]:
    _, address = _server(stack, folder, None)
    more = {"INNGEST_DEV": address, "PORT": "0", "LEDGER": str(folder / "ledger"), "APP_ID": "bench"}
    _, url = stack.enter_context(start([node(), str(SDK / "endpoint_three.mjs")], None, more=more))
    return "npm v4", url


def _measured(only: str | None) -> Figures:
    figures: Figures = []
    ways: list[Callable[[ExitStack, Path], tuple[str, int, str]]] = [_embedded, _remote]
    for make in ways:
        if only in (None, make.__name__.removeprefix("_")):
            with ExitStack() as stack:
                kind, pid, url = make(stack, _folder(stack))
                figures += asyncio.run(_of_app(kind, url, pid))
    if only in (None, "npm"):
        with ExitStack() as stack:
            kind, url = _npm(stack, _folder(stack))
            figures += asyncio.run(_of_npm(kind, url))
    return figures


async def _of_npm(kind: str, url: str) -> Figures:
    async with aiohttp.ClientSession() as http:
        bare, durable = await _added(http, url)
    rate = await _rate(f"{url}/three")
    added = _p50(durable) - _p50(bare)
    return [
        (f"{kind}: three steps add, p50", f"{added:.1f} ms", f"{_p50(durable):.1f} ms beside {_p50(bare):.1f} ms"),
        (f"{kind}: calls/s, {_CONNECTIONS} connections", f"{rate:.0f}", ""),
    ]


def _folder(stack: ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="perdure-bench-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser("bench.endpoints", description="Measures durable endpoints.")
    parser.add_argument("--only", choices=["embedded", "remote", "npm"])
    arguments = parser.parse_args()
    if arguments.only in (None, "npm"):
        try:
            install()
        except NotInstalled as error:
            sys.exit(f"npm cannot install the SDKs: {error}")
    print(table(("durable endpoints", "", "beside it"), _measured(arguments.only)))


if __name__ == "__main__":
    main()
