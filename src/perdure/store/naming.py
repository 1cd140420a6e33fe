"""From the name of a database to its store: a URL of PostgreSQL, a file, or ":memory:"."""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from perdure.model.errors import StoreError
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.store import MEMORY

_POSTGRES = ("postgresql://", "postgres://")
_MAX_POSTGRES_NAME = 63


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


def database_of(db: str | Path, environment: str) -> str:
    """The database of a branch environment beside that of the main one: a file in a folder, or on the same server.

    >>> database_of("shop.db", "feature/carts")
    'shop.db.envs/feature-carts-2258c469.db'
    >>> database_of("postgresql://app@db/shop?sslmode=require", "feature/carts")
    'postgresql://app@db/shop_env_feature_carts_2258c469?sslmode=require'
    """
    name = str(db)
    if name == MEMORY:
        return name
    # Two names may look the same once they can stand in the name of a file.
    told_apart = hashlib.sha256(environment.encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", environment.lower()).strip("-")[:30]
    if not is_postgres(name):
        return f"{name}.envs/{'-'.join(filter(None, (readable, told_apart)))}.db"
    parts = urlsplit(name)
    base = unquote(parts.path.lstrip("/")) or unquote(parts.username or "") or "postgres"
    rest = "_".join(filter(None, ("_env", readable.replace("-", "_"), told_apart)))
    path = "/" + quote(base[: _MAX_POSTGRES_NAME - len(rest)] + rest, safe="")
    return urlunsplit(parts._replace(path=path))


async def make_database(main: str | Path, db: str) -> None:
    """Makes the database of a branch environment on a server of PostgreSQL, if it is not there; files make themselves.

    Raises `StoreError`.
    """
    if is_postgres(db):
        from perdure.store.postgres.databases import make_database as make_on_server

        await make_on_server(str(main), unquote(urlsplit(db).path.lstrip("/")))


def shown(db: str | Path) -> str:
    """The name of a database as it may be shown: without a password."""
    if not is_postgres(db) or find_spec("asyncpg") is None:
        return str(db)
    from perdure.store.postgres.connections import shown as shown_url

    return shown_url(str(db))
