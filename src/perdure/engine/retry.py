"""When to try again: the protocol's backoff table, jitter, and what an error asks for (part C.6)."""

from __future__ import annotations

from perdure.model.limits import HOUR, MAX_RETRY_AFTER, MIN_RETRY_AFTER, MINUTE, SECOND

BACKOFF = (
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    20 * MINUTE,
    40 * MINUTE,
    HOUR,
    2 * HOUR,
)
JITTER = 30 * SECOND


def retry_delay(attempt: int, retry_after: int | None, chance: float, fixed: int | None = None) -> int:
    """How many ms to wait after the failure of this attempt (from 0).

    `retry_after` (ms, as the error asked) is clamped to 1 s ... 24 h, and a time already past retries at once;
    `fixed` replaces the table by one interval without jitter. `chance` in [0, 1) draws up to 30 s of jitter.

    >>> (
    ...     retry_delay(0, None, 0.0),
    ...     retry_delay(99, None, 0.0),
    ...     retry_delay(0, -5, 0.0),
    ...     retry_delay(0, 10, 0.0),
    ... )
    (15000, 7200000, 0, 1000)
    """
    if retry_after is not None:
        return 0 if retry_after <= 0 else min(max(retry_after, MIN_RETRY_AFTER), MAX_RETRY_AFTER)
    if fixed is not None:
        return fixed
    return BACKOFF[min(attempt, len(BACKOFF) - 1)] + int(chance * JITTER)
