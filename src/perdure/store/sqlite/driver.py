"""Executes the statements of decisions on one SQLite connection: answers reads, applies mutations."""

from __future__ import annotations

import re
import sqlite3
from importlib import resources
from typing import Any, TypeVar

import msgspec

from perdure.engine.kinds import KINDS
from perdure.engine.mutations import PAYLOADS, Mutation
from perdure.engine.turn import Decision, Read
from perdure.model.limits import BLOB_THRESHOLD
from perdure.store.sqlite.blobs import pack, unpack
from perdure.store.statements import Statement, parse_statements, statement_name

T = TypeVar("T")

_FILES = resources.files("perdure.store.sqlite")
STATEMENTS: dict[str, Statement] = parse_statements(
    "\n".join((_FILES / name).read_text() for name in ("statements.sql", "agents.sql", "stored.sql"))
)

_CHUNKS = (64, 16, 4, 1)
_ROW = re.compile(r"VALUES (\([?, ]+\))")


class Write:
    """How a kind of mutation is written: its SQL, and where its owner and payloads stand among the parameters."""

    __slots__ = ("chunks", "owner", "payloads", "sql", "statement")

    def __init__(self, kind: type[Mutation]) -> None:
        self.statement = STATEMENTS[statement_name(kind)]
        self.sql = self.statement.sql
        fields = kind.__struct_fields__
        owner, payloads = PAYLOADS.get(kind, ("", ()))
        self.owner = fields.index(owner) if owner else -1
        self.payloads = [fields.index(name) for name in payloads]
        row = _ROW.search(self.sql)
        self.chunks: dict[int, str] = {}
        if row is not None:
            before, after = self.sql[: row.start(1)], self.sql[row.end(1) :]
            self.chunks = {size: before + ", ".join([row.group(1)] * size) + after for size in _CHUNKS}

    def is_large(self, params: tuple[Any, ...]) -> bool:
        """Whether a payload has to become a blob."""
        for position in self.payloads:
            if params[position] is not None and len(params[position]) > BLOB_THRESHOLD:
                return True
        return False


WRITES: dict[type[Mutation], Write] = {kind: Write(kind) for kind in KINDS}


def drive(cursor: sqlite3.Cursor, decision: Decision[T]) -> T:
    """Runs one decision to its end inside the transaction that is open; returns its result."""
    try:
        item = next(decision)
        while True:
            answer = rows(cursor, item) if isinstance(item, Read) else apply(cursor, item)
            item = decision.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


def rows(cursor: sqlite3.Cursor, read: Read) -> list[tuple[Any, ...]]:
    """The rows of a read, blobs included."""
    statement = STATEMENTS[read.name]
    found: list[tuple[Any, ...]] = cursor.execute(statement.sql, statement.bind(read.params)).fetchall()
    if statement.payload:
        return [unpack(cursor, row) for row in found]
    return found


def apply(cursor: sqlite3.Cursor, mutation: Mutation) -> int:
    """Applies one mutation; returns how many rows it changed."""
    write = WRITES[type(mutation)]
    params: tuple[Any, ...] = msgspec.structs.astuple(mutation)
    if write.payloads and write.is_large(params):
        packed = list(params)
        for position in write.payloads:
            if packed[position] is not None:
                packed[position] = pack(cursor, params[write.owner], packed[position])
        params = tuple(packed)
    return cursor.execute(write.sql, write.statement.bind(params)).rowcount


def apply_all(cursor: sqlite3.Cursor, kind: type[Mutation], given: list[tuple[Any, ...]]) -> int:
    """Applies mutations of one kind, without large payloads, in few statements; returns how many rows changed."""
    write = WRITES[kind]
    changed, done = 0, 0
    while done < len(given):
        size = next(size for size in _CHUNKS if size <= len(given) - done)
        params = [value for row in given[done : done + size] for value in row]
        changed += cursor.execute(write.chunks[size], params).rowcount
        done += size
    return changed
