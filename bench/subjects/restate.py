"""Restate: its server (as shipped, fsynced), an app under hypercorn, and aiohttp as the client that waits for results.

CPU and memory are those of the server and the app, without the client.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from bench import load, loops, ports
from bench.meter import Meter
from bench.subject import ROOT, Measured, Task, serve

_BINARY = ROOT / "bench/node_modules/@restatedev/restate-server-linux-x64/bin/restate-server"
_CONFIG = """
base-dir = "{directory}"
bind-address = "127.0.0.1:{node}"
advertised-address = "http://127.0.0.1:{node}"
listen-mode = "tcp"
disable-telemetry = true
log-filter = "warn"
[ingress]
bind-address = "127.0.0.1:{ingress}"
[admin]
bind-address = "127.0.0.1:{admin}"
disable-web-ui = true
"""


@contextmanager
def _process(*arguments: str | Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "DO_NOT_TRACK": "1", "RUST_LOG": "warn"}
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment)
    try:
        ports.wait_for(port, process)
        yield process
    finally:
        # hypercorn's workers end with it when it is asked to; the parent of this process ends whatever stays.
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _register(session: aiohttp.ClientSession, admin: int, app: int) -> None:
    """Tells the server where the app is; the first seconds after its start it refuses."""
    answer = ""
    for _ in range(100):
        async with session.post(
            f"http://127.0.0.1:{admin}/deployments", json={"uri": f"http://127.0.0.1:{app}"}
        ) as response:
            if response.ok:
                return
            answer = await response.text()
        await asyncio.sleep(0.2)
    raise RuntimeError(f"Restate does not take the app: {answer}")


async def _load(task: Task, admin: int, ingress: int, app: int, meter: Meter) -> Measured:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _register(session, admin, app)
        url = f"http://127.0.0.1:{ingress}/three/run"

        async def trigger(n: int) -> None:
            async with session.post(url, json=n) as response:
                body = await response.read()
                if response.status != 200:
                    raise RuntimeError(f"Restate answered {response.status}: {body[:200]!r}")

        return await load.measure(task, trigger, meter)


def _measure(task: Task) -> Measured:
    if not _BINARY.exists():
        raise RuntimeError("Restate's server is not installed: make bench installs it, on Linux x64")
    node, ingress, admin, app = ports.free(4)
    directory = Path(task.directory) / "restate"
    directory.mkdir()
    config = directory / "restate.toml"
    config.write_text(_CONFIG.format(directory=directory, node=node, ingress=ingress, admin=admin))
    # Two workers on uvloop are the fastest here: some 8% more runs/s than one, the same latency.
    hypercorn = [sys.executable, "-m", "hypercorn", "--worker-class", "uvloop", "--workers", "2"]
    with (
        _process(_BINARY, "--no-logo", "--config-file", config, port=admin) as server,
        _process(*hypercorn, "--bind", f"127.0.0.1:{app}", "bench.subjects.restate_app:app", port=app) as served,
    ):
        return loops.run(_load(task, admin, ingress, app, Meter(server.pid, served.pid)), "uvloop")


if __name__ == "__main__":
    serve(_measure)
