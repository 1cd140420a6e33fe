"""Residences that wait in memory without a lease: so many of them, so long, and the rest is forgotten.

A run that leaves is replayed from its rows when it is woken; one that is known to sleep for long leaves at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from perdure.runner.residence import Residence

_STAY: Final = 10_000
"""How long a parked coroutine stays without being woken (ms): at least that, and less than twice that."""


class Parking:
    """At most `most` residences, the longest parked first to leave by `evict`, which removes them."""

    def __init__(self, most: int, evict: Callable[[Residence], None]) -> None:
        self.most = most
        self._evict = evict
        self._parked: OrderedDict[str, Residence] = OrderedDict()
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._parked)

    def add(self, resident: Residence, now: int) -> None:
        self._parked[resident.run_id] = resident
        if resident.idle and resident.wakes_at is not None and resident.wakes_at - now > _STAY:
            self._evict(resident)
        elif len(self._parked) > self.most:
            self._evict(next(iter(self._parked.values())))
        elif self._sweeping is None:
            self._sweep_later()

    def remove(self, run_id: str) -> None:
        """Harmless when it is not there."""
        self._parked.pop(run_id, None)

    def close(self) -> None:
        """Sweeps no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _sweep_later(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(_STAY / 1000, self._sweep)

    def _sweep(self) -> None:
        """Evicts what has been parked since the last sweep but one."""
        stale = [resident for resident in self._parked.values() if resident.stale]
        for resident in stale:
            self._evict(resident)
        for resident in self._parked.values():
            resident.stale = True
        self._sweeping = None
        if self._parked:
            self._sweep_later()
