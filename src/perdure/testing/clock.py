"""A clock that moves only when told, and then through every deadline on the way, in order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable
from datetime import datetime

from perdure.model.config import Duration
from perdure.model.durations import parse_duration

START = 1_800_000_000_000
"""Where virtual clocks begin unless told otherwise (ms): a fixed day, so that tests repeat exactly."""


class VirtualTimer:
    """A callback of a virtual clock."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """Time under the test's control; a `Clock` for `embedded(app, db=":memory:", clock=...)`.

    `advance` and `jump_to` stop at each deadline, let everything that it sets in motion come to rest, and go on:
    a sleep of 30 days takes milliseconds, and nothing happens out of order.

    >>> clock = VirtualClock(start=1000)
    >>> clock.now()
    1000
    """

    def __init__(self, start: int | datetime = START) -> None:
        self._now = start if isinstance(start, int) else int(start.timestamp() * 1000)
        self._timers: list[tuple[int, int, VirtualTimer]] = []
        self._order = itertools.count()
        self._settlers: list[Callable[[], Awaitable[None]]] = []

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self._now

    def call_at(self, at: int, callback: Callable[[], None]) -> VirtualTimer:
        """Calls back when the clock is moved to `at`; at once if it is there already."""
        timer = VirtualTimer(callback)
        if at <= self._now:
            callback()
        else:
            heapq.heappush(self._timers, (at, next(self._order), timer))
        return timer

    def attach(self, settle: Callable[[], Awaitable[None]]) -> None:
        """Names something that must come to rest before time goes on. A node attaches itself."""
        self._settlers.append(settle)

    def detach(self, settle: Callable[[], Awaitable[None]]) -> None:
        self._settlers.remove(settle)

    async def advance(self, duration: Duration) -> None:
        """Moves the clock on by a duration ("1h", seconds, timedelta)."""
        await self.jump_to(self._now + parse_duration(duration))

    async def jump_to(self, at: int) -> None:
        """Moves the clock to a time (ms), through every deadline up to it. Never backwards."""
        await self._settle()
        while self._timers and self._timers[0][0] <= at:
            due_at, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                self._now = max(self._now, due_at)
                timer.callback()
                await self._settle()
        self._now = max(self._now, at)
        await self._settle()

    async def _settle(self) -> None:
        for settle in tuple(self._settlers):
            await settle()
