"""A node of a cluster, to be killed, paused and cut off: an app over PostgreSQL, and a ledger outside of it.

Run as `python -m tests.chaos.cluster_node URL LEDGER LIFETIME SKEW`, its clock off by SKEW seconds. It sends each line
of its input, an event in JSON, and prints its id once it is accepted. Every step notes in the ledger what it gives,
before that can be in the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time

from perdure import (
    App,
    BatchEvents,
    Concurrency,
    Context,
    Debounce,
    NonRetriableError,
    Singleton,
    Throttle,
    embedded,
    step,
)
from perdure.node import Node

LIMIT = 2


def note(ledger: str, *words: str) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, (" ".join(words) + "\n").encode())
    os.close(descriptor)


def build(ledger: str) -> App:
    app = App("c")
    failed: set[str] = set()

    async def work(run_id: str, name: str, seconds: float = 0.01) -> str:
        value = f"{name}-{secrets.token_hex(4)}"
        note(ledger, "gave", run_id, value)
        await asyncio.sleep(seconds)
        return value

    async def flaky(run_id: str) -> str:
        if run_id not in failed:
            failed.add(run_id)
            raise ValueError("once")
        return await work(run_id, "flaky")

    @app.function("three", trigger="c/three")
    async def three(ctx: Context) -> list[str]:
        return [await step.run(f"s{n}", work, ctx.run_id, f"s{n}") for n in range(3)]

    @app.function("retrying", trigger="c/retrying")
    async def retrying(ctx: Context) -> list[str]:
        return [await step.run("flaky", flaky, ctx.run_id), await step.run("then", work, ctx.run_id, "then")]

    @app.function("limited", trigger="c/limited", concurrency=[Concurrency(LIMIT, key="event.data.key")])
    async def limited(ctx: Context) -> list[str]:
        return [await step.run(f"l{n}", work, ctx.run_id, f"l{n}", 0.02) for n in range(2)]

    @app.function("sleeping", trigger="c/sleeping")
    async def sleeping(ctx: Context) -> list[str]:
        first = await step.run("before", work, ctx.run_id, "before")
        await step.sleep("nap", "500ms")
        return [first, await step.run("after", work, ctx.run_id, "after")]

    @app.function("waiting", trigger="c/waiting")
    async def waiting(ctx: Context) -> list[str]:
        first = await step.run("ask", work, ctx.run_id, "ask")
        await step.wait_for_event("answer", event="c/answer", timeout="2s", match="data.n")
        return [first, await step.run("took", work, ctx.run_id, "took")]

    @app.function("child")
    async def child(ctx: Context) -> list[str]:
        return [await step.run("inside", work, ctx.run_id, "inside")]

    @app.function("parent", trigger="c/parent")
    async def parent(ctx: Context) -> list[str]:
        await step.invoke("child", child)
        return [await step.run("own", work, ctx.run_id, "own")]

    @app.function("parallel", trigger="c/parallel")
    async def parallel(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*(step.run(f"p{n}", work, ctx.run_id, f"p{n}") for n in range(4))))

    @app.function("throttled", trigger="c/throttled", throttle=Throttle(limit=5, period="1s"))
    async def throttled(ctx: Context) -> list[str]:
        return [await step.run("t", work, ctx.run_id, "t")]

    @app.function("batched", trigger="c/batched", batch_events=BatchEvents(max_size=4, timeout="1s"))
    async def batched(ctx: Context) -> list[str]:
        return [await step.run("b", work, ctx.run_id, "b")]

    @app.function("debounced", trigger="c/debounced", debounce=Debounce(period="1s", key="event.data.key"))
    async def debounced(ctx: Context) -> list[str]:
        return [await step.run("d", work, ctx.run_id, "d")]

    @app.function("single", trigger="c/single", singleton=Singleton(key="event.data.key", mode="skip"))
    async def single(ctx: Context) -> list[str]:
        return [await step.run("o", work, ctx.run_id, "o", 0.05)]

    @app.function("failing", trigger="c/failing")
    async def failing(ctx: Context) -> None:
        raise NonRetriableError("as it must")

    return app


async def serve(url: str, ledger: str, lifetime: float) -> None:
    async with embedded(build(ledger), db=url, lifetime=lifetime, shutdown_timeout=2, retry_interval=100) as node:
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        print("ready", flush=True)
        sending = asyncio.create_task(_send(node))
        await over.wait()
        sending.cancel()


def _skew(seconds: int) -> None:
    right = time.time_ns
    time.time_ns = lambda: right() + seconds * 1_000_000_000


async def _send(node: Node) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(_accept(node, json.loads(line)))
    await asyncio.Event().wait()


async def _accept(node: Node, event: dict[str, object]) -> None:
    try:
        await node.send([event])
        print(event["id"], flush=True)
    except Exception as error:  # Whoever sent it sends it again, to somebody else.
        print(f"! {type(error).__name__}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _skew(int(sys.argv[4]))
    asyncio.run(serve(sys.argv[1], sys.argv[2], float(sys.argv[3])))
