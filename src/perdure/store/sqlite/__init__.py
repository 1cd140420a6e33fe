"""The store in one SQLite file: one writer, group commit, WAL, synchronous=FULL."""

from __future__ import annotations

from perdure.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
