"""The copy itself: every table in batches, then read again at the target and compared, then one commit.

Rows are taken as they are stored: payloads, references to blobs and blobs alike. Leases are copied too; the nodes that
had them are not, so the next start takes the work up as it does after a crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import msgspec

from perdure.model.errors import StoreError
from perdure.store.copying.ends import End, Row, Table
from perdure.store.naming import is_postgres, make_store


class Copied(msgspec.Struct, frozen=True):
    """A table that was copied: how many rows, and the SHA-256 of all of them."""

    table: str
    rows: int
    checksum: str


async def copy_database(source: str, target: str, tell: Callable[[Copied], None]) -> list[Copied]:
    """Copies what one database holds into another, which must be empty, and calls `tell` after every table.

    Both are files or URLs of PostgreSQL. All or nothing: the target stays as it was unless every table arrived as it
    left. Raises `StoreLockedError` and `StoreError`, for one that is in use, of another schema, or not empty.
    """
    if _same(source, target):
        raise StoreError("source and target are the same database")
    giving, taking = _end(source), _end(target)
    try:
        await giving.open(empty=False)
        await taking.open(empty=True)
        tables = await giving.tables()
        if tables != await taking.tables():
            raise StoreError(f"{giving.name} and {taking.name} differ in their tables; start perdure on both once")
        for table in tables:
            if await taking.has_rows(table):
                raise StoreError(f"{taking.name} is not empty (table {table.name}): copy into a new database")
        copied = [await _copy(giving, taking, table, tell) for table in tables]
        await taking.finish()
        return copied
    finally:
        await taking.close()
        await giving.close()


def _same(source: str, target: str) -> bool:
    if is_postgres(source) or is_postgres(target):
        return source == target
    return Path(source).resolve() == Path(target).resolve()


def _end(name: str) -> End:
    # It says what is wrong with a name, and with a driver that is not installed.
    make_store(name)
    if is_postgres(name):
        from perdure.store.copying.server import ServerEnd

        return ServerEnd(name)
    from perdure.store.copying.file import FileEnd

    return FileEnd(name)


class _Sum:
    """Counts rows and sums them up in their order."""

    def __init__(self) -> None:
        self.rows = 0
        self._digest = hashlib.sha256()

    def add(self, rows: list[Row]) -> None:
        self.rows += len(rows)
        for row in rows:
            self._digest.update(msgspec.msgpack.encode(row))

    def of(self, table: Table) -> Copied:
        return Copied(table.name, self.rows, self._digest.hexdigest())


async def _copy(giving: End, taking: End, table: Table, tell: Callable[[Copied], None]) -> Copied:
    given, arrived = _Sum(), _Sum()
    async with aclosing(giving.rows(table)) as batches:
        async for rows in batches:
            given.add(rows)
            await taking.write(table, rows)
    async with aclosing(taking.rows(table)) as batches:
        async for rows in batches:
            arrived.add(rows)
    copied = given.of(table)
    if copied != arrived.of(table):
        text = f"{copied.rows} rows of table {table.name} left, {arrived.rows} arrived, or not as they were"
        raise StoreError(f"{text}; nothing was copied")
    tell(copied)
    return copied
