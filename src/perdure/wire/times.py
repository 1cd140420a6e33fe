"""Times on the wire: RFC 3339 in UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(millis: int) -> str:
    """A time in ms since the epoch as the protocol writes it.

    >>> rfc3339(1795331573897)
    '2026-11-22T07:12:53.897Z'
    """
    seconds, rest = divmod(millis, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
