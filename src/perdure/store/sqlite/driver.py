"""Drives decisions on one SQLite connection: answers their reads, applies their mutations, in their order."""

from __future__ import annotations

import sqlite3
from importlib import resources
from typing import Any, TypeVar

import msgspec

from perdure.engine.mutations import PAYLOADS, Mutation
from perdure.engine.turn import Decision, Read
from perdure.store.sqlite.blobs import pack, unpack
from perdure.store.statements import Statement, parse_statements, statement_name

T = TypeVar("T")

STATEMENTS: dict[str, Statement] = parse_statements(
    (resources.files("perdure.store.sqlite") / "statements.sql").read_text()
)


class _Write:
    """How a kind of mutation is written: its SQL, and where its owner and payloads stand among the parameters."""

    __slots__ = ("owner", "payloads", "sql")

    def __init__(self, kind: type[Mutation]) -> None:
        self.sql = STATEMENTS[statement_name(kind)].sql
        fields = kind.__struct_fields__
        owner, payloads = PAYLOADS.get(kind, ("", ()))
        self.owner = fields.index(owner) if owner else -1
        self.payloads = [fields.index(name) for name in payloads]


_WRITES: dict[type[Mutation], _Write] = {kind: _Write(kind) for kind in Mutation.__subclasses__()}


def drive(cursor: sqlite3.Cursor, decision: Decision[T]) -> T:
    """Runs a decision to its end inside the transaction that is open; returns its result."""
    try:
        item = next(decision)
        while True:
            if type(item) is Read:
                item = decision.send(_rows(cursor, item))
            else:
                _apply(cursor, item)  # type: ignore[arg-type]
                item = next(decision)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _rows(cursor: sqlite3.Cursor, read: Read) -> list[tuple[Any, ...]]:
    statement = STATEMENTS[read.name]
    rows: list[tuple[Any, ...]] = cursor.execute(statement.sql, read.params).fetchall()
    if statement.payload:
        return [unpack(cursor, row) for row in rows]
    return rows


def _apply(cursor: sqlite3.Cursor, mutation: Mutation) -> None:
    write = _WRITES[type(mutation)]
    params: tuple[Any, ...] = msgspec.structs.astuple(mutation)
    if write.payloads:
        for position in write.payloads:
            payload = params[position]
            if payload is not None and len(payload) > 32768:
                packed = list(params)
                for each in write.payloads:
                    if packed[each] is not None:
                        packed[each] = pack(cursor, params[write.owner], packed[each])
                params = tuple(packed)
                break
    cursor.execute(write.sql, params)
