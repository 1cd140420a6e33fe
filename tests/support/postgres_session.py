"""A session with PostgreSQL for tests that are not asynchronous: statements in text, rows out, nothing installed."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from perdure.model.json import Json

_INTEGERS = (20, 21, 23)
_BYTEA = 17


class PostgresSessionError(Exception):
    """The server refused a statement, or a session."""


class PostgresSession:
    """A session by the simple protocol, for a server that trusts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 5432), 30)
        names = f"user\0{parts.username}\0database\0{parts.path[1:]}\0\0"
        body = b"\x00\x03\x00\x00" + names.encode()
        self._socket.sendall((len(body) + 4).to_bytes(4, "big") + body)
        try:
            self._rows()
        except BaseException:
            self._socket.close()
            raise

    def execute(self, sql: str, params: tuple[Json, ...] = ()) -> list[tuple[Json, ...]]:
        """The rows of the last statement; each `?` stands for a parameter."""
        pieces = sql.split("?")
        text = pieces[0] + "".join(literal(value) + piece for value, piece in zip(params, pieces[1:], strict=True))
        query = text.encode() + b"\0"
        self._socket.sendall(b"Q" + (len(query) + 4).to_bytes(4, "big") + query)
        return self._rows()

    def close(self) -> None:
        self._socket.close()

    def _rows(self) -> list[tuple[Json, ...]]:
        types: list[int] = []
        rows: list[tuple[Json, ...]] = []
        problem: bytes | None = None
        while True:
            kind, length = self._read(1), int.from_bytes(self._read(4), "big")
            body = self._read(length - 4)
            if kind == b"T":
                types, rows = _types(body), []
            elif kind == b"D":
                rows.append(_row(body, types))
            elif kind == b"E":
                problem = body
                if b"SFATAL" in body:
                    break
            elif kind == b"Z":
                break
        if problem is not None:
            raise PostgresSessionError(problem.replace(b"\0", b" ").decode())
        return rows

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = self._socket.recv(count - len(found))
            if not more:
                raise PostgresSessionError("PostgreSQL hung up")
            found += more
        return found


def literal(value: Json) -> str:
    """A value as SQL has it."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _types(body: bytes) -> list[int]:
    found: list[int] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        at = body.index(b"\0", at) + 1
        found.append(int.from_bytes(body[at + 6 : at + 10], "big"))
        at += 18
    return found


def _row(body: bytes, types: list[int]) -> tuple[Json, ...]:
    values: list[Json] = []
    at = 2
    for kind in types:
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        text = body[at + 4 : at + 4 + max(length, 0)].decode()
        at += 4 + max(length, 0)
        if length < 0:
            values.append(None)
        elif kind in _INTEGERS:
            values.append(int(text))
        else:
            values.append(bytes.fromhex(text[2:]) if kind == _BYTEA else text)
    return tuple(values)
