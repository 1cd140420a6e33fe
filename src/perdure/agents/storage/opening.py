"""Where a storage comes from: an engine's own store, or a database that is opened for it alone."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from perdure.agents.storage.all import AgentStorage
from perdure.model.ids import UlidFactory
from perdure.store.naming import make_store
from perdure.store.protocol import Store


class _Clock(Protocol):
    def now(self) -> int: ...


class _Decider(Protocol):
    @property
    def ids(self) -> Callable[[], str]: ...


class Engine(Protocol):
    """What is needed of a running engine."""

    @property
    def store(self) -> Store: ...
    @property
    def clock(self) -> _Clock: ...
    @property
    def decider(self) -> _Decider: ...


def storage_of(engine: Engine) -> AgentStorage:
    """The storage of the agents of an engine: on its store, by its clock."""
    return AgentStorage(engine.store, now=engine.clock.now, ids=engine.decider.ids)


def _system_now() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_storage(
    db: str | Path, *, now: Callable[[], int] = _system_now, entropy: Callable[[int], bytes] = os.urandom
) -> AsyncGenerator[AgentStorage]:
    """A storage in a database of its own, for the length of a block: a file, ":memory:", or a URL of PostgreSQL.

    Raises `StoreLockedError` for a file that another process has open, and `StoreError`.
    """
    store = make_store(db)
    await store.open()
    try:
        yield AgentStorage(store, now=now, ids=UlidFactory(now, entropy))
    finally:
        await store.close()
