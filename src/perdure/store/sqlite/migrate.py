"""Schema versions: `PRAGMA user_version` counts the migrations that a file has seen.

A new file gets schema.sql; an older one the numbered migrations that it lacks, each in a transaction. A test
holds both ways to the same schema. A file of a newer perdure is refused.
"""

from __future__ import annotations

import re
import sqlite3
from importlib import resources

from perdure.model.errors import StoreError

_FILES = resources.files("perdure.store.sqlite")


def schema() -> str:
    """The current schema as SQL."""
    return (_FILES / "schema.sql").read_text()


def migrations() -> list[tuple[int, str]]:
    """The migrations as (version, SQL), in order."""
    found: list[tuple[int, str]] = []
    for entry in (_FILES / "migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", entry.name)
        if match:
            found.append((int(match.group(1)), entry.read_text()))
    return sorted(found)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings an open database to the current schema; raises `StoreError` when it is newer than this program."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    steps = migrations()
    latest = steps[-1][0]
    if is_foreign(connection, version):
        raise StoreError("the file is an SQLite database of another program: choose another file")
    if version > latest:
        raise StoreError(
            f"the database has schema version {version}, this perdure knows up to {latest}: install a newer perdure"
        )
    if version == 0:
        steps = [(latest, schema())]
    for number, sql in steps:
        if number > version:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")


def is_foreign(connection: sqlite3.Connection, version: int) -> bool:
    """Whether the tables are those of another program, which may number its schema in the same place."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return bool(tables) and (version == 0 or not tables >= {"run", "job"})
