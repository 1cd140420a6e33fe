"""Large payloads: over 32 KiB they are kept once, by SHA-256, and rows hold a reference.

A reference is a zero byte, which no JSON begins with, and the 32 bytes of the hash. `blob_use` says which runs and
events refer to a blob, so that retention can drop it with its last owner.
"""

from __future__ import annotations

import hashlib
import sqlite3

from perdure.model.limits import BLOB_THRESHOLD

_REFERENCE_LENGTH = 33


def pack(cursor: sqlite3.Cursor, owner: str, payload: bytes) -> bytes:
    """The payload, or a reference to it once it is stored as a blob of its owner."""
    if len(payload) <= BLOB_THRESHOLD:
        return payload
    digest = hashlib.sha256(payload).digest()
    cursor.execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", (digest, payload))
    cursor.execute("INSERT OR IGNORE INTO blob_use VALUES (?, ?)", (owner, digest))
    return b"\0" + digest


def unpack(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> tuple[object, ...]:
    """The row with references replaced by what they refer to."""
    for value in row:
        if type(value) is bytes and len(value) == _REFERENCE_LENGTH and value[0] == 0:
            break
    else:
        return row
    return tuple(_load(cursor, value) for value in row)


def _load(cursor: sqlite3.Cursor, value: object) -> object:
    if type(value) is bytes and len(value) == _REFERENCE_LENGTH and value[0] == 0:
        found = cursor.execute("SELECT data FROM blob WHERE hash = ?", (value[1:],)).fetchone()
        return found[0] if found else b"null"
    return value
