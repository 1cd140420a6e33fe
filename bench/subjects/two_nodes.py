"""Two perdure nodes on one PostgreSQL: each a process, each with half of the load, at the same time.

The latency of one run after another is that of the first node, with the second one there and idle.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from bench import load, loops, postgres
from bench.meter import Meter
from bench.subject import Measured, Task, serve
from bench.subjects.perdure import app, trigger_of
from perdure import embedded


class _Node:
    """A node in a process of its own, which does what it is told in a line, and tells when it has."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.subjects.two_nodes", "node", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.heard()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def _flood(nodes: list[_Node], total: int, flight: int) -> float:
    """Both at once, each its half; runs/s of both together."""
    begun = time.perf_counter()
    for node in nodes:
        node.tell(f"flood {total // 2} {flight // 2}")
    for node in nodes:
        node.heard()
    return total / (time.perf_counter() - begun)


def _measure(task: Task) -> Measured:
    with postgres.server(Path(task.directory) / "postgres") as (url, _):
        nodes = [_Node(url), _Node(url)]
        meter = Meter(os.getpid())
        _flood(nodes, task.flight, task.flight)
        nodes[0].tell(f"one {task.one}")
        measured = Measured(one=[float(text) for text in nodes[0].heard().split()])
        cpu = meter.cpu()
        measured.bursts = [_flood(nodes, task.flight, task.flight) for _ in range(task.bursts)]
        measured.cpu_ms = (meter.cpu() - cpu) * 1000 / (task.flight * task.bursts)
        if task.long:
            measured.long = _flood(nodes, task.long, task.flight)
        measured.memory = meter.memory()
        for node in nodes:
            node.process.kill()
            node.process.wait()
        return measured


async def _be_node(url: str) -> None:
    async with embedded(app, db=url) as node:
        trigger = trigger_of(node)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            what, *numbers = line.split()
            if what == "flood":
                await load.flood(trigger, int(numbers[0]), int(numbers[1]))
                print("done", flush=True)
                continue
            latencies: list[str] = []
            for number in range(int(numbers[0])):
                begun = time.perf_counter()
                await trigger(number)
                latencies.append(str((time.perf_counter() - begun) * 1000))
            print(*latencies, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "node":
        loops.run(_be_node(sys.argv[2]), "uvloop")
    else:
        serve(_measure)
