"""An app with one function for each thing that the engine can do, and the ledger outside of it that watches.

Every step's callable writes to the ledger when it begins and when it ends; when it begins, it looks at what is
committed: a step that is recorded as done must never begin again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable

import msgspec

from perdure import App, BatchEvents, CancelOn, Concurrency, Context, Debounce, RateLimit, Singleton, Throttle, Timeouts
from perdure import step as steps
from perdure.model.json import Json
from perdure.model.records import StepStatus
from tests.support.crashing_postgres import PostgresDatabase

ONE_TO_ONE = (
    "plain", "retrying", "sleeping", "waiting", "signalled", "racing", "parent", "limited", "held",
    "throttled", "skipping", "replacing", "stoppable", "hasty", "sender",
)  # fmt: skip
"""The events that make exactly one run each."""
KINDS = (*ONE_TO_ONE, "debounced", "batched", "rated")


class Limits(msgspec.Struct):
    """What a registration may change."""

    key: int = 1
    shared: int = 2
    held: int = 1


class Ledger:
    """What steps did, as the world saw it; it outlives every crash."""

    def __init__(self, connection: sqlite3.Connection | PostgresDatabase) -> None:
        self._connection = connection
        self.begun: Counter[tuple[str, str]] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.active: dict[str, set[str]] = {}
        self.ceiling: dict[str, int] = {}
        self.wrong: list[str] = []

    async def work(self, run_id: str, name: str, ticks: int, fails: int = 0, key: str = "") -> str:
        """One step: fails as often as told, takes its time, returns its name."""
        self._check_not_done(run_id, name)
        self.begun[run_id, name] += 1
        active = self.active.setdefault(key, set())
        active.add(run_id)
        if key and len(active) > self.ceiling.get(key, 99):
            self.wrong.append(f"{len(active)} runs at once under {key}: {active}")
        try:
            for _ in range(ticks):
                await asyncio.sleep(0)
            if self.ended[run_id, name] < fails:
                raise RuntimeError(f"{name} fails")
            return name
        finally:
            active.discard(run_id)
            self.ended[run_id, name] += 1

    def _check_not_done(self, run_id: str, name: str) -> None:
        query = "SELECT status FROM step WHERE run_id = ? AND name = ?"
        rows = self._connection.execute(query, (run_id, name)).fetchall()
        if rows and rows[0][0] <= StepStatus.FAILED:
            self.wrong.append(f"step {name} of {run_id} began again though it is recorded as ended")


def build_app(ledger: Ledger, limits: Limits) -> App:
    """The app under some limits."""
    app = App("m")
    _add_plain(app, ledger)
    _add_waiting(app, ledger)
    _add_nested(app, ledger)
    _add_limited(app, ledger, limits)
    _add_gated(app, ledger)
    return app


def _worker(ledger: Ledger, ctx: Context, key: str = "") -> Callable[..., Json]:
    data = ctx.event.data

    def run(name: str, fails: int = 0) -> Json:
        return steps.run(name, ledger.work, ctx.run_id, name, data.get("ticks", 1), fails, key)

    return run


def _add_plain(app: App, ledger: Ledger) -> None:
    @app.function("plain", trigger="m/plain")
    async def plain(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx)
        return [await run("p1"), await run("p2")]

    @app.function("retrying", trigger="m/retrying", retries=2)
    async def retrying(ctx: Context) -> list[str]:
        run, fails = _worker(ledger, ctx), ctx.event.data["fails"]
        return [*await asyncio.gather(run("r1", fails), run("r2", 1), run("r3")), await run("r4", fails)]


def _add_waiting(app: App, ledger: Ledger) -> None:
    @app.function("sleeping", trigger="m/sleeping")
    async def sleeping(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx)
        first = await run("s1")
        await asyncio.gather(steps.sleep("a while", ctx.event.data["seconds"]), steps.sleep("little", 2))
        return [first, await run("s2")]

    @app.function("waiting", trigger="m/waiting")
    async def waiting(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx)
        answer = await steps.wait_for_event("answer", event="m/answer", match="data.key", timeout="1h")
        return [await run("w1"), "answered" if answer else "timed out"]

    @app.function("signalled", trigger="m/signalled")
    async def signalled(ctx: Context) -> list[str]:
        run, name = _worker(ledger, ctx), f"signal-{ctx.event.data['key']}"
        first = await run("g1")
        await steps.wait_for_signal("wait", signal=name, timeout="1h", on_conflict="replace")
        return [first, await run("g2")]

    @app.function("racing", trigger="m/racing")
    async def racing(ctx: Context) -> list[str]:
        run, name = _worker(ledger, ctx), f"race-{ctx.event.data['key']}"
        wait = steps.wait_for_signal("wait", signal=name, timeout="1h", on_conflict="replace")
        first, _ = await asyncio.gather(run("x1"), wait)
        return [first, await run("x2")]

    @app.function("stoppable", trigger="m/stoppable", cancel_on=CancelOn("m/stop", match="data.key"))
    async def stoppable(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx)
        first = await run("c1")
        await steps.sleep("long", "2h")
        return [first, await run("c2")]


def _add_nested(app: App, ledger: Ledger) -> None:
    @app.function("child")
    async def child(ctx: Context) -> str:
        run = _worker(ledger, ctx)
        await run("i1", ctx.event.data["fails"])
        await steps.sleep("nap", 3)
        result: str = await run("i2")
        return result

    @app.function("parent", trigger="m/parent")
    async def parent(ctx: Context) -> list[str]:
        run, data = _worker(ledger, ctx), {"ticks": 2, "fails": ctx.event.data["fails"] % 2}
        both = await asyncio.gather(
            run("n1"), steps.invoke("one", child, data=data), steps.invoke("two", "m-child", data=data)
        )
        return [*both, await run("n2")]

    @app.function("sender", trigger="m/sender")
    async def sender(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx)
        first = await run("e1")
        sent = {"name": "m/plain", "data": {"key": ctx.event.data["key"], "ticks": 1}}
        await steps.send_event("send", [sent, sent])
        return [first, await run("e2")]


def _add_limited(app: App, ledger: Ledger, limits: Limits) -> None:
    shared = Concurrency(limits.shared, key='"shared"', scope="env")

    @app.function("limited", trigger="m/limited", concurrency=[Concurrency(limits.key, key="event.data.key"), shared])
    async def limited(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx, f"limited-{ctx.event.data['key']}")
        first = await run("l1")
        await steps.sleep("between", 5)
        return [first, await run("l2", ctx.event.data["fails"])]

    held = Concurrency(limits.held, key="event.data.key", hold="run")

    @app.function("held", trigger="m/held", concurrency=[held, shared])
    async def held_run(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx, f"held-{ctx.event.data['key']}")
        first = await run("h1")
        await steps.sleep("between", 7)
        return [first, await run("h2")]


def _add_gated(app: App, ledger: Ledger) -> None:
    key = "event.data.key"

    async def body(ctx: Context) -> list[str]:
        run = _worker(ledger, ctx)
        first = await run("f1")
        await steps.sleep("between", 4)
        return [first, await run("f2")]

    app.function("throttled", trigger="m/throttled", throttle=Throttle(1, "10s", key=key))(body)
    app.function("debounced", trigger="m/debounced", debounce=Debounce("5s", "20s", key))(body)
    app.function("batched", trigger="m/batched", batch_events=BatchEvents(3, "10s", key))(body)
    app.function("rated", trigger="m/rated", rate_limit=RateLimit(2, "1m", key))(body)
    app.function("skipping", trigger="m/skipping", singleton=Singleton(key))(body)
    app.function("replacing", trigger="m/replacing", singleton=Singleton(key, "cancel"))(body)
    app.function("hasty", trigger="m/hasty", timeouts=Timeouts(finish="3s"), priority="event.data.fails")(body)
