"""What a run of an app on another server has recorded, and how each report of the app becomes durable.

The records, and the `Plan` that follows from them. An operation takes effect in the plan after its commit, never
before; one that is known already is passed by, for apps repeat what is open, and what a lost answer had told. What
calls the app stands on this (`RemoteRun`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from functools import partial
from typing import Final

import msgspec

from perdure.apps.gateway import redacted
from perdure.apps.plan import DEFERS, GATEWAYS, Entry, Plan
from perdure.engine import advance, drive
from perdure.engine.advance import Situation
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.limits import exceeded
from perdure.engine.turn import Decided, Start
from perdure.model.event import Event
from perdure.model.json import Json
from perdure.model.ops import (
    DISCOVERY_REQUEST,
    NONE,
    RUN_COMPLETE,
    RUN_ERROR,
    SLEEP,
    STEP_ERROR,
    STEP_FAILED,
    STEP_PLANNED,
    STEP_RAW,
    STEP_RUN,
    WAIT_FOR_EVENT,
    WAIT_FOR_SIGNAL,
    Op,
)
from perdure.model.records import Run, RunStatus, Step, StepStatus
from perdure.runner.loading import load_steps
from perdure.runner.residence import Code, Keeper, Residence
from perdure.wire.calls import NO_VERSION

_log = logging.getLogger("perdure.apps")

ENDS: Final = frozenset({RUN_COMPLETE, RUN_ERROR})
"""The operations that end the run."""
_OUTCOMES: Final = frozenset({STEP_RUN, STEP_RAW, STEP_ERROR, STEP_FAILED})
_TO_BE_DONE: Final = _OUTCOMES | GATEWAYS | {STEP_PLANNED}
_WAITS_THAT_CAN_FAIL: Final = frozenset({WAIT_FOR_EVENT, WAIT_FOR_SIGNAL})
_MAX_KEPT: Final = 256 * 1024
"""The state of a parked run that is kept in memory (bytes); a larger one is read again when the run is woken."""


class OpenCall(msgspec.Struct):
    """A call that awaits its answer. `step_id` is None for a discovery; `progressed`: the run got on meanwhile.

    What is said under one call is recorded in `turn`: a checkpoint that is sent twice is not recorded twice.
    """

    request_id: str
    step_id: str | None
    attempt: int
    started_at: int
    progressed: bool = False
    turn: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)


class RecordedRun(Residence):
    """A residence with the records of a run whose app is elsewhere."""

    def __init__(self, keeper: Keeper, code: Code, start: Start, compiled: CompiledFunction) -> None:
        super().__init__(keeper, code, start, compiled)
        self._plan: Plan | None = None
        self._calls: dict[str, OpenCall] = {}
        self._committing = 0
        self._fruitless = 0
        self._asked = False
        self._chosen: int | None = None
        self._requests: dict[str, dict[str, Json]] = {}
        self._sleeps: dict[str, int] = {}
        self._early: dict[str, Decided] = {}

    @property
    def begun(self) -> bool:
        return self._plan is not None

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            raise RuntimeError(f"run {self.run_id} was not begun")
        return self._plan

    def _recall(self, run: Run, events: list[Event], steps: list[Step]) -> None:
        """Learns what is recorded of the run."""
        self.run = run
        self._events = events
        self._seq = len(steps)
        self._state_bytes = sum(len(step.data or b"") for step in steps)
        self._plan = Plan(steps, NO_VERSION if run.request_version is None else run.request_version)
        if self._attempt:
            self._plan.ask()
        for decided in [early for step_id, early in self._early.items() if step_id in self._plan.entries]:
            self._learn(self._early.pop(decided.step_id))

    def _over(self) -> bool:
        """Whether nothing more is to be recorded: the run has ended, or is another residence's."""
        return self._leaving or self.ending

    @abstractmethod
    def _advance(self) -> None:
        """Does what is next."""

    @property
    @abstractmethod
    def _at_rest(self) -> bool:
        """Whether no call and no request of the run is open."""

    # What was decided.

    def _learn(self, decided: Decided) -> None:
        plan = self.plan
        if decided.step_id not in plan.entries:
            # Decided before its report came back to us.
            self._early[decided.step_id] = decided
        elif decided.status == StepStatus.DUE:
            plan.due(decided.step_id, decided.attempt)
        elif plan.entries[decided.step_id].open:
            self._sleeps.pop(decided.step_id, None)
            self._progressed()
            self._state_bytes += len(decided.data)
            plan.decided(decided.step_id, decided.status, decided.data)

    def _progressed(self) -> None:
        """The run got on: its function's attempts count anew (C.6)."""
        self._attempt = 0
        self._fruitless = 0
        self._asked = False
        for call in self._calls.values():
            call.progressed = True

    # What is reported.

    def _sift(self, ops: list[Op]) -> list[Op]:
        """What is new among reported operations; apps repeat what is open, and what a lost answer told us already."""
        new: dict[str, Op] = {}
        for op in ops:
            if op.op in (NONE, DISCOVERY_REQUEST) or op.op in ENDS:
                continue
            entry = self.plan.entries.get(op.id)
            if op.op in GATEWAYS:
                if entry is None or entry.open:
                    self._requests[op.id] = op.opts or {}
                op.opts = redacted(op.opts or {})
            if op.op == STEP_PLANNED and entry is not None:
                self.plan.plan_retry(op.id)
            known = entry is not None or self.plan.knows_defer(op.id)
            if op.op in _OUTCOMES:
                # What is waited for has a pause or a timer, which decides it: it is not the app's to tell.
                known = entry is not None and (not entry.open or entry.status == StepStatus.WAITING)
            if not known:
                new.setdefault(op.id, op)
        return list(new.values())

    async def _record(self, ops: list[Op], *, alone: bool = False) -> None:
        """Makes operations durable, then lets them take effect; `alone`: nothing else is under way if all wait."""
        if not ops:
            return
        await self._keeper.streams.kept(self.run_id, [op.id for op in ops if op.op == STEP_RUN])
        pairs = [(self._count(op), op) for op in ops]
        fatal = next((found for seq, op in pairs if (found := exceeded(op, seq, self._state_bytes))), None)
        if fatal is not None:
            await self._fail(msgspec.json.encode(fatal))
            return
        self._committing += 1
        try:
            if len(ops) == 1 and ops[0].op == STEP_RUN and ops[0].metadata is None and not self._attempt:
                await self._record_one(*pairs[0])
            else:
                await self._record_many(pairs, alone)
        finally:
            self._committing -= 1

    def _count(self, op: Op) -> int:
        if op.id not in self.plan.entries and op.op not in DEFERS:
            self._seq += 1
        self._state_bytes += len(op.data or b"")
        return self._seq

    async def _record_one(self, seq: int, op: Op) -> None:
        """The commonest report, in one statement."""
        lease = self.lease
        version, self._chosen = self._chosen, None
        if lease is None or not await self._decider.commit(
            partial(advance.record, lease, self.run_id, seq, op, version)
        ):
            self._drop()
            return
        self._took(op, StepStatus.DONE, op.data or b"null")

    async def _record_many(self, pairs: list[tuple[int, Op]], alone: bool) -> None:
        lease = self.lease
        self._plain = False
        parking = alone and self._at_rest and _all_wait([op for _, op in pairs])
        if lease is None:
            self._drop()
            return
        answer = await self._decider.decide(advance.report, lease, self._situation(), pairs, parking=parking)
        if isinstance(answer, str):
            self._drop()
            return
        for _, op in pairs:
            memo = answer.memos.get(op.id)
            if op.op in DEFERS:
                self._keep_defer(op, answer.rejected.get(op.id))
            elif memo is None:
                self._opened(op)
            elif memo.failed and op.op in _WAITS_THAT_CAN_FAIL:
                # The wait itself cannot be: that is no outcome of it, and asking again would not help (C.5).
                await self._fail(memo.data)
                return
            else:
                self._took(op, StepStatus.FAILED if memo.failed else StepStatus.DONE, memo.data)
        if answer.parked and self.lease is lease:
            self._parked()
        elif parking and not answer.memos:
            self._spawn(self._refresh())

    def _keep_defer(self, op: Op, problem: str | None) -> None:
        self.plan.keep_defer(op, rejected=problem is not None)
        if problem is not None:
            # A defer never fails its run.
            _log.warning("run %s of %s: %s", self.run_id, self.code.id, problem)

    def _took(self, op: Op, status: StepStatus, data: bytes) -> None:
        if op.id not in self.plan.entries:
            self.plan.add(Entry(op.id, op.op, op.name, StepStatus.DUE, op.attempt, _races(op)))
        self._requests.pop(op.id, None)
        self._progressed()
        self.plan.decided(op.id, status, data)

    def _opened(self, op: Op) -> None:
        plan = self.plan
        self._fruitless = 0
        status = StepStatus.WAITING
        if op.op == STEP_ERROR:
            attempt = "run %s of %s: attempt %d of step %r failed"
            _log.info(attempt, self.run_id, self.code.id, op.attempt, op.name)
        if op.op == STEP_PLANNED or op.op in GATEWAYS:
            status = StepStatus.DUE
        elif op.op == STEP_ERROR:
            status = StepStatus.RETRYING
        elif op.op == SLEEP:
            self._sleeps[op.id] = (op.opts or {})["until"]
        if op.id in plan.entries:
            plan.entries[op.id].status = status
        else:
            kind = STEP_RUN if op.op == STEP_ERROR else op.op
            plan.add(Entry(op.id, kind, op.name, status, op.attempt, _races(op)))
        early = self._early.pop(op.id, None)
        if early is not None:
            self._learn(early)

    def _situation(self) -> Situation:
        version, self._chosen = self._chosen, None
        return Situation(self.run, self._events[0].to_json(), self._max_attempts, version)

    def _parked(self) -> None:
        self.lease = None
        self.wakes_at = min(self._sleeps.values(), default=None)
        if self._draining or self._state_bytes > _MAX_KEPT:
            self._drop()
        else:
            self._keeper.parked(self)

    def refresh(self) -> None:
        if self.begun:
            self._spawn(self._refresh())

    async def _refresh(self) -> None:
        """Reads the steps that are open: something was decided while nobody listened."""
        for step in await self._decider.view(partial(load_steps, self.run_id, self.plan.open_ids)):
            if step.status not in (StepStatus.WAITING, StepStatus.RETRYING):
                self._learn(Decided(step.id, step.status, step.data or b"null", step.attempt))
        self._advance()

    # The end.

    async def _fail(self, error: bytes, cause: str | None = None) -> None:
        await self._end(drive.complete, self.run, RunStatus.FAILED, error, cause)
        self._hang_up()

    def _hang_up(self) -> None:
        """Ends the other calls of a run that has ended, such as that of a race's loser: nobody reads their answers."""
        self.stop()


def _races(op: Op) -> bool:
    return (op.opts or {}).get("parallelMode") == "race"


def _all_wait(ops: list[Op]) -> bool:
    """Whether nothing is to be done about operations but to wait for them. Defers are nothing to wait for."""
    kinds = {op.op for op in ops} - DEFERS
    return bool(kinds) and kinds.isdisjoint(_TO_BE_DONE)
