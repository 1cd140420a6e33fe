"""The places of a run's steps under the concurrency limits of its function.

A limit counts executing steps, not runs (D.1). A driver job that is leased holds a slot of each of its keys: the
place of one step. A second step of the same run, executing beside the first, takes slots of its own where there is
room, else it waits for a place of its run. So a run always gets on, and no limit is ever exceeded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine

from perdure.engine import flow
from perdure.engine.turn import Lease
from perdure.runner.decider import Decider


class Places:
    """The places that a run holds under one lease. `spawn` runs what nobody waits for."""

    def __init__(self, decider: Decider, spawn: Callable[[Coroutine[None, None, None]], None]) -> None:
        self._decider = decider
        self._spawn = spawn
        self._held = 1
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, lease: Lease) -> None:
        """Waits for the place of one more step. Raises `StoreError`."""
        if self._taken >= self._held and await self._more(lease):
            self._held += 1
        while self._taken >= self._held:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._call_next()
                raise
        self._taken += 1

    async def _more(self, lease: Lease) -> bool:
        return await self._decider.decide(lambda turn: flow.take_place(turn, lease, turn.ids()))

    def leave(self, lease: Lease | None) -> None:
        """A step has ended."""
        self._taken -= 1
        if not self._call_next() and self._held > max(self._taken, 1) and lease is not None:
            self._held -= 1
            self._spawn(self._give(lease))

    async def _give(self, lease: Lease) -> None:
        await self._decider.decide(lambda turn: flow.give_place(turn, lease))

    def _call_next(self) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False
