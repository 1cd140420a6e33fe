"""Runs decisions against the store with everything a turn needs, and passes their effects on after the commit."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from perdure.engine import drive
from perdure.engine.catalogue import Catalogue
from perdure.engine.turn import Decision, Effect, Offer, Turn
from perdure.model.errors import StoreError
from perdure.runner.clock import Clock
from perdure.store.protocol import Store

T = TypeVar("T")
_log = logging.getLogger("perdure.runner")


class Decider:
    """Where time, ids, chance and the node's name come from for every decision of this process.

    `room` says how many more runs the node would take right now, `runnable` whether it has a function's code;
    both are asked in the store's thread. `on_effect` is called in the event loop.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Callable[[], str],
        chance: Callable[[], float],
        *,
        fixed_retry: int | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.catalogue = Catalogue()
        self.node = ids()
        self.deciding = 0
        self._confirming: set[asyncio.Task[None]] = set()
        self._retired = False
        self._chance = chance
        self._fixed_retry = fixed_retry
        self._tokens = itertools.count(1).__next__
        self.room: Callable[[], int] = lambda: 0
        self.runnable: Callable[[str], bool] = lambda _: False
        self.on_effect: Callable[[Effect], None] = lambda _: None

    def turn(self) -> Turn:
        offer = Offer(self.node, self._tokens, self.room(), self.runnable)
        return Turn(self.clock.now(), self.ids, self._chance, self.catalogue, offer, self._fixed_retry)

    async def decide(self, make: Callable[[Turn], Decision[T]]) -> T:
        """Makes a decision durable, then lets its effects happen. Raises `StoreError`."""
        turns: list[Turn] = []

        def begin() -> Decision[T]:
            # A decision that is tried again must not keep the effects of the try that failed.
            turns[:] = [self.turn()]
            return make(turns[0])

        self.deciding += 1
        try:
            result = await self.store.submit(begin)
        except asyncio.CancelledError:
            # Who asked is gone, but what was submitted is committed all the same: its effects must not be lost.
            if not self._retired:
                confirming = asyncio.get_running_loop().create_task(self._confirm(turns))
                self._confirming.add(confirming)
                confirming.add_done_callback(self._confirming.discard)
            raise
        finally:
            self.deciding -= 1
        for effect in turns[0].effects:
            self.on_effect(effect)
        return result

    def retire(self) -> None:
        """The node has handed everything back: what follows from its decisions is up to others."""
        self._retired = True
        self.on_effect = lambda _: None

    async def _confirm(self, turns: list[Turn]) -> None:
        """Lets the effects of an abandoned decision happen, if it was committed: later decisions can tell."""
        self.deciding += 1
        try:
            effects = await self.store.submit(lambda: drive.confirm(turns[0].effects if turns else []))
        except StoreError as error:
            if not self._retired:
                _log.error("the effects of an abandoned request wait for the next start: %s", error)
            return
        finally:
            self.deciding -= 1
        for effect in effects:
            self.on_effect(effect)

    def commit(self, begin: Callable[[], Decision[T]]) -> Awaitable[T]:
        """A decision that needs no turn and has no effects."""
        return self.store.submit(begin)

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        """Reads what is committed."""
        self.deciding += 1
        try:
            return await self.store.view(begin)
        finally:
            self.deciding -= 1
