"""What the server needs of a node, as a protocol: the node puts parts together, so it stands above the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from perdure.engine.catalogue import Catalogue
from perdure.engine.turn import Decision
from perdure.engine.views import Health
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.runner import Clock

T = TypeVar("T")


class Accepted(Protocol):
    """Events that were stored: their internal ids, in the order in which they came."""

    @property
    def event_ids(self) -> list[str]: ...


class Backend(Protocol):
    """A running node, as far as the server knows it. Each method may raise `StoreError`."""

    @property
    def clock(self) -> Clock:
        """The time of the node."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """The functions in force."""
        ...

    @property
    def load(self) -> tuple[int, int]:
        """How many runs execute, and how many are parked in memory."""
        ...

    async def ingest(self, bodies: Sequence[Json], *, seed: tuple[int, bytes] | None = None) -> Accepted:
        """Stores events, all or none. Raises `EventError`."""
        ...

    async def cancel(self, run_id: str) -> RunStatus:
        """Cancels a run; returns the status it had. Raises `NotFoundError`."""
        ...

    async def cancel_many(
        self,
        function_id: str,
        *,
        started_after: int | None = None,
        started_before: int | None = None,
        if_: str | None = None,
    ) -> int:
        """Cancels runs of a function; returns how many. Raises `ExpressionError`."""
        ...

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        """Answers a question of `perdure.engine.views` or `reads`."""
        ...

    async def health(self) -> Health:
        """Counts, and what should not be there."""
        ...
