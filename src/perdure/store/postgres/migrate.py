"""Schema versions: `perdure.schema_version` has the migrations that the database has seen.

A migration has up to two parts. What "pre" does, nodes of the version before bear (it adds); it is done by the first
node of the new version that starts. "post" (it removes) is done by a start that finds no older node alive. So a
cluster is upgraded node by node, also over several versions: a "post" that has to wait holds up no later "pre", so
none may rest on what an earlier "post" does. All of it is under an advisory lock: several nodes may start at once.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from perdure.model.errors import StoreError
from perdure.store.postgres.statements import QUERIES

if TYPE_CHECKING:
    from asyncpg import Connection

_FILES = resources.files("perdure.store.postgres")
_NAME = re.compile(r"(\d{4})_\w+\.(pre|post)\.sql")
Part: TypeAlias = Literal["pre", "post"]


class Migration(NamedTuple):
    """One part of a migration."""

    version: int
    part: Part
    sql: str


def migrations() -> list[Migration]:
    """All parts in the order of their versions, "post" before what the next version does."""
    found: list[Migration] = []
    for entry in (_FILES / "migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is not None:
            found.append(
                Migration(int(match.group(1)), "pre" if match.group(2) == "pre" else "post", entry.read_text())
            )
    return sorted(found, key=lambda migration: (migration.version, migration.part == "post"))


def latest() -> int:
    """The schema version of this program."""
    return max(migration.version for migration in migrations())


async def migrate(connection: Connection[Any]) -> int:
    """Brings a database to this program's schema; raises `StoreError` when it is newer. Gives back its version."""
    async with connection.transaction():
        await connection.execute(QUERIES["lock_versions"].sql)
        await connection.execute(QUERIES["create_versions"].sql)
        done = {(row[0], row[1]) for row in await connection.fetch(QUERIES["versions"].sql)}
        version = max((version for version, _ in done), default=0)
        known = migrations()
        if version > known[-1].version:
            # What a newer version adds does no harm; what it has removed would be missed.
            if any(part == "post" and number > known[-1].version for number, part in done):
                raise StoreError(
                    f"the database has schema version {version}, this perdure knows up to {known[-1].version}: "
                    "install a newer perdure"
                )
            return version
        for migration in known:
            if (migration.version, migration.part) in done:
                continue
            if migration.part == "post" and await _older_alive(connection, migration.version):
                continue
            await connection.execute(migration.sql)
            await connection.execute(QUERIES["put_version"].sql, migration.version, migration.part)
    return max(version, known[-1].version)


async def _older_alive(connection: Connection[Any], version: int) -> bool:
    """Whether a node that knows only versions before this one has written in the last minutes."""
    found: bool = await connection.fetchval(QUERIES["older_alive"].sql, version)
    return found
