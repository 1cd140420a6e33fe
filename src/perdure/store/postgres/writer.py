"""The single writer of a node: a task that commits what has arrived since its last commit as one transaction.

Decisions that are plain, as long as no other comes between, are one round trip; others have a transaction in which
they ask, which ends early when it takes long, so that other nodes get their turn. If a transaction fails, its decisions
are tried one by one, so that a bad one cannot take its neighbours along. Nothing is answered before its commit, and
while the database is away nothing fails that can wait: a decision gets `StoreError` only if it has waited for
`patience`, and is known not to be committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import asyncpg

from perdure.engine.turn import Decision
from perdure.model.errors import StoreError
from perdure.store.postgres.connections import FAILURES, is_gone, is_passing
from perdure.store.postgres.link import FENCED, Link
from perdure.store.postgres.plain import Plain
from perdure.store.postgres.session import Session

_log = logging.getLogger("perdure.store")

MAX_BATCH: Final = 256
"""Changes per commit: more would only make the first of them wait longer."""
_LONG: Final = 0.05
"""Seconds after which a transaction takes on nothing more: the other nodes wait for it."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class Change:
    """A decision to commit, the future that waits for it, and since when it does; `failed` if it was told so."""

    __slots__ = ("begin", "failed", "future", "since")

    def __init__(self, begin: Callable[[], Decision[Any]], loop: asyncio.AbstractEventLoop) -> None:
        self.begin = begin
        self.future: asyncio.Future[Any] = loop.create_future()
        self.since = loop.time()
        self.failed = False

    def resolve(self, result: object) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        self.failed = True
        if not self.future.done():
            self.future.set_exception(error)


class _GaveUpError(Exception):
    """Decisions of a transaction have waited too long for the database: it must be made without them."""


class Writer:
    """Writes through one link, which has joined. `patience`: how many seconds a decision waits for a database; `told`
    is called after each commit that told other nodes something."""

    def __init__(self, link: Link, patience: float, told: Callable[[Iterable[str]], None]) -> None:
        self._link = link
        self._patience = patience
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._queue: list[Change] = []
        self._arrived = asyncio.Event()
        self._stopping = False
        self._task = self._loop.create_task(self._run())

    def submit(self, begin: Callable[[], Decision[Any]]) -> asyncio.Future[Any]:
        """Queues a decision; the future resolves after its commit."""
        change = Change(begin, self._loop)
        if self._task.done():
            # The event loop is being taken down, and the task with it.
            change.fail(StoreError("the store is closed"))
        self._queue.append(change)
        self._arrived.set()
        return change.future

    @property
    def sessions(self) -> set[int]:
        """The process ids of the sessions through which it writes."""
        return self._link.sessions

    async def stop(self) -> None:
        """Commits what is queued, as far as the database takes it, and ends the task."""
        self._stopping = True
        self._arrived.set()
        await asyncio.wait([self._task], timeout=self._patience)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._expire(self._queue, 0)
        await self._link.close()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._stopping:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            try:
                await self._commit_batch(batch)
            except asyncio.CancelledError:
                self._expire(batch + self._queue, 0)
                raise
            except Exception as error:
                # Nobody else would ever answer them.
                _log.critical("a batch of changes failed", exc_info=error)
                for change in batch:
                    change.fail(StoreError(f"the database refused a change: {error}"))

    async def _commit_batch(self, batch: list[Change]) -> None:
        """Commits changes in their order: one that was submitted later may rest on what an earlier one did."""
        while batch := [change for change in batch if not change.failed]:
            plain = Plain(self._link.names)
            ahead = plain.take_first(change.begin for change in batch)
            try:
                if ahead and await self._commit_plain(plain, batch[:ahead]):
                    batch = batch[ahead:]
                else:
                    batch = await self._commit(batch)
            except _GaveUpError:
                continue

    async def _commit_plain(self, plain: Plain, changes: list[Change]) -> bool:
        """Commits decisions that were made ahead; False if they have to be made at length."""
        try:
            await self._transact(changes, lambda: self._link.commit_plain(plain))
        except asyncpg.PostgresError:
            # Not as plain as it looked, or one of them is bad: at length it will be seen which.
            return False
        self._tell(plain.news)
        await _resolve(changes, plain.results)
        return True

    async def _commit(self, changes: list[Change]) -> list[Change]:
        """Commits decisions as one transaction, or each in its own if together they fail; those that are left."""
        results: list[object] = []
        news: list[str] = []

        async def send() -> None:
            results[:], news[:] = await self._decide(changes)
            await self._link.commit()

        try:
            await self._transact(changes, send)
        except _GaveUpError:
            raise
        except Exception as error:
            if len(changes) == 1:
                changes[0].fail(_explain(error))
                return []
            for change in changes:
                with contextlib.suppress(_GaveUpError):
                    await self._commit([change])
            return []
        self._tell(news)
        await _resolve(changes[: len(results)], results)
        return changes[len(results) :]

    def _tell(self, news: list[str]) -> None:
        if news:
            self._told(news)

    async def _decide(self, changes: list[Change]) -> tuple[list[object], list[str]]:
        """Makes decisions in a transaction that is left open, as many as go into one; their results, and the news."""
        session = Session(await self._link.begin(), self._link.names)
        until = self._loop.time() + _LONG
        for change in changes:
            await session.add(change.begin())
            if self._loop.time() > until:
                break
        results: list[object] = await session.finish()
        return results, list(session.news)

    async def _transact(self, changes: list[Change], send: Callable[[], Awaitable[None]]) -> None:
        """Sends a transaction until it is known to be committed. Raises what is wrong with the transaction itself."""
        pause = _FIRST_PAUSE
        while True:
            if self._link.connection is None:
                await self._join(changes)
            before = self._link.seq
            try:
                await send()
                return
            except Exception as error:
                if is_gone(error, self._link.connection):
                    _log.warning("the connection to the database broke: %s", error)
                    self._link.drop()
                    await self._join(changes, unknown=self._link.sent)
                    if self._link.seq > before:
                        return
                    continue
                await self._link.rollback()
                if getattr(error, "sqlstate", None) == FENCED:
                    await self._join(changes)
                elif not is_passing(error) or self._loop.time() - changes[0].since > self._patience:
                    raise
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    async def _join(self, changes: list[Change], *, unknown: bool = False) -> None:
        """Connects again, for as long as it takes. Where it is `unknown` whether the changes were committed they wait
        for that; otherwise for `patience`: then they fail, and this raises `_GaveUpError`."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._link.join()
                return
            except FAILURES as error:
                _log.warning("the database is away, trying again in %s s: %s", pause, error)
            self._queue = self._expire(self._queue, self._patience)
            if not unknown:
                self._expire(changes, self._patience)
                if any(change.failed for change in changes):
                    raise _GaveUpError
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _expire(self, changes: list[Change], age: float) -> list[Change]:
        """Fails the changes that have waited for so long; the others."""
        kept: list[Change] = []
        for change in changes:
            if self._loop.time() - change.since < age:
                kept.append(change)
            else:
                change.fail(StoreError("the database is away"))
        return kept


async def _resolve(changes: list[Change], results: list[object]) -> None:
    for change, result in zip(changes, results, strict=True):
        change.resolve(result)
    # Whoever waited takes notice before anything else is decided: what is in force may be theirs to say.
    await asyncio.sleep(0)


def _explain(error: Exception) -> Exception:
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        explained = StoreError(f"the database refused a change: {error}")
        explained.__cause__ = error
        return explained
    return error
