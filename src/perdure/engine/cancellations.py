"""What is remembered of cancellations in bulk: a row says which runs they chose, and how many there were."""

from __future__ import annotations

import msgspec

from perdure.engine.mutations import DeleteCancellation, PutCancellation
from perdure.engine.turn import Decision, Read, Turn
from perdure.model.records import Cancellation

_AFTER_ALL = "~"


def record(turn: Turn, cancellation: Cancellation) -> Decision[None]:
    """Remembers a cancellation."""
    del turn
    yield PutCancellation(*msgspec.structs.astuple(cancellation))


def forget(turn: Turn, cancellation_id: str) -> Decision[bool]:
    """Forgets a cancellation; False when there is none of that id. The runs that it cancelled stay so."""
    del turn
    rows = yield Read("cancellation_by_id", (cancellation_id,))
    if not rows:
        return False
    yield DeleteCancellation(cancellation_id)
    return True


def listed(limit: int, cursor: str | None = None) -> Decision[list[Cancellation]]:
    """Cancellations, newest first; `cursor` is the id of the last one seen."""
    rows = yield Read("cancellations", (cursor or _AFTER_ALL, limit))
    return [Cancellation(*row) for row in rows]
