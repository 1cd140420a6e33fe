"""`python -m bench.agents`: what a durable agent costs beside the same agent's bare loop, on the engine of the process.

The model is scripted and answers at once, so what is measured is perdure's. Turns of the durable agent and of the bare
one alternate, so that what the machine does besides falls on both. Needs the environment of the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from bench import machine, report
from bench.report import table
from perdure import App, embedded
from perdure.agents.agent import Agent
from perdure.agents.chunks import chunk
from perdure.agents.durable import DurableAgent, create_durable_agent
from perdure.agents.messages import TextPart, Usage
from perdure.agents.models import Answer, Call, Prompt
from perdure.agents.tools import tool
from perdure.testing import ScriptedModel

_WARM, _TURNS, _CHUNKS, _PACE, _AT_ONCE = 30, 300, 1000, 0.001, 1000
_CHAT = '!tool add {"a": 1, "b": 2}'
Figures = list[tuple[str, str, str]]


@tool
async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


class Talker:
    """A model that says so many chunks, at a pace (seconds) or as fast as they are taken; each says when."""

    name = "bench/talker"

    def __init__(self, chunks: int, pace: float) -> None:
        self._chunks = chunks
        self._pace = pace

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        for _ in range(self._chunks):
            call.say(chunk("text-delta", call.run_id, id="text-0", text=f"{time.perf_counter_ns()} "))
            if self._pace:
                await asyncio.sleep(self._pace)
            else:
                await call.drained()
        return Answer([TextPart("said")], "stop", Usage(), "talker", "bench")


async def _chat(agent: Agent | DurableAgent) -> float:
    """How long (ms) a chat of one tool takes, from the call to its last chunk."""
    begun = time.perf_counter()
    run = await agent.stream(_CHAT)
    async for said in run.full_stream:
        assert said.type != "error"
    return (time.perf_counter() - begun) * 1000


async def _added(durable: DurableAgent, bare: Agent) -> Figures:
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(_WARM + _TURNS):
        for found, agent in zip(taken, (durable, bare), strict=True):
            spent = await _chat(agent)
            if turn >= _WARM:
                found.append(spent)
    with_engine, without = (statistics.median(found) for found in taken)
    detail = f"{with_engine:.1f} ms beside {without:.1f} ms of the bare loop, {_TURNS} turns each"
    return [("a durable chat of one tool adds, p50", f"{with_engine - without:.1f} ms", detail)]


async def _heard(talker: DurableAgent, message: str) -> tuple[list[float], float]:
    """By an observer: how late each chunk is (ms), and the chunks a second from the first to the last."""
    run = await talker.stream(message)
    await run.close()
    observer = await talker.observe(run.run_id)
    late: list[float] = []
    first = last = 0.0
    async for said in observer.full_stream:
        if said.type == "text-delta":
            last = time.perf_counter()
            first = first or last
            late.append(last * 1000 - int(said.payload["text"]) / 1e6)
    return late, (len(late) - 1) / (last - first)


async def _streamed(paced: DurableAgent, fast: DurableAgent) -> Figures:
    late, _ = await _heard(paced, "Talk")
    rates = [(await _heard(fast, "Talk"))[1] for _ in range(5)]
    return [
        (
            f"a stream of {_CHUNKS:,} chunks reaches an observer, p50",
            f"{statistics.median(late):.2f} ms late",
            f"one each {_PACE * 1000:.0f} ms; at most {max(late):.1f} ms",
        ),
        (
            "chunks/s to an observer",
            f"{statistics.median(rates):,.0f}",
            f"of {20 * _CHUNKS:,} that are said at once",
        ),
    ]


async def _at_once(durable: DurableAgent) -> Figures:
    begun = time.perf_counter()
    await asyncio.gather(*(_chat(durable) for _ in range(_AT_ONCE)))
    spent = time.perf_counter() - begun
    what = f"{_AT_ONCE:,} chats of one tool at once, one process"
    return [(what, f"{spent:.1f} s", f"{_AT_ONCE / spent:.0f} chats/s, {3 * _AT_ONCE / spent:.0f} steps/s")]


async def _measured(folder: Path) -> Figures:
    bare = Agent("adder", model=ScriptedModel(), tools=[add])
    app = App("bench")
    durable = create_durable_agent(agent=Agent("adder", model=ScriptedModel(), tools=[add]), app=app)
    paced = create_durable_agent(agent=Agent("paced", model=Talker(_CHUNKS, _PACE)), app=app)
    fast = create_durable_agent(agent=Agent("fast", model=Talker(20 * _CHUNKS, 0)), app=app)
    async with embedded(app, db=folder / "bench.db"):
        figures = await _added(durable, bare)
        figures += await _streamed(paced, fast)
        return figures + await _at_once(durable)


def _peer(python: str, folder: Path) -> Figures:
    """pydantic-ai with DBOS, in an environment of its own."""
    # A link to it would not have the environment's packages.
    command = [str(Path(python).absolute()), str(Path(__file__).with_name("agents_peer.py")), str(folder), "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=folder)
    found = msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, list[float]])
    with_engine, without = (statistics.median(found[name]) for name in ("durable", "bare"))
    detail = f"{with_engine:.1f} ms beside {without:.1f} ms of pydantic-ai alone"
    return [("the same chat on pydantic-ai with DBOS (SQLite) adds, p50", f"{with_engine - without:.1f} ms", detail)]


def main() -> None:
    parser = argparse.ArgumentParser("bench.agents", description="Measures durable agents beside their bare loop.")
    parser.add_argument("--directory", type=Path, help="where the database goes (default: the temporary directory)")
    parser.add_argument("--peer", help="a Python that has pydantic-ai-slim and dbos, to measure them beside it")
    arguments = parser.parse_args()
    directory = arguments.directory
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=directory) as folder:
        figures = uvloop.run(_measured(Path(folder)))
        figures += _peer(arguments.peer, Path(folder)) if arguments.peer else []
    print(report.machine(machine.describe(directory)) + "\n")
    print(table(["", "", ""], [list(row) for row in figures]))


if __name__ == "__main__":
    main()
