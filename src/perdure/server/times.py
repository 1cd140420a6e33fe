"""Times in answers: those of the wire, and those that may not have come."""

from __future__ import annotations

from perdure.wire.times import rfc3339

__all__ = ["optional_rfc3339", "rfc3339"]


def optional_rfc3339(millis: int | None) -> str | None:
    """A time in ms since the epoch as the APIs write it, None for one that has not come."""
    return None if millis is None else rfc3339(millis)
