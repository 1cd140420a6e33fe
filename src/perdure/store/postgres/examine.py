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

    `now` is the time there (ms), `buses` what the nodes that are alive note as theirs.
    """

    server: str
    schema: int
    known: int
    now: int
    buses: list[str | None] = []
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
                return Examined(version, 0, latest(), 0)
            schema = max((row[0] for row in await connection.fetch(QUERIES["versions"].sql)), default=0)
            found: Examined[T] = Examined(version, schema, latest(), 0)
            if schema == found.known:
                found.now = await connection.fetchval(QUERIES["now"].sql)
                nodes = await connection.fetch(QUERIES["known_nodes"].sql)
                found.buses = [bus for _, alive, bus in nodes if alive]
                found.contents = await drive(connection, question())
            return found
        finally:
            await connection.close(timeout=5)
    except FAILURES as error:
        raise StoreError(f"cannot read {database.shown}: {str(error) or type(error).__name__}") from error
