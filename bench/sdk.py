"""`python -m bench.sdk`: apps on the protocol's own SDKs, run by perdure. Needs the environment of the tests.

A function of three steps, served by PyPI's `inngest` under uvicorn and by npm's version 4 on node. The server and the
app have a core each, where there are two. Measured are runs a second with 500 submitted at once, the time from
sending an event to the recorded end of its run one after another, and the processor time of server and app a run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import aiohttp

from perdure.client import Client, RunInfo
from tests.support.sdk_apps import ROOT, SDK, environment, install, node

_APPS = {"npm v4": [node(), str(SDK / "three.mjs")], "PyPI": [sys.executable, "-m", "tests.interop.sdk.three"]}
_FLOOD, _ONE = 500, 100


@contextmanager
def start(
    command: list[str],
    core: int | None,
    *,
    folder: Path = ROOT,
    says: str = "app listens on ",
    more: dict[str, str] | None = None,
) -> Generator[tuple[int, str], None, None]:
    """A process, on a core of its own if one is given: its id, and the address that it prints after `says`."""
    cores = sorted(os.sched_getaffinity(0))
    given = environment({"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(more or {})})
    process = subprocess.Popen(command, cwd=folder, env=given, stdout=subprocess.PIPE, text=True)
    if core is not None:
        os.sched_setaffinity(process.pid, {cores[core % len(cores)]})
    try:
        assert process.stdout is not None
        line = ""
        while says not in line:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{command} ended with {process.wait()}")
        # Nobody reads what it prints from now on, and it must not wait for that.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield process.pid, line.split(says)[1].strip()
    finally:
        process.kill()
        process.wait()


def _cpu(pid: int) -> float:
    """Processor time of a process so far, in ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _ended(run: RunInfo) -> float:
    assert run.status == "COMPLETED" and run.ended_at is not None, run
    return datetime.fromisoformat(run.ended_at).timestamp()


async def _one(client: Client) -> float:
    """Sends one event; returns the ms until its run has ended."""
    begun = time.time()
    (sent,) = await client.send({"name": "bench/three", "data": {"n": 1}})
    while True:
        for run_id in await client.runs_of_event(sent):
            run = await client.get_run(run_id)
            if run.ended:
                assert run.output == 4, run
                return (_ended(run) - begun) * 1000
        await asyncio.sleep(0.01)


async def _flood(client: Client) -> float:
    """Sends many events at once; returns the seconds until the last of their runs has ended."""
    begun = time.time()
    await client.send([{"name": "bench/three", "data": {"n": n}} for n in range(_FLOOD)])
    while (await client.list_runs(status="RUNNING", limit=1)).runs or (
        await client.list_runs(status="QUEUED", limit=1)
    ).runs:
        await asyncio.sleep(0.1)
    runs: list[RunInfo] = []
    cursor = None
    while len(runs) < _FLOOD:
        page = await client.list_runs(limit=100, cursor=cursor)
        runs, cursor = runs + page.runs, page.cursor
    return max(_ended(run) for run in runs[:_FLOOD]) - begun


async def _measure(server: int, server_url: str, app: int, app_url: str, rounds: int) -> str:
    async with Client(server_url) as client, aiohttp.ClientSession() as http:
        async with http.put(f"{app_url}/api/inngest") as response:
            response.raise_for_status()
        await _flood(client)
        latencies = [await _one(client) for _ in range(_ONE)]
        before = _cpu(server), _cpu(app)
        seconds = [await _flood(client) for _ in range(rounds)]
        spent = [(_cpu(pid) - was) / (rounds * _FLOOD) for pid, was in zip((server, app), before, strict=True)]
    rates = sorted(_FLOOD / each for each in seconds)
    return (
        f"{statistics.median(rates):.0f} runs/s [{rates[0]:.0f}-{rates[-1]:.0f}]; one after another p50 "
        f"{statistics.median(latencies):.1f} ms, p95 {statistics.quantiles(latencies, n=20)[-1]:.1f} ms; "
        f"CPU a run: server {spent[0]:.2f} ms, app {spent[1]:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser("bench.sdk", description="Measures apps on the protocol's own SDKs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(_APPS))
    arguments = parser.parse_args()
    install()
    for name, command in _APPS.items():
        if arguments.only not in (None, name):
            continue
        folder = Path(tempfile.mkdtemp(prefix="perdure-bench-"))
        serve = [sys.executable, "-m", "perdure", "dev", "--no-discovery", "--no-poll", "--port", "0"]
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server, url = stack.enter_context(start(serve, 0, folder=folder, says="perdure serves on "))
            app, app_url = stack.enter_context(start(command, 1, more={"INNGEST_DEV": url}))
            print(f"{name}: {asyncio.run(_measure(server, url, app, app_url, arguments.rounds))}", flush=True)


if __name__ == "__main__":
    main()
