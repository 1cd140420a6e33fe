"""The floor: what the three-step function commits, group-committed from asyncio, without any engine.

Five commits a run: event, run and job; three steps; the run's end. The tables have perdure's columns and indexes,
the connection perdure's settings. No flow control, no lease, no replay, no values to encode: what perdure takes
beyond this is what its engine costs.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from bench import load, loops
from bench.meter import Meter
from bench.subject import Measured, Task, serve

Statement: TypeAlias = tuple[str, tuple[object, ...]]

_SCHEMA = """
CREATE TABLE event (internal_id TEXT PRIMARY KEY, name TEXT NOT NULL, received_at INTEGER NOT NULL,
  internal INTEGER NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX event_by_name ON event (name, internal_id);
CREATE TABLE run (id TEXT PRIMARY KEY, function_id TEXT NOT NULL, function_version INTEGER NOT NULL,
  app_id TEXT NOT NULL, event_id TEXT NOT NULL, batch_id TEXT, cron TEXT, original_run_id TEXT, parent TEXT,
  status INTEGER NOT NULL, created_at INTEGER NOT NULL, started_at INTEGER, ended_at INTEGER, output BLOB) STRICT;
CREATE INDEX run_by_event ON run (event_id);
CREATE INDEX run_active ON run (function_id, id) WHERE status < 2;
CREATE TABLE step (run_id TEXT NOT NULL, id TEXT NOT NULL, op TEXT NOT NULL, name TEXT NOT NULL,
  status INTEGER NOT NULL, seq INTEGER NOT NULL, attempt INTEGER NOT NULL, queued_at INTEGER NOT NULL,
  started_at INTEGER NOT NULL, ended_at INTEGER, data BLOB, opts BLOB, PRIMARY KEY (run_id, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE job (id TEXT PRIMARY KEY, kind TEXT NOT NULL, state INTEGER NOT NULL, run_id TEXT, function_id TEXT,
  due_at INTEGER NOT NULL, rank INTEGER NOT NULL, node TEXT, token INTEGER NOT NULL, attempt INTEGER NOT NULL,
  woken INTEGER NOT NULL, blocked_on TEXT, keys BLOB, data BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX job_due ON job (due_at) WHERE state = 0;
CREATE INDEX job_ready ON job (rank, id) WHERE state = 1;
CREATE INDEX job_leased ON job (node) WHERE state = 2;
"""
_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?)"
_RUN = f"INSERT INTO run VALUES ({', '.join('?' * 14)})"
_JOB = f"INSERT INTO job VALUES ({', '.join('?' * 14)})"
_STEP = f"INSERT INTO step VALUES ({', '.join('?' * 12)})"
_END = "UPDATE run SET status = ?, ended_at = ?, output = ? WHERE id = ?"
_DONE = "DELETE FROM job WHERE id = ?"
_HASHES = [f"86f7e437faa5a7fce15d1ddcb9eaeaea377667b{n}" for n in range(3)]
_NOW = 1_800_000_000_000
_MAX_BATCH = 256


class Commits:
    """A thread that commits what has arrived since its last commit."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {_SCHEMA}")
        self._queue: queue.SimpleQueue[tuple[Sequence[Statement], asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="skeleton-writer", daemon=True).start()

    def submit(self, statements: Sequence[Statement]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((statements, future))
        return future

    def _run(self) -> None:
        cursor = self._connection.cursor()
        while True:
            batch = [self._queue.get()]
            while len(batch) < _MAX_BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            cursor.execute("BEGIN IMMEDIATE")
            for statements, _ in batch:
                for sql, values in statements:
                    cursor.execute(sql, values)
            cursor.execute("COMMIT")
            self._loop.call_soon_threadsafe(_resolve, [future for _, future in batch])


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)


async def _three(commits: Commits, id: str) -> None:
    body = b'{"name":"inngest/function.invoked","data":{"n":1},"id":"01","ts":1800000000000}'
    run = (id, "bench-three", 1, "bench", id, None, None, None, None, 1, _NOW, _NOW, None, None)
    job = (id, "drive", 2, id, "bench-three", _NOW, _NOW, "node", 1, 0, 0, None, None, None)
    await commits.submit([(_EVENT, (id, "bench/three", _NOW, 1, body)), (_RUN, run), (_JOB, job)])
    for seq, step_id in enumerate(_HASHES):
        row = (id, step_id, "StepRun", "a", 1, seq, 0, _NOW, _NOW, _NOW, b'{"n":1}', None)
        await commits.submit([(_STEP, row)])
    await commits.submit([(_END, (3, _NOW, b'{"n":3}', id)), (_DONE, (id,))])


def trigger_of(commits: Commits) -> load.Trigger:
    """Commits what one run would, each time under a new id."""
    count = 0

    async def trigger(_: int) -> None:
        nonlocal count
        count += 1
        await _three(commits, f"01KAN1{count:020}")

    return trigger


async def _measure(task: Task) -> Measured:
    commits = Commits(Path(task.directory) / "skeleton.db")
    return await load.measure(task, trigger_of(commits), Meter(os.getpid()))


if __name__ == "__main__":
    serve(lambda task: loops.run(_measure(task), task.variant))
