"""What the rest of perdure needs of a store: one protocol, so that another database is another room.

A store drives decisions (see `perdure.engine`): all reads and mutations of one decision happen in one transaction,
decisions that arrive together are committed together, and a result is handed out only after its commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol, TypeVar

from perdure.engine.turn import Decision

T = TypeVar("T")

EVERYTHING: Final = "everything"
"""The news that there may be news which were not heard."""


class Store(Protocol):
    """A durable memory. `exclusive` says that this process is the only one that can write to it."""

    exclusive: bool
    submitted: int
    """How many decisions this process has handed to it: while that stays, this process has changed nothing."""

    async def open(self) -> None:
        """Makes the store ready: locks, connects, migrates. Raises `StoreLockedError`, `StoreError`."""
        ...

    def submit(self, begin: Callable[[], Decision[T]]) -> Awaitable[T]:
        """Runs a decision in a transaction and returns its result after the commit.

        `begin` makes the decision anew each time it has to be tried. Raises what the decision raises, and
        `StoreError` when the database refuses; then nothing of the decision is kept.
        """
        ...

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        """Runs a decision that only reads, on what is committed."""
        ...

    async def time(self) -> int | None:
        """The time (ms) that all nodes go by; None where there is only one."""
        ...

    def listen(self, heard: Callable[[str], None], told: Callable[[Iterable[str]], None]) -> None:
        """Calls back in the event loop, until it is closed: `heard` with what other nodes tell (see
        `runner.neighbours`), `told` with what this one has told them by a commit."""
        ...

    async def join_bus(self, node: str, bus: str | None) -> bool:
        """Notes which bus a node hears, if any: while all hear the same, what is committed is told by `told` alone.
        Answers whether all do. Raises `StoreError`."""
        ...

    async def identity(self) -> str:
        """What tells this database from others on the same bus, copies of it too. Raises `StoreError`."""
        ...

    def tell(self, news: str) -> None:
        """Tells the other nodes, which may miss it."""
        ...

    async def close(self) -> None:
        """Finishes what was submitted and releases the store."""
        ...
