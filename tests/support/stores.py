"""Stores for tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from perdure.store.sqlite import SqliteStore


@asynccontextmanager
async def opened(path: Path | str, *, synchronous: str = "NORMAL") -> AsyncGenerator[SqliteStore]:
    """A store for the length of a block; without the cost of waiting for the disk unless asked for."""
    store = SqliteStore(path, synchronous=synchronous)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
