"""What sleeping runs cost: many runs that sleep for hours; the memory they add, and the CPU while nothing is due."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil

from bench import loops
from bench.subject import Measured, Task, serve
from perdure import App, Context, Node, embedded, step
from perdure.model.records import RunStatus

_BATCH = 500
_IDLE = 10.0
_SETTLE = 12.0
"""Longer than a parked coroutine may stay in memory."""
_MIB = 1024 * 1024

app = App("bench")


@app.function("sleeper", trigger="bench/sleep")
async def sleeper(ctx: Context) -> None:
    await step.sleep_until("night", ctx.event.data["until"])


async def put_to_sleep(node: Node, event: str, until: int, count: int) -> float:
    """Starts runs that sleep until a time (ms); returns the seconds until all are asleep."""
    begun = time.perf_counter()
    for first in range(0, count, _BATCH):
        await node.send([{"name": event, "data": {"until": until}}] * min(_BATCH, count - first))
        await node.settle()
    return time.perf_counter() - begun


async def _measure(task: Task) -> Measured:
    process = psutil.Process()
    until = int((time.time() + 6 * 3600) * 1000)
    async with embedded(app, db=Path(task.directory) / "perdure.db") as node:
        await put_to_sleep(node, "bench/sleep", until, _BATCH)
        before = process.memory_info().rss
        took = await put_to_sleep(node, "bench/sleep", until, task.scale)
        await asyncio.sleep(_SETTLE)
        added = process.memory_info().rss - before
        cpu = sum(process.cpu_times()[:2])
        await asyncio.sleep(_IDLE)
        cpu = sum(process.cpu_times()[:2]) - cpu
        health = await node.health()
    asleep = health.runs.get(RunStatus.RUNNING, 0) - _BATCH
    if asleep != task.scale:
        raise RuntimeError(f"{asleep} of {task.scale} runs are asleep: {health}")
    return Measured(
        figures={
            "sleeping runs": asleep,
            "put to sleep, runs/s": task.scale / took,
            "added memory (RSS), MB": added / 1e6,
            "CPU while idle, % of a core": 100 * cpu / _IDLE,
            "database, MB": sum(file.stat().st_size for file in Path(task.directory).glob("perdure.db*")) / 1e6,
        }
    )


if __name__ == "__main__":
    serve(lambda task: loops.run(_measure(task), ""))
