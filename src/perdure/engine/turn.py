"""What a decision is made of: reads, the turn it is made in, and the effects it asks for.

Effects are what the runner does after the commit and only then: start or wake a run, tell who waits for a result.
A lost effect loses nothing but time, since the rows say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from perdure.engine.catalogue import Catalogue
from perdure.engine.mutations import Mutation
from perdure.model.event import Event, StoredEvent
from perdure.model.records import Run, Step

T = TypeVar("T")


class Read(NamedTuple):
    """A named query of the store and its parameters; the answer is a list of rows."""

    name: str
    params: tuple[Any, ...] = ()


Decision: TypeAlias = Generator["Read | Mutation", Any, T]
"""A decision in progress, and the type of its result. A read is answered with its rows, a list of tuples, and a
mutation with the number of rows that it changed."""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to drive a job: the node that has it and its fencing token, which no other lease ever carries.

    A write under a lease is refused once the job's row names another node or token (Kleppmann's fencing).
    """

    job_id: str
    node: str
    token: int


class Decided(msgspec.Struct, gc=False):
    """An open step that got its memo (DONE, FAILED), or may be attempted again (DUE)."""

    step_id: str
    status: int
    data: bytes
    attempt: int = 0


class Start(msgspec.Struct, gc=False):
    """Drive this run under this lease.

    `run` and `events` are there when the decision just created the run, with `steps` where some are done already;
    `step` when deciding it woke the run.
    `previous` is the token of the lease before.
    `plain`: the run has its row and its driver job, and so far nothing else (see `finish.end_plain_run`).
    """

    run_id: str
    function_id: str
    lease: Lease
    attempt: int
    run: Run | None = None
    events: list[Event] | None = None
    steps: list[Step] | None = None
    step: Decided | None = None
    plain: bool = False
    previous: int = 0


class Wake(msgspec.Struct):
    """A step of a run that somebody drives right now was decided."""

    run_id: str
    step: Decided


class Ended(msgspec.Struct, gc=False):
    """The run is over."""

    run_id: str
    function_id: str
    status: int
    output: bytes


class Due(msgspec.Struct):
    """A job is due at this time (ms)."""

    at: int


class Backlog(msgspec.Struct):
    """Jobs are ready to be claimed."""


Effect: TypeAlias = Start | Wake | Ended | Due | Backlog


class Offer:
    """How many jobs a node would take at once. `take` makes leases while there is room.

    The runs of some functions have pools of their own: `pool_of` names the pool and its room.
    """

    def __init__(
        self,
        node: str,
        tokens: Callable[[], int],
        room: int,
        runnable: Callable[[str], bool],
        pool_of: Callable[[str], tuple[str, int] | None] = lambda _: None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.node = node
        self.room = room
        self.runnable = runnable
        self._tokens = tokens
        self._pool_of = pool_of
        self._refused = refused
        self._pools: dict[str, int] = {}

    def full_pool(self, function_id: str) -> str | None:
        """The pool of a function, if it has no room: the key on which its runs are to wait."""
        pool = self._pool(function_id)
        if pool is None or self._pools[pool] > 0:
            return None
        self._refused(pool)
        return pool

    def has_room(self, function_id: str) -> bool:
        """Whether a run of the function would be taken at once."""
        pool = self._pool(function_id)
        return self.room > 0 if pool is None else self._pools[pool] > 0

    def _pool(self, function_id: str) -> str | None:
        found = self._pool_of(function_id)
        if found is None:
            return None
        self._pools.setdefault(*found)
        return found[0]

    def take(self, job_id: str, function_id: str) -> Lease:
        pool = self._pool(function_id)
        if pool is None:
            self.room -= 1
        else:
            self._pools[pool] -= 1
        return Lease(job_id, self.node, self._tokens())


class Turn:
    """One decision's surroundings: the time (ms), new ids, chance in [0, 1), the functions, and the node's offer.

    `fixed_retry` (ms) replaces the backoff table. `emitted` collects internal events that the decision causes;
    `schedule.settle` accepts them before the decision ends, in the same transaction.
    """

    __slots__ = ("catalogue", "chance", "effects", "emitted", "fixed_retry", "ids", "now", "offer")

    def __init__(
        self,
        now: int,
        ids: Callable[[], str],
        chance: Callable[[], float],
        catalogue: Catalogue,
        offer: Offer,
        fixed_retry: int | None = None,
    ) -> None:
        self.now = now
        self.ids = ids
        self.chance = chance
        self.catalogue = catalogue
        self.offer = offer
        self.fixed_retry = fixed_retry
        self.effects: list[Effect] = []
        self.emitted: list[StoredEvent] = []
