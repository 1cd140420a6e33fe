"""perdure embedded on a SQLite file: the three-step function, in the variants "uvloop" and "asyncio"."""

from __future__ import annotations

import os
from pathlib import Path

from bench import load, loops
from bench.meter import Meter
from bench.subject import Measured, Task, serve
from perdure import App, Context, Node, embedded, step

app = App("bench")


async def number(n: int) -> dict[str, int]:
    return {"n": n}


@app.function("three")
async def three(ctx: Context) -> dict[str, int]:
    await step.run("a", number, 1)
    await step.run("b", number, 2)
    return await step.run("c", number, 3)


def trigger_of(node: Node) -> load.Trigger:
    """Starts the three-step function and waits for its result."""

    async def trigger(n: int) -> None:
        handle = await node.trigger(three, {"n": n})
        await handle.result()

    return trigger


async def _measure(task: Task) -> Measured:
    async with embedded(app, db=Path(task.directory) / "perdure.db") as node:
        return await load.measure(task, trigger_of(node), Meter(os.getpid()))


if __name__ == "__main__":
    serve(lambda task: loops.run(_measure(task), task.variant))
