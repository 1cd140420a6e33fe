"""The store in a PostgreSQL database, which several nodes share: one transaction after the other, group commit."""

from __future__ import annotations

from perdure.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
