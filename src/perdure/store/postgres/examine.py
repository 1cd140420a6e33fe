"""A look at a database without changing it, for `perdure doctor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from perdure.engine.turn import Decision
from perdure.model.errors import StoreError
from perdure.store.postgres.connections import FAILURES, Dsn
from perdure.store.postgres.migrate import latest
from perdure.store.postgres.session import drive
from perdure.store.postgres.statements import QUERIES

T = TypeVar("T")


class Examined(msgspec.Struct, Generic[T]):
    """What was found. `schema` is 0 where perdure has no tables; `contents` is there if it is `known`, this program's.

    `nodes` are the ids of the nodes that are alive, and `gone` of those that have not said so for a while.
    """

    server: str
    schema: int
    known: int
    nodes: list[str] = []
    gone: list[str] = []
    contents: T | None = None


async def examine(dsn: str, question: Callable[[], Decision[T]]) -> Examined[T]:
    """Asks a database a question, if it has the schema for it. Raises `StoreError`."""
    database = Dsn(dsn)
    try:
        connection = await database.connect()
        try:
            await connection.execute(QUERIES["begin_view"].sql)
            version: str = await connection.fetchval("SHOW server_version")
            if await connection.fetchval(QUERIES["has_versions"].sql) is None:
                return Examined(version, 0, latest())
            schema = max((row[0] for row in await connection.fetch(QUERIES["versions"].sql)), default=0)
            found: Examined[T] = Examined(version, schema, latest())
            if schema == found.known:
                for node, alive in await connection.fetch(QUERIES["nodes"].sql):
                    (found.nodes if alive else found.gone).append(node)
                found.contents = await drive(connection, question())
            return found
        finally:
            await connection.close(timeout=5)
    except FAILURES as error:
        raise StoreError(f"cannot read {database.shown}: {str(error) or type(error).__name__}") from error
