"""From the name of a database to its store: a URL of PostgreSQL, a file, or ":memory:"."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from perdure.model.errors import StoreError
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore

_POSTGRES = ("postgresql://", "postgres://")


def is_postgres(db: str | Path) -> bool:
    """Whether a database is named by a URL of PostgreSQL.

    >>> is_postgres("postgresql://app@db/shop"), is_postgres("shop.db")
    (True, False)
    """
    return str(db).startswith(_POSTGRES)


def make_store(db: str | Path) -> Store:
    """The store of a name; it has yet to be opened. Raises `StoreError` for a URL that is none of PostgreSQL's."""
    name = str(db)
    if is_postgres(name):
        if find_spec("asyncpg") is None:
            raise StoreError('PostgreSQL needs asyncpg: install it with `pip install "perdure[postgres]"`')
        # Programs without PostgreSQL need not load its driver.
        from perdure.store.postgres import PostgresStore

        return PostgresStore(name)
    if "://" in name:
        raise StoreError(f"{name}: is neither a file nor a URL of PostgreSQL (postgresql://user@host/database)")
    return SqliteStore(db)


def shown(db: str | Path) -> str:
    """The name of a database as it may be shown: without a password."""
    if not is_postgres(db) or find_spec("asyncpg") is None:
        return str(db)
    from perdure.store.postgres.connections import shown as shown_url

    return shown_url(str(db))
