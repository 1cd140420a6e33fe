"""Large payloads: over 32 KiB they are kept once, by SHA-256, and rows hold a reference.

A reference is a zero byte, which no JSON begins with, and the 32 bytes of the hash. `blob_use` says which runs and
events refer to a blob, so that retention can drop it with its last owner.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from perdure.model.limits import BLOB_THRESHOLD
from perdure.store.postgres.statements import QUERIES

if TYPE_CHECKING:
    from asyncpg import Connection

_REFERENCE_LENGTH: Final = 33


class Blobs:
    """The large payloads of a transaction that are not written yet."""

    def __init__(self) -> None:
        self._data: dict[bytes, bytes] = {}
        self._uses: set[tuple[str, bytes]] = set()

    def pack(self, owner: str, payload: bytes) -> bytes:
        """The payload, or a reference to what it will be a blob of its owner under."""
        if len(payload) <= BLOB_THRESHOLD:
            return payload
        digest = hashlib.sha256(payload).digest()
        self._data[digest] = payload
        self._uses.add((owner, digest))
        return b"\0" + digest

    async def flush(self, connection: Connection[Any]) -> None:
        if self._data:
            await connection.execute(QUERIES["put_blobs"].sql, list(self._data), list(self._data.values()))
            owners, digests = zip(*sorted(self._uses), strict=True)
            await connection.execute(QUERIES["put_blob_uses"].sql, owners, digests)
            self._data, self._uses = {}, set()


async def unpack(connection: Connection[Any], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows with references replaced by what they refer to."""
    digests = {value[1:] for row in rows for value in row if _refers(value)}
    if not digests:
        return rows
    found: dict[bytes, bytes] = dict(await connection.fetch(QUERIES["blobs"].sql, list(digests)))
    return [tuple([found.get(value[1:], b"null") if _refers(value) else value for value in row]) for row in rows]


def _refers(value: object) -> bool:
    return type(value) is bytes and len(value) == _REFERENCE_LENGTH and value[0] == 0
