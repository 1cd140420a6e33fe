"""Time as a port: what the runner asks of a clock, and the system's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

_LONGEST_WAIT = 5_000
"""No timer sleeps longer at a stretch, so that a changed wall clock or a suspended machine is noticed soon (ms)."""


class Timer(Protocol):
    """A callback that is due later."""

    def cancel(self) -> None:
        """Forgets the callback; harmless once it was called."""
        ...


class Clock(Protocol):
    """Tells the time and calls back at a time."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def call_at(self, at: int, callback: Callable[[], None]) -> Timer:
        """Calls back in the running loop at a time (ms since the epoch), or soon after; at once if it is past."""
        ...


class SystemClock:
    """The wall clock, or that of the database that several nodes share: `offset` (ms) is how far that is ahead."""

    def __init__(self) -> None:
        self.offset = 0

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset

    def call_at(self, at: int, callback: Callable[[], None]) -> Timer:
        return _SystemTimer(self, at, callback)


class _SystemTimer:
    def __init__(self, clock: SystemClock, at: int, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._at = at
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._handle = self._arm()

    def _arm(self) -> asyncio.TimerHandle:
        left = max(0, self._at - self._clock.now())
        return self._loop.call_later(min(left, _LONGEST_WAIT) / 1000, self._ring)

    def _ring(self) -> None:
        if self._clock.now() >= self._at:
            self._callback()
        else:
            self._handle = self._arm()

    def cancel(self) -> None:
        self._handle.cancel()
