"""A node of a cluster, to be killed, paused and cut off: an app over PostgreSQL, and a ledger outside of it.

Run as `python -m tests.chaos.cluster_node URL LEDGER LIFETIME SKEW [BUS]`, its clock off by SKEW seconds. It sends each
line of its input, an event in JSON, and prints its id once it is accepted. Every step notes in the ledger what it
gives, before that can be in the database: "gave RUN VALUE KEY NANOSECONDS" when it begins, "done ..." when it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from typing import Final

from perdure import (
    App,
    BatchEvents,
    CancelOn,
    Concurrency,
    Context,
    Cron,
    Debounce,
    NonRetriableError,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    embedded,
    step,
)
from perdure.node import Node

LIMIT: Final = 2
"""Of runs under a key, and of all under the key that two functions share."""
RATE: Final = (3, 4)
"""At most so many runs of a key in so many seconds."""
THROTTLE: Final = (5, 1)
BATCH: Final = 4
EVERY: Final = 2
"""Seconds between ticks."""
_KEY: Final = "event.data.key"


class Ledger:
    """What steps did, in a file that outlives the process. The clock in it is that of the machine, never off."""

    def __init__(self, path: str) -> None:
        self._path = path

    def note(self, *words: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(descriptor, (" ".join((*words, str(time.monotonic_ns()))) + "\n").encode())
        os.close(descriptor)

    async def work(self, ctx: Context, name: str, seconds: float = 0.01) -> str:
        """What a step does."""
        value, key = f"{name}-{secrets.token_hex(4)}", str(ctx.event.data.get("key", "-"))
        self.note("gave", ctx.run_id, value, key)
        await asyncio.sleep(seconds)
        self.note("done", ctx.run_id, value, key)
        return value


def build(path: str) -> App:
    app, ledger = App("c"), Ledger(path)
    _add_plain(app, ledger)
    _add_waiting(app, ledger)
    _add_limited(app, ledger)
    _add_gated(app, ledger)
    return app


def _add_plain(app: App, ledger: Ledger) -> None:
    failed: set[str] = set()

    async def flaky(ctx: Context) -> str:
        if ctx.run_id not in failed:
            failed.add(ctx.run_id)
            raise ValueError("once")
        return await ledger.work(ctx, "flaky")

    @app.function("three", trigger="c/three", priority="event.data.n % 5")
    async def three(ctx: Context) -> list[str]:
        return [await step.run(f"s{n}", ledger.work, ctx, f"s{n}") for n in range(3)]

    @app.function("retrying", trigger="c/retrying")
    async def retrying(ctx: Context) -> list[str]:
        return [await step.run("flaky", flaky, ctx), await step.run("then", ledger.work, ctx, "then")]

    @app.function("parallel", trigger="c/parallel")
    async def parallel(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*(step.run(f"p{n}", ledger.work, ctx, f"p{n}") for n in range(4))))

    @app.function("failing", trigger="c/failing")
    async def failing(ctx: Context) -> None:
        raise NonRetriableError("as it must")

    @app.function("ticking", trigger=Cron(f"@every {EVERY}s"))
    async def ticking(ctx: Context) -> list[str]:
        return [await step.run("tick", ledger.work, ctx, "tick")]


def _add_waiting(app: App, ledger: Ledger) -> None:
    @app.function("sleeping", trigger="c/sleeping")
    async def sleeping(ctx: Context) -> list[str]:
        first = await step.run("before", ledger.work, ctx, "before")
        await step.sleep("nap", "500ms")
        return [first, await step.run("after", ledger.work, ctx, "after")]

    @app.function("waiting", trigger="c/waiting")
    async def waiting(ctx: Context) -> list[str]:
        first = await step.run("ask", ledger.work, ctx, "ask")
        await step.wait_for_event("answer", event="c/answer", timeout="2s", match="data.n")
        return [first, await step.run("took", ledger.work, ctx, "took")]

    @app.function("child")
    async def child(ctx: Context) -> list[str]:
        return [await step.run("inside", ledger.work, ctx, "inside")]

    @app.function("parent", trigger="c/parent")
    async def parent(ctx: Context) -> list[str]:
        await step.invoke("child", child)
        return [await step.run("own", ledger.work, ctx, "own")]

    @app.function("stoppable", trigger="c/stoppable", cancel_on=CancelOn("c/stop", match="data.n"))
    async def stoppable(ctx: Context) -> list[str]:
        first = await step.run("c1", ledger.work, ctx, "c1")
        await step.sleep("long", "3s")
        return [first, await step.run("c2", ledger.work, ctx, "c2")]

    @app.function("hasty", trigger="c/hasty", timeouts=Timeouts(finish="1s"))
    async def hasty(ctx: Context) -> list[str]:
        await step.run("h1", ledger.work, ctx, "h1")
        await step.sleep("longer than it may", "10m")
        return []


def _add_limited(app: App, ledger: Ledger) -> None:
    shared = Concurrency(LIMIT, key='"shared"', scope="env")

    @app.function("limited", trigger="c/limited", concurrency=[Concurrency(LIMIT, key=_KEY)])
    async def limited(ctx: Context) -> list[str]:
        return [await step.run(f"l{n}", ledger.work, ctx, f"l{n}", 0.02) for n in range(2)]

    @app.function("held", trigger="c/held", concurrency=[Concurrency(1, key=_KEY, hold="run"), shared])
    async def held(ctx: Context) -> list[str]:
        first = await step.run("h1", ledger.work, ctx, "h1")
        await step.sleep("between", "100ms")
        return [first, await step.run("h2", ledger.work, ctx, "h2")]

    @app.function("single", trigger="c/single", singleton=Singleton(key=_KEY, mode="skip"))
    async def single(ctx: Context) -> list[str]:
        return [await step.run("o", ledger.work, ctx, "o", 0.05)]

    @app.function("replacing", trigger="c/replacing", singleton=Singleton(key=_KEY, mode="cancel"))
    async def replacing(ctx: Context) -> list[str]:
        first = await step.run("r1", ledger.work, ctx, "r1")
        await step.sleep("between", "200ms")
        return [first, await step.run("r2", ledger.work, ctx, "r2")]


def _add_gated(app: App, ledger: Ledger) -> None:
    async def body(ctx: Context) -> list[str]:
        return [await step.run("g", ledger.work, ctx, "g")]

    app.function("throttled", trigger="c/throttled", throttle=Throttle(THROTTLE[0], f"{THROTTLE[1]}s"))(body)
    app.function("batched", trigger="c/batched", batch_events=BatchEvents(max_size=BATCH, timeout="1s"))(body)
    app.function("debounced", trigger="c/debounced", debounce=Debounce(period="1s", key=_KEY))(body)
    app.function("rated", trigger="c/rated", rate_limit=RateLimit(RATE[0], f"{RATE[1]}s", _KEY))(body)


async def serve(url: str, ledger: str, lifetime: float, bus: str | None) -> None:
    app = build(ledger)
    async with embedded(app, db=url, bus=bus, lifetime=lifetime, shutdown_timeout=2, retry_interval=100) as node:
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _tell_where)
        print("ready", flush=True)
        sending = asyncio.create_task(_send(node))
        await over.wait()
        sending.cancel()


def _tell_where() -> None:
    """What every task is at, for somebody who asks why the process does not end."""
    print(f"--- tasks of {os.getpid()}", file=sys.stderr)
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


def _skew(seconds: int) -> None:
    right = time.time_ns
    time.time_ns = lambda: right() + seconds * 1_000_000_000


async def _send(node: Node) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(_accept(node, json.loads(line)))
    # Whoever started it is gone.
    os.kill(os.getpid(), signal.SIGTERM)


async def _accept(node: Node, event: dict[str, object]) -> None:
    try:
        await node.send([event])
        print(event["id"], flush=True)
    except Exception as error:  # Whoever sent it sends it again, to somebody else.
        print(f"! {type(error).__name__}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _skew(int(sys.argv[4]))
    asyncio.run(serve(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[5] if len(sys.argv) > 5 else None))
