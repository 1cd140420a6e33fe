"""The single writer: a thread that commits what has arrived since its last commit as one transaction.

Group commit is where the throughput comes from: under load a batch shares one fsync, and alone a change waits for
nobody. If a batch fails, its changes are tried one by one, so that a bad one cannot take its neighbours along.
Results are handed to the event loop only after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from perdure.engine.turn import Decision
from perdure.model.errors import StoreError
from perdure.store.sqlite.session import PauseNames, Session

MAX_BATCH = 256
"""Changes per commit: more would only make the first of them wait longer."""


class Change(NamedTuple):
    """A decision to commit and the future that waits for it."""

    begin: Callable[[], Decision[Any]]
    future: asyncio.Future[Any]


class Outcome(NamedTuple):
    """What became of a change."""

    change: Change
    result: object
    error: Exception | None


def commit(connection: sqlite3.Connection, pauses: PauseNames, changes: list[Change]) -> list[Outcome]:
    """Commits changes as one transaction, or each in its own if together they fail."""
    cursor = connection.cursor()
    session = Session(cursor, pauses)
    try:
        cursor.execute("BEGIN IMMEDIATE")
        for change in changes:
            session.add(change.begin())
        results = session.finish()
        cursor.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            # Fails only where the database has rolled back on its own already.
            with contextlib.suppress(sqlite3.Error):
                cursor.execute("ROLLBACK")
        if len(changes) == 1:
            return [Outcome(changes[0], None, _explain(error))]
        return [outcome for change in changes for outcome in commit(connection, pauses, [change])]
    return [Outcome(change, result, None) for change, result in zip(changes, results, strict=True)]


def _explain(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error):
        explained = StoreError(f"the database refused a change: {error}")
        explained.__cause__ = error
        return explained
    return error


class Writer:
    """The writer thread of one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="perdure-writer", daemon=True)
        self._thread.start()

    def submit(self, begin: Callable[[], Decision[Any]]) -> asyncio.Future[Any]:
        """Queues a decision; the future resolves after its commit."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(Change(begin, future))
        return future

    async def stop(self) -> None:
        """Commits what is queued and ends the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        pauses = PauseNames(self._connection)
        stopping = False
        while not stopping:
            batch: list[Change] = []
            item = self._queue.get()
            try:
                while item is not None:
                    batch.append(item)
                    if len(batch) == MAX_BATCH:
                        break
                    item = self._queue.get_nowait()
                else:
                    stopping = True
            except queue.Empty:
                pass
            if batch:
                outcomes = commit(self._connection, pauses, batch)
                self._loop.call_soon_threadsafe(_resolve, outcomes)


def _resolve(outcomes: list[Outcome]) -> None:
    for change, result, error in outcomes:
        if change.future.cancelled():
            continue
        if error is None:
            change.future.set_result(result)
        else:
            change.future.set_exception(error)
