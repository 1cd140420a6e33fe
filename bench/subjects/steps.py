"""What a step costs in a long run: runs of 1,000 steps beside runs of 10, taking turns, alone and 20 in flight.

The 10-step run pays its start and end over 10 steps, the long one over 1,000; so `growth` also compares the last
100 steps of the long run with its first 100.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench import load, loops
from bench.subject import Measured, Task, serve
from perdure import App, Context, Node, embedded, step

SHORT, LONG = 10, 1000
_ROUNDS = 5
_IN_FLIGHT = 20

app = App("bench")
_marks: list[float] = []


async def number(n: int) -> dict[str, int]:
    return {"n": n}


@app.function("many")
async def many(ctx: Context) -> None:
    for n in range(ctx.event.data["steps"]):
        if n % 100 == 0:
            _marks.append(time.perf_counter())
        await step.run(f"step {n}", number, n)
    _marks.append(time.perf_counter())


async def _cost(node: Node, steps: int, runs: int, in_flight: int) -> float:
    """Microseconds a step."""

    async def trigger(_: int) -> None:
        handle = await node.trigger(many, {"steps": steps})
        await handle.result()

    return 1e6 / (steps * await load.flood(trigger, runs, in_flight))


def _growth() -> float:
    """Of the long run that ended last, alone: its last 100 steps over its first 100."""
    marks = _marks[-(LONG // 100 + 1) :]
    return (marks[-1] - marks[-2]) / (marks[1] - marks[0])


async def _measure(task: Task) -> Measured:
    figures: dict[str, float] = {}
    async with embedded(app, db=Path(task.directory) / "perdure.db") as node:
        await _cost(node, SHORT, 100, _IN_FLIGHT)
        for label, in_flight, runs in (("alone", 1, task.scale), ("in flight", _IN_FLIGHT, _IN_FLIGHT * task.scale)):
            short: list[float] = []
            long: list[float] = []
            growth: list[float] = []
            for _ in range(_ROUNDS):
                short.append(await _cost(node, SHORT, runs * LONG // SHORT, in_flight))
                long.append(await _cost(node, LONG, runs, in_flight))
                growth.append(_growth())
            figures[f"{label}: us a step in a run of {SHORT}"] = statistics.median(short)
            figures[f"{label}: us a step in a run of {LONG}"] = statistics.median(long)
            figures[f"{label}: ratio"] = statistics.median(b / a for a, b in zip(short, long, strict=True))
            if in_flight == 1:
                figures["alone: last 100 steps over first 100"] = statistics.median(growth)
    return Measured(figures=figures)


if __name__ == "__main__":
    serve(lambda task: loops.run(_measure(task), ""))
