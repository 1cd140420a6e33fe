"""A file as an end of a copy: under its lock, in one transaction, its statements in threads."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncGenerator, Generator
from importlib import resources
from pathlib import Path
from typing import Final

from perdure.model.errors import StoreError
from perdure.store.copying.ends import OWN, Row, Table
from perdure.store.sqlite.lock import FileLock
from perdure.store.sqlite.migrate import is_foreign, migrate, migrations
from perdure.store.statements import parse_statements

_SQL: Final = parse_statements((resources.files("perdure.store.copying") / "sqlite.sql").read_text())


class FileEnd:
    """A SQLite file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = Path(name)
        self._lock = FileLock(self._path)
        self._connection: sqlite3.Connection | None = None

    async def open(self, *, empty: bool) -> None:
        if not empty and not self._path.is_file():
            raise StoreError(f"there is no file {self.name}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        with self._told():
            self._connection = await asyncio.to_thread(self._connect, empty)

    def _connect(self, empty: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            if empty:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                migrate(connection)
                connection.execute("BEGIN IMMEDIATE")
            else:
                self._check(connection)
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        latest = migrations()[-1][0]
        if version == 0 or is_foreign(connection, version):
            raise StoreError(f"{self.name} is not a database of perdure, or an empty one")
        if version != latest:
            raise StoreError(
                f"{self.name} has schema version {version}, this perdure has {latest}: start this perdure on it once"
                if version < latest
                else f"{self.name} has schema version {version}, this perdure knows up to {latest}: "
                "install a newer perdure"
            )

    async def tables(self) -> list[Table]:
        with self._told():
            connection = self._connected()
            names = [name for (name,) in connection.execute(_SQL["tables"].sql) if name not in OWN]
            return [self._table(connection, name) for name in names]

    def _table(self, connection: sqlite3.Connection, name: str) -> Table:
        columns = connection.execute(_SQL["columns"].sql, (name,)).fetchall()
        key = sorted((place, column) for column, place in columns if place)
        return Table(name, tuple(sorted(column for column, _ in columns)), tuple(column for _, column in key))

    async def has_rows(self, table: Table) -> bool:
        with self._told(table):
            return self._connected().execute(f'SELECT 1 FROM "{table.name}" LIMIT 1').fetchone() is not None

    async def rows(self, table: Table) -> AsyncGenerator[list[Row]]:
        sql = f'SELECT {_quoted(table.columns)} FROM "{table.name}" ORDER BY {_quoted(table.key)}'
        with self._told(table):
            cursor = await asyncio.to_thread(self._connected().execute, sql)
            while batch := await asyncio.to_thread(cursor.fetchmany, table.batch):
                yield batch

    async def write(self, table: Table, rows: list[Row]) -> None:
        marks = ", ".join("?" * len(table.columns))
        sql = f'INSERT INTO "{table.name}" ({_quoted(table.columns)}) VALUES ({marks})'
        with self._told(table):
            await asyncio.to_thread(self._execute, sql, rows)

    def _execute(self, sql: str, rows: list[Row]) -> None:
        # Closed here: a cursor that dies later, in another thread, would reset the statement under the next batch.
        with contextlib.closing(self._connected().cursor()) as cursor:
            cursor.executemany(sql, rows)

    async def finish(self) -> None:
        with self._told():
            await asyncio.to_thread(self._connected().commit)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self.name} is not open")
        return self._connection

    @contextlib.contextmanager
    def _told(self, table: Table | None = None) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            where = f"{self.name}, table {table.name}" if table else self.name
            raise StoreError(f"{where}: {error}") from error

    async def close(self) -> None:
        if self._connection is not None:
            # What is not committed goes with the connection.
            await asyncio.to_thread(self._connection.close)
            self._connection = None
        self._lock.release()


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)
