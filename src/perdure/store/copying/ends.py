"""What a copy needs of the two databases at its ends: rows as they are stored, table by table.

An end is held from `open` to `close`: nobody else can write to it, and what was written to it is there only after
`finish`. Tables that belong to one process or one kind of database (`OWN`) are no part of a copy.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, NamedTuple, Protocol, TypeAlias

Row: TypeAlias = "tuple[str | int | float | bytes | None, ...]"

OWN: Final = frozenset({"node", "writer", "schema_version", "pause_name"})
"""Processes that are alive, the count of their transactions, the schema's version, and an index made by perdure."""

_MANY: Final = 200
_FEW: Final = 8
_LARGE: Final = frozenset({"blob", "chunk"})
"""Tables whose rows may have megabytes."""


class Table(NamedTuple):
    """A table: its columns in the order of their names, and those of its primary key."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def batch(self) -> int:
        """How many rows are in memory at once."""
        return _FEW if self.name in _LARGE else _MANY


class End(Protocol):
    """A database at one end of a copy. Every method raises `StoreError`."""

    name: str
    """As it may be shown."""

    async def open(self, *, empty: bool) -> None:
        """Takes hold of it: of one with perdure's schema, or, if it has to be `empty`, of one that gets it."""
        ...

    async def tables(self) -> list[Table]:
        """All tables of a copy, by name."""
        ...

    async def has_rows(self, table: Table) -> bool: ...

    def rows(self, table: Table) -> AsyncGenerator[list[Row]]:
        """All rows in batches, in the order of their keys, which is that of the keys' bytes."""
        ...

    async def write(self, table: Table, rows: list[Row]) -> None: ...

    async def finish(self) -> None:
        """Makes what was written durable."""
        ...

    async def close(self) -> None:
        """Lets go of it, without what was written if it is not finished."""
        ...
