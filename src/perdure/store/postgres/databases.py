"""Databases on a server of PostgreSQL, beside the one that a node has: one is made for each branch environment."""

from __future__ import annotations

import contextlib

import asyncpg

from perdure.model.errors import StoreError
from perdure.store.postgres.connections import FAILURES, Dsn
from perdure.store.postgres.statements import QUERIES


async def make_database(dsn: str, name: str) -> None:
    """Makes a database if there is none of that name; `dsn` is that of another on the same server.

    Raises `StoreError`, which says what to do where the role may make none.
    """
    server = Dsn(dsn)
    try:
        connection = await server.connect()
        try:
            if await connection.fetchval(QUERIES["has_database"].sql, name):
                return
            # Names cannot be parameters; two nodes may do it at once.
            quoted = name.replace('"', '""')
            with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                await connection.execute(f'CREATE DATABASE "{quoted}"')
        finally:
            await connection.close(timeout=5)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreError(
            f"the role may make no database: let it (ALTER ROLE ... CREATEDB), or make the database {name} for it"
        ) from error
    except FAILURES as error:
        raise StoreError(f"cannot make the database {name}: {str(error) or type(error).__name__}") from error
