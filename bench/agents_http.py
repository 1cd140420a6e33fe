"""`python -m bench.agents_http`: what HTTP adds to an agent, how late its chunks are, and 500 streams at once.

Models are scripted: each chunk says when it was said, so that who hears it knows how late it is. With `--peer FOLDER`,
where Mastra's own server is installed (see `agents_http_peer.mjs`), that one serves the same agents in the same run.
Servers are processes of their own, and are asked one after the other by the same bare client.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import uvicorn
import uvloop

from bench import machine, report
from bench.agents import Figures, Talker
from bench.report import table
from perdure import App, embedded
from perdure.agents.agent import Agent
from perdure.agents.durable import create_durable_agent

_CHUNKS, _PACE, _STREAMS = 100, 0.05, 500
_WARM, _TURNS, _AT_ONCE, _ASKED = 30, 300, 16, 1008
_SAID: Final = re.compile(rb'"text":"(\d+) "')
_PEER: Final = Path(__file__).with_name("agents_http_peer.mjs")
_BODY: Final = b'{"messages":"Talk"}'


def _agents() -> tuple[App, Agent]:
    app = App("bench")
    short = Agent("short", model=Talker(3, 0))
    app.add_agent(short)
    app.add_agent(Agent("paced", model=Talker(_CHUNKS, _PACE)))
    create_durable_agent(agent=Agent("durable-short", model=Talker(3, 0)), app=app)
    create_durable_agent(agent=Agent("durable-paced", model=Talker(_CHUNKS, _PACE)), app=app)
    return app, short


class _Heard(asyncio.Protocol):
    """One request on a connection of its own: when the answer was whole, and how late each chunk was (ms)."""

    def __init__(self, port: int, path: str) -> None:
        self.late: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self._sent = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            f"connection: close\r\ncontent-length: {len(_BODY)}\r\n\r\n"
        ).encode() + _BODY
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of uvloop is no WriteTransport by its class.
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter_ns()
        data = self._tail + data
        # A chunk may come in two pieces.
        whole = data.rfind(b"\n\n") + 1
        for said in _SAID.finditer(data, 0, whole) if whole else ():
            self.late.append((now - int(said[1])) / 1e6)
        self._tail = data[whole:]
        if b"data: [DONE]" in data:
            # A server may keep the connection for another request.
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _ask(port: int, path: str) -> list[float]:
    _, heard = await asyncio.get_running_loop().create_connection(lambda: _Heard(port, path), "127.0.0.1", port)
    await heard.done
    return heard.late


async def _timed(port: int, path: str) -> float:
    begun = time.perf_counter()
    await _ask(port, path)
    return (time.perf_counter() - begun) * 1000


async def _in_process(short: Agent) -> float:
    found: list[float] = []
    for turn in range(_WARM + _TURNS):
        begun = time.perf_counter()
        await short.generate("Talk")
        if turn >= _WARM:
            found.append((time.perf_counter() - begun) * 1000)
    return statistics.median(found)


async def _generated(name: str, port: int, agent: str, base: float | None) -> Figures:
    path = f"/api/agents/{agent}/generate"
    found = [await _timed(port, path) for _ in range(_WARM + _TURNS)][_WARM:]
    took = statistics.median(found)
    added = "" if base is None else f"{took - base:.2f} ms over the call in process ({base:.2f} ms)"
    figures = [(f"{name}: generate, p50", f"{took:.2f} ms", added)]
    begun = time.perf_counter()

    async def several() -> None:
        for _ in range(_ASKED // _AT_ONCE):
            await _ask(port, path)

    await asyncio.gather(*(several() for _ in range(_AT_ONCE)))
    rate = _ASKED / (time.perf_counter() - begun)
    return [*figures, (f"{name}: generate, {_AT_ONCE} at once", f"{rate:,.0f}/s", f"{_ASKED:,} requests")]


async def _streamed(name: str, port: int, short: str, paced: str) -> Figures:
    firsts = [(await _ask(port, f"/api/agents/{short}/stream"))[0] for _ in range(_WARM + 100)][_WARM:]
    alone = await _ask(port, f"/api/agents/{paced}/stream")
    begun = time.perf_counter()
    heard = await asyncio.gather(*(_ask(port, f"/api/agents/{paced}/stream") for _ in range(_STREAMS)))
    # A model in the same process falls behind its pace where the server leaves it no time.
    took = f"{time.perf_counter() - begun:.1f} s for what takes {_CHUNKS * _PACE:.0f} s; "
    assert all(len(late) == _CHUNKS for late in heard), "a stream lacks chunks"
    # The first second has all of the beginnings in it.
    early = sorted(value for late in heard for value in late[20:60])
    later = sorted(value for late in heard for value in late[60:])
    spread = f"p99 {early[len(early) * 99 // 100]:.0f} ms; the last 2 s: p50 {statistics.median(later):.1f} ms, "
    spread += f"p99 {later[len(later) * 99 // 100]:.0f} ms"
    many = f"{name}: {_STREAMS} streams of {1 / _PACE:.0f} chunks/s, a chunk, p50"
    return [
        (f"{name}: the first chunk, p50", f"{statistics.median(firsts):.2f} ms late", f"at most {max(firsts):.1f} ms"),
        (
            f"{name}: a chunk of one stream, p50",
            f"{statistics.median(alone):.2f} ms late",
            f"one each {_PACE * 1000:.0f} ms",
        ),
        (many, f"{statistics.median(early):.1f} ms late", took + spread),
    ]


async def _measured(port: int, peer: int | None) -> Figures:
    _, short = _agents()
    base = await _in_process(short)
    figures = await _generated("perdure", port, "short", base)
    figures += await _generated("perdure, durable", port, "durable-short", None)
    figures += await _streamed("perdure", port, "short", "paced")
    figures += await _streamed("perdure, durable", port, "durable-short", "durable-paced")
    if peer is not None:
        figures += await _generated("Mastra", peer, "short", None)
        figures += await _streamed("Mastra", peer, "short", "paced")
    return figures


async def _serve(folder: Path) -> None:
    app, _ = _agents()
    async with embedded(app, db=folder / "bench.db") as engine:
        config = uvicorn.Config(engine.asgi(), port=0, log_level="error", ws="none", backlog=2048)
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving


@contextmanager
def _started(command: list[str], cwd: Path, program: Path | None = None) -> Generator[int]:
    """A server process; its port, which it prints."""
    with program.open() if program is not None else open("/dev/null") as given:
        process = subprocess.Popen(command, cwd=cwd, stdin=given, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser("bench.agents_http", description="Measures agents over HTTP.")
    parser.add_argument("--directory", type=Path, help="where the database goes (default: the temporary directory)")
    parser.add_argument("--peer", type=Path, help="a folder that has Mastra's server installed, to measure it too")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        uvloop.run(_serve(arguments.serve))
        return
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=arguments.directory) as folder:
        ours = [sys.executable, "-m", "bench.agents_http", "--serve", folder]
        with _started(ours, root) as port:
            if arguments.peer is None:
                figures = uvloop.run(_measured(port, None))
            else:
                with _started(["node", "--input-type=module"], arguments.peer, _PEER) as peer:
                    figures = uvloop.run(_measured(port, peer))
    print(report.machine(machine.describe(arguments.directory)) + "\n")
    print(table(["", "", ""], [list(row) for row in figures]))


if __name__ == "__main__":
    main()
