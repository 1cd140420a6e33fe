"""perdure embedded: the three-step function on a SQLite file, as "uvloop" and "asyncio", and on "postgres"."""

from __future__ import annotations

import os
from pathlib import Path

from bench import load, loops, postgres
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


async def _measure(task: Task, db: str | Path) -> Measured:
    async with embedded(app, db=db) as node:
        return await load.measure(task, trigger_of(node), Meter(os.getpid()))


def _on(task: Task) -> Measured:
    directory = Path(task.directory)
    if task.variant != "postgres":
        return loops.run(_measure(task, directory / "perdure.db"), task.variant)
    with postgres.server(directory / "postgres") as (url, _):
        # PostgreSQL is a child of this process, so the meter covers it.
        return loops.run(_measure(task, url), "uvloop")


if __name__ == "__main__":
    serve(_on)
