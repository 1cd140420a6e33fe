"""The process that is killed: an app embedded over a file, and a ledger outside of it.

Run as a script it is a template: for each line of JSON on its input (a `Life`) it forks a process that lives that
life, prints its pid, waits for it, and prints how it ended. Forking spares importing everything hundreds of times.

A life sends the events of the input file that nobody has acknowledged, writes an acknowledgement to the disk after
each `send` has returned, and ends when every run has ended. Each step writes to the ledger when it begins and when
it ends, before anything of it can be in the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import traceback
from collections import Counter
from pathlib import Path

import msgspec

from perdure import App, Concurrency, Context, Singleton, embedded, step
from perdure.model.json import Json
from perdure.node import Node
from perdure.store.sqlite import SqliteStore, writer
from perdure.store.sqlite.session import PauseNames
from perdure.sync import step as plain_step


class Life(msgspec.Struct):
    """What one process does. It kills itself `before` or `after` (`when`) its n-th commit, counted from 1."""

    folder: str
    commit: int = 0
    when: str = "before"
    shutdown_timeout: float = 5.0
    seconds: float = 0.0


def append(path: Path, line: str) -> None:
    """Adds a line to a file, and to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, f"{line}\n".encode())
    os.fsync(descriptor)
    os.close(descriptor)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class Ledger:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = Counter(line.split()[1] + line.split()[2] for line in lines(path) if line.startswith("failed"))

    def work(self, run_id: str, name: str) -> str:
        append(self._path, f"begin {run_id} {name} {os.getpid()}")
        append(self._path, f"end {run_id} {name} {os.getpid()}")
        return name

    async def work_slowly(self, run_id: str, name: str, seconds: float) -> str:
        append(self._path, f"begin {run_id} {name} {os.getpid()}")
        await asyncio.sleep(seconds)
        append(self._path, f"end {run_id} {name} {os.getpid()}")
        return name

    def fail_twice(self, run_id: str, name: str) -> str:
        self._failed[run_id + name] += 1
        if self._failed[run_id + name] <= 2:
            append(self._path, f"failed {run_id} {name} {os.getpid()}")
            raise ConnectionError("not yet")
        return self.work(run_id, name)


def build_app(ledger: Ledger, life: Life) -> App:
    app = App("chaos")
    _add_steps(app, ledger, life)
    _add_waits(app, ledger)
    _add_invokes(app, ledger)
    return app


def _add_steps(app: App, ledger: Ledger, life: Life) -> None:
    @app.function("three", trigger="chaos/three")
    async def three(ctx: Context) -> list[str]:
        return [await step.run(name, ledger.work, ctx.run_id, name) for name in ("a", "b", "c")]

    @app.function("plain", trigger="chaos/plain")
    def plain(ctx: Context) -> list[str]:
        return [plain_step.run(name, ledger.work, ctx.run_id, name) for name in ("a", "b")]

    @app.function("retrying", trigger="chaos/retrying", retries=20)
    async def retrying(ctx: Context) -> list[str]:
        names = ("a", "b")
        return list(await asyncio.gather(*(step.run(n, ledger.fail_twice, ctx.run_id, n) for n in names)))

    @app.function("limited", trigger="chaos/limited", concurrency=Concurrency(1, key="event.data.key"))
    async def limited(ctx: Context) -> list[str]:
        first = await step.run("a", ledger.work_slowly, ctx.run_id, "a", 0.003)
        await step.sleep("between", 0.005)
        return [first, await step.run("b", ledger.work, ctx.run_id, "b")]

    @app.function("single", trigger="chaos/single", singleton=Singleton("event.data.n"))
    async def single(ctx: Context) -> str:
        return await step.run("a", ledger.work_slowly, ctx.run_id, "a", 0.003)

    @app.function("long", trigger="chaos/long")
    async def long(ctx: Context) -> list[str]:
        first = await step.run("a", ledger.work_slowly, ctx.run_id, "a", life.seconds)
        return [first, await step.run("b", ledger.work, ctx.run_id, "b")]


def _add_waits(app: App, ledger: Ledger) -> None:
    @app.function("sleeping", trigger="chaos/sleeping")
    async def sleeping(ctx: Context) -> list[str]:
        first = await step.run("a", ledger.work, ctx.run_id, "a")
        await asyncio.gather(step.sleep("long", 0.15), step.sleep("short", 0.02))
        return [first, await step.run("b", ledger.work, ctx.run_id, "b")]

    @app.function("waiting", trigger="chaos/waiting")
    async def waiting(ctx: Context) -> list[str]:
        answer = {"name": "chaos/answer", "data": {"n": ctx.event.data["n"]}}
        wait = step.wait_for_event("answer", event="chaos/answer", match="data.n", timeout="2h")
        # The answer to it is sent by a child that starts after the wait is recorded.
        await asyncio.gather(wait, step.invoke("ask", "chaos-answering", data={"answer": answer}))
        return [await step.run("a", ledger.work, ctx.run_id, "a")]

    @app.function("answering")
    async def answering(ctx: Context) -> None:
        await step.sleep("think", 0.02)
        await step.send_event("answer", ctx.event.data["answer"])


def _add_invokes(app: App, ledger: Ledger) -> None:
    @app.function("child")
    async def child(ctx: Context) -> str:
        await step.sleep("nap", 0.01)
        return await step.run("a", ledger.work, ctx.run_id, "a")

    @app.function("parent", trigger="chaos/parent")
    async def parent(ctx: Context) -> list[str]:
        both = await asyncio.gather(step.invoke("one", child), step.invoke("two", child))
        return [*both, await step.run("b", ledger.work, ctx.run_id, "b")]


def kill_at_commit(connection: sqlite3.Connection, life: Life) -> None:
    """Makes the process kill itself right before, or right after, its n-th COMMIT."""
    real, begun, done = writer.commit, 0, 0

    def trace(statement: str) -> None:
        # Called when SQLite is about to execute the statement.
        nonlocal begun
        begun += statement == "COMMIT"
        if life.when == "before" and begun == life.commit:
            os.kill(os.getpid(), signal.SIGKILL)

    def commit(
        connection: sqlite3.Connection, pauses: PauseNames, changes: list[writer.Change]
    ) -> list[writer.Outcome]:
        nonlocal done
        outcomes = real(connection, pauses, changes)
        done += 1
        if life.when == "after" and done == life.commit:
            # Committed, and nobody has been told.
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes

    connection.set_trace_callback(trace)
    writer.commit = commit


class KilledStore(SqliteStore):
    """The store, with the hook set before anything is committed."""

    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path)
        self._life = life

    async def open(self) -> None:
        await super().open()
        if self._life.commit:
            kill_at_commit(self._require(), self._life)


async def live(life: Life) -> None:
    folder = Path(life.folder)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    app = build_app(Ledger(folder / "ledger"), life)
    store = KilledStore(folder / "chaos.db", life)
    options: dict[str, Json] = {"retry_interval": 10, "shutdown_timeout": life.shutdown_timeout}
    async with embedded(app, db=store, **options) as engine:
        working = asyncio.create_task(_work(app, engine, folder))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        stopped.cancel()


async def _work(app: App, engine: Node, folder: Path) -> None:
    acknowledged = {line.split()[0] for line in lines(folder / "acknowledged")}
    events = [json.loads(line) for line in lines(folder / "events")]
    left = [event for event in events if event["id"] not in acknowledged]

    async def send(event: dict[str, Json]) -> None:
        (internal_id,) = await app.send(event)
        append(folder / "acknowledged", f"{event['id']} {internal_id}")

    for start in range(0, len(left), 8):
        await asyncio.gather(*(send(event) for event in left[start : start + 8]))
    while any(not status.final for status in (await engine.health()).runs):
        await asyncio.sleep(0.01)


def serve() -> None:
    for line in sys.stdin:
        life = msgspec.json.decode(line, type=Life)
        pid = os.fork()
        if pid == 0:
            _be_born(life)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be_born(life: Life) -> None:
    # The pipes are the template's.
    os.close(0)
    os.dup2(2, 1)
    try:
        asyncio.run(live(life))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    serve()
