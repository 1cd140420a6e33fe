"""Runs decisions against the store with everything a turn needs, and passes their effects on after the commit."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

from perdure.engine import drive
from perdure.engine.catalogue import Catalogue
from perdure.engine.turn import Decision, Effect, Offer, Turn
from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.runner.clock import Clock
from perdure.store.protocol import Store

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger("perdure.runner")


class _Begin:
    """Begins a decision, as often as the store has to try it: each try has a turn, and effects, of its own.

    A class rather than a closure, because one is made for every commit.
    """

    __slots__ = ("_args", "_decider", "_kwargs", "_make", "effects")

    def __init__(
        self, decider: Decider, make: Callable[..., Decision[Json]], args: tuple[Json, ...], kwargs: dict[str, Json]
    ) -> None:
        self._decider = decider
        self._make = make
        self._args = args
        self._kwargs = kwargs
        self.effects: list[Effect] = []

    def __call__(self) -> Decision[Json]:
        turn = self._decider.turn()
        self.effects = turn.effects
        return self._make(turn, *self._args, **self._kwargs)


class Decider:
    """Where time, ids, chance and the node's name come from for every decision of this process.

    `room` says how many more runs the node would take right now, `runnable` whether it has a function's code,
    `pool_of` a pool that a function's runs share, with its room, and `refused` hears of a run that found none there;
    all are asked in the store's thread. `on_effect` is called in the event loop.
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
        self.fixed_retry = fixed_retry
        # Tokens tell leases apart, those of different nodes too.
        first = 0 if store.exclusive else int.from_bytes(hashlib.sha256(self.node.encode()).digest()[:4], "big") << 24
        self._tokens = itertools.count(first + 1).__next__
        self.room: Callable[[], int] = lambda: 0
        self.runnable: Callable[[str], bool] = lambda _: False
        self.pool_of: Callable[[str], tuple[str, int] | None] = lambda _: None
        self.refused: Callable[[str], None] = lambda _: None
        self.on_effect: Callable[[Effect], None] = lambda _: None

    def turn(self) -> Turn:
        offer = Offer(self.node, self._tokens, self.room(), self.runnable, self.pool_of, self.refused)
        return Turn(self.clock.now(), self.ids, self._chance, self.catalogue, offer, self.fixed_retry)

    async def decide(self, make: Callable[Concatenate[Turn, P], Decision[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Makes the decision `make(turn, ...)` durable, then lets its effects happen. Raises `StoreError`."""
        begin = _Begin(self, make, args, kwargs)
        self.deciding += 1
        try:
            result: T = await self.store.submit(begin)
        except asyncio.CancelledError:
            # Who asked is gone, but what was submitted is committed all the same: its effects must not be lost.
            if not self._retired:
                confirming = asyncio.get_running_loop().create_task(self._confirm(begin))
                self._confirming.add(confirming)
                confirming.add_done_callback(self._confirming.discard)
            raise
        finally:
            self.deciding -= 1
        for effect in begin.effects:
            self.on_effect(effect)
        return result

    def retire(self) -> None:
        """The node has handed everything back: what follows from its decisions is up to others."""
        self._retired = True
        self.on_effect = lambda _: None

    async def _confirm(self, begin: _Begin) -> None:
        """Lets the effects of an abandoned decision happen, if it was committed: later decisions can tell."""
        self.deciding += 1
        try:
            effects = await self.store.submit(lambda: drive.confirm(begin.effects))
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
