"""Many sleepers due at one moment: from that moment until each handler has gone on, and until all have ended."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from bench import loops
from bench.subject import Measured, Task, serve
from bench.subjects.sleepers import put_to_sleep
from perdure import App, Context, embedded, step

_SETTLE = 12.0
"""Longer than a parked coroutine may stay: those that wake are replayed from the file."""
_SLOWEST = 1000
"""Runs/s at which they surely fall asleep before they are due."""

app = App("bench")
_went_on: list[float] = []


@app.function("sleeper", trigger="bench/due")
async def sleeper(ctx: Context) -> None:
    await step.sleep_until("night", ctx.event.data["until"])
    _went_on.append(time.time())


async def _measure(task: Task) -> Measured:
    until = time.time() + _SETTLE + task.scale / _SLOWEST
    async with embedded(app, db=Path(task.directory) / "perdure.db") as node:
        await put_to_sleep(node, "bench/due", int(until * 1000), task.scale)
        if _went_on or time.time() > until:
            raise RuntimeError("falling asleep took longer than the sleep")
        await asyncio.sleep(until - time.time())
        async with asyncio.timeout(120):
            while len(_went_on) < task.scale:
                await asyncio.sleep(0.02)
            await node.settle()
        ended = time.time()
    if len(_went_on) != task.scale:
        raise RuntimeError(f"{len(_went_on)} handlers went on, {task.scale} slept")
    return Measured(
        figures={
            "sleepers due at once": task.scale,
            "first started, s": min(_went_on) - until,
            "half started, s": statistics.median(_went_on) - until,
            "all started, s": max(_went_on) - until,
            "all ended, s": ended - until,
        }
    )


if __name__ == "__main__":
    serve(lambda task: loops.run(_measure(task), ""))
