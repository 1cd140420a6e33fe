"""What the runner keeps while a run executes in this process, whatever executes it.

A `Code` is how a function is run: its handler in this process, or calls of an app on another server. It makes a
`Residence` for a run that this node was leased; the residence drives the run, and tells its `Keeper` when it parks
and when it is over. Whatever is lost here is in the store. Invariants:
- nothing is recorded without the lease, and what is refused as stale ends the residence at once;
- the store refusing, or a defect, hands the run back: another residence goes on from what is recorded. After a defect
  that is not at once, or one that comes back would be met again and again without a pause.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from perdure.engine import drive
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.turn import Decided, Decision, Lease, Start, Turn
from perdure.model.errors import StoreError
from perdure.model.event import Event
from perdure.model.ops import Op
from perdure.model.records import Run, Step
from perdure.runner.decider import Decider
from perdure.runner.streams import Streams
from perdure.sdk.port import FetchRequest, FetchResponse

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger("perdure.runner")
FAREWELL = 1.0
"""How long what was cancelled has for its `finally` blocks when the process ends (seconds)."""


class Keeper(Protocol):
    """What a residence needs of the runner that keeps it."""

    decider: Decider
    streams: Streams

    def parked(self, resident: Residence) -> None:
        """The lease went back; the run waits until `resident.wakes_at` (ms), if that is known."""
        ...

    def left(self, resident: Residence) -> None:
        """The residence is over."""
        ...

    async def in_thread(self, call: Callable[[], T]) -> T: ...

    def fetch(self, request: FetchRequest) -> Awaitable[FetchResponse]: ...


class Code(Protocol):
    """How the runs of one function are driven. Equal codes do the same: replacing one by the other changes nothing."""

    @property
    def id(self) -> str:
        """The function's id."""
        ...

    @property
    def pool(self) -> str | None:
        """The pool of places that its runs share with others (see `Pools`); None for those of the runner itself."""
        ...

    def reside(self, keeper: Keeper, start: Start, compiled: CompiledFunction) -> Residence:
        """A residence for a run that was leased; it waits for `begin`."""
        ...


class Residence(ABC):
    """One run in residence. `lease` is None while it is parked, `wakes_at` (ms) is when it wakes, if that is known.

    `defective`: it ended with an exception that nobody expected.
    """

    def __init__(self, keeper: Keeper, code: Code, start: Start, compiled: CompiledFunction) -> None:
        self.run_id = start.run_id
        self.code = code
        self.lease: Lease | None = start.lease
        self._token = start.lease.token
        self.wakes_at: int | None = None
        self.ending = False
        self.defective = False
        self.stale = False
        self._keeper = keeper
        self._decider = keeper.decider
        self._attempt = start.attempt
        self._max_attempts = compiled.max_attempts
        # Until something waits or fails.
        self._plain = start.plain
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._draining = False
        self._regaining: asyncio.Future[None] | None = None

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether it was given what is recorded of its run."""

    @property
    def executing(self) -> Sequence[Op]:
        """The steps that execute here at this moment, as far as that is known: apps on other servers do not tell."""
        return ()

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether, parked, it surely does nothing but wait."""

    @abstractmethod
    def begin(self, run: Run, events: list[Event], steps: list[Step]) -> None:
        """Starts to drive the run from what is recorded."""

    def was_driven_last(self, start: Start) -> bool:
        """Whether nobody else has driven the run since this residence did."""
        return start.previous in (0, self._token)

    @abstractmethod
    def resume(self, start: Start) -> None:
        """The lease is back."""

    @abstractmethod
    def wake(self, decided: Decided) -> None:
        """A step of the run was decided."""

    @abstractmethod
    def refresh(self) -> None:
        """Something of the run was decided by another node."""

    @abstractmethod
    def drain(self) -> None:
        """Leaves as soon as nothing of the run executes; what is recorded by then is kept, the rest is replayed."""

    def hush(self) -> None:
        """Says no more in the run's stream: the residence is over."""
        return

    def stop(self) -> None:
        """Ends the residence without recording anything: the run was cancelled, evicted, or leased elsewhere."""
        self._leaving = True
        for task in tuple(self._tasks):
            task.cancel()

    async def stopped(self) -> None:
        """Waits, not for ever, until nothing of it is left."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=FAREWELL)

    async def _regain(self) -> Lease:
        """Waits until the parked run is leased to this node again."""
        while self.lease is None:
            if self._regaining is None:
                self._regaining = self._loop.create_future()
                await self._decider.decide(drive.unpark, self.run_id)
            if self.lease is None:
                await asyncio.shield(self._regaining)
        return self.lease

    def _regained(self, lease: Lease) -> None:
        self.lease = lease
        self._token = lease.token
        self.stale = False
        if self._regaining is not None:
            if not self._regaining.done():
                self._regaining.set_result(None)
            self._regaining = None

    async def _end(
        self, make: Callable[Concatenate[Turn, Lease, P], Decision[bool]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Makes the decision that ends the run, or its attempt, and leaves."""
        self.ending = True
        try:
            lease = self.lease or await self._regain()
            kept = await self._decider.decide(make, lease, *args, **kwargs)
            while not kept and self.lease is not lease and not self._leaving:
                # It was parked while this was on its way, for the guess was wrong that it would wait.
                lease = self.lease or await self._regain()
                kept = await self._decider.decide(make, lease, *args, **kwargs)
            self.lease = None
        except StoreError as error:
            self._give_up(error)
        except asyncio.CancelledError:
            if not self._leaving:
                raise
        self._keeper.left(self)

    def _give_up(self, error: StoreError) -> None:
        """The store refuses: nothing recorded is lost, and another residence will go on from there."""
        _log.error("run %s of %s stops here and is handed back: %s", self.run_id, self.code.id, error)
        self._drop()

    def _drop(self) -> None:
        self.stop()
        self._keeper.left(self)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("run %s of %s is handed back", self.run_id, self.code.id, exc_info=task.exception())
            self.defective = True
            self._drop()
