"""A PostgreSQL database as an end of a copy: one transaction, under locks that keep every node out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from perdure.model.errors import StoreError
from perdure.store.copying.ends import OWN, Row, Table
from perdure.store.postgres.connections import FAILURES, Dsn
from perdure.store.postgres.migrate import latest, migrate
from perdure.store.postgres.statements import QUERIES
from perdure.store.statements import parse_statements

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.transaction import Transaction

_SQL: Final = parse_statements((resources.files("perdure.store.copying") / "postgres.sql").read_text())


class ServerEnd:
    """A database of PostgreSQL. `open` waits five seconds for others to let go of it."""

    def __init__(self, url: str) -> None:
        self._dsn = Dsn(url)
        self.name = self._dsn.shown
        self._connection: Connection[Any] | None = None
        self._transaction: Transaction | None = None

    async def open(self, *, empty: bool) -> None:
        with self._told():
            connection = self._connection = await self._dsn.connect()
            transaction = connection.transaction()
            await transaction.start()
            self._transaction = transaction
            await connection.execute(_SQL["settings"].sql)
            # A node that starts now waits: it migrates first.
            await connection.execute(QUERIES["lock_versions"].sql)
            if empty:
                await migrate(connection)
            await self._check(connection)
            await connection.execute(_SQL["hold"].sql)
            alive = [node for node, is_alive, _ in await connection.fetch(QUERIES["known_nodes"].sql) if is_alive]
            if alive:
                text = f"{self.name} is in use by {len(alive)} nodes: stop them"
                raise StoreError(f"{text}, or wait for 15 seconds if they are dead")

    async def _check(self, connection: Connection[Any]) -> None:
        if await connection.fetchval(QUERIES["has_versions"].sql) is None:
            raise StoreError(f"{self.name} is not a database of perdure, or an empty one")
        version = max((row[0] for row in await connection.fetch(QUERIES["versions"].sql)), default=0)
        if version != latest():
            what = "start this perdure on it once" if version < latest() else "install a newer perdure"
            raise StoreError(f"{self.name} has schema version {version}, this perdure has {latest()}: {what}")

    async def tables(self) -> list[Table]:
        columns: dict[str, list[str]] = {}
        keys: dict[str, list[tuple[int, str]]] = {}
        with self._told():
            for table, column, place in await self._connected().fetch(_SQL["columns"].sql):
                if table not in OWN:
                    columns.setdefault(table, []).append(column)
                    if place >= 0:
                        keys.setdefault(table, []).append((place, column))
        return [
            Table(name, tuple(sorted(columns[name])), tuple(column for _, column in sorted(keys.get(name, []))))
            for name in sorted(columns)
        ]

    async def has_rows(self, table: Table) -> bool:
        with self._told(table):
            found: bool = await self._connected().fetchval(f'SELECT EXISTS (SELECT 1 FROM perdure."{table.name}")')
            return found

    async def rows(self, table: Table) -> AsyncGenerator[list[Row]]:
        sql = f'SELECT {_quoted(table.columns)} FROM perdure."{table.name}" ORDER BY {_quoted(table.key)}'
        with self._told(table):
            cursor = await self._connected().cursor(sql)
            while batch := await cursor.fetch(table.batch):
                yield [tuple(row) for row in batch]

    async def write(self, table: Table, rows: list[Row]) -> None:
        for row in rows:
            if any(isinstance(value, str) and "\0" in value for value in row):
                raise StoreError(
                    f"a row of table {table.name} has a NUL character in a text, which PostgreSQL cannot hold: "
                    f"{dict(zip(table.columns, row, strict=True))!r:.300}"
                )
        with self._told(table):
            await self._connected().copy_records_to_table(
                table.name, records=rows, columns=list(table.columns), schema_name="perdure"
            )

    async def finish(self) -> None:
        with self._told():
            await self._connected().execute(_SQL["put_pause_names"].sql)
            if self._transaction is not None:
                await self._transaction.commit()
                self._transaction = None

    def _connected(self) -> Connection[Any]:
        if self._connection is None:
            raise StoreError(f"{self.name} is not open")
        return self._connection

    @contextlib.contextmanager
    def _told(self, table: Table | None = None) -> Generator[None]:
        try:
            yield
        except asyncpg.LockNotAvailableError as error:
            raise StoreError(f"{self.name} is in use by another perdure: stop it") from error
        except FAILURES as error:
            where = f"{self.name}, table {table.name}" if table else self.name
            raise StoreError(f"{where}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        if self._connection is not None:
            # What is not committed goes with the connection.
            with contextlib.suppress(*FAILURES):
                await self._connection.close(timeout=5)
            self._connection = None


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)
