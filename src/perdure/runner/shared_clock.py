"""Nodes that share a database go by its clock: timers, throttles and schedules mean the same to all of them."""

from __future__ import annotations

import time
from typing import Final

from perdure.runner.clock import Clock, SystemClock
from perdure.store.protocol import Store

_TOLERANCE: Final = 20
"""Milliseconds by which clocks may differ without being set: less is noise of the question."""


async def set_by(store: Store, clock: Clock) -> None:
    """Sets the system's clock by the store's, as exactly as one question and its answer allow. Raises `StoreError`.

    A clock that is not the system's is somebody else's to set.
    """
    if not isinstance(clock, SystemClock):
        return
    before = time.time_ns() // 1_000_000
    told = await store.time()
    if told is not None:
        offset = told - (before + time.time_ns() // 1_000_000) // 2
        if abs(offset - clock.offset) > _TOLERANCE:
            clock.offset = offset
