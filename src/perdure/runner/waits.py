"""The steps of a resident run that wait, and the futures by which the handler awaits them.

News may come before the handler's side knows that it waits (the commit that records a wait can be overtaken by
the one that ends it), and twice (told after a commit, and read from the rows): both are settled here.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from perdure.engine.turn import Decided
from perdure.model.ops import SLEEP, STEP_ERROR, Memo, Op, Retry
from perdure.model.records import StepStatus

Answer: TypeAlias = "asyncio.Future[Memo | Retry]"


class Waits:
    """The waiting steps of one residence; false when there is none."""

    def __init__(self) -> None:
        self._futures: dict[str, Answer] = {}
        self._early: dict[str, Decided] = {}
        self._attempts: dict[str, int] = {}
        self._deadlines: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._futures)

    def __contains__(self, step_id: str) -> bool:
        return step_id in self._futures

    @property
    def step_ids(self) -> list[str]:
        return list(self._futures)

    @property
    def wakes_at(self) -> int | None:
        """When the first of the sleeps ends (ms), None where none is known."""
        return min(self._deadlines.values(), default=None)

    def note(self, op: Op) -> None:
        """Learns from a recorded operation until when its step sleeps, or which attempt of it failed."""
        if op.op == SLEEP:
            self._deadlines[op.id] = (op.opts or {})["until"]
        elif op.op == STEP_ERROR:
            self._attempts[op.id] = op.attempt

    def add(self, step_id: str, future: Answer) -> Memo | None:
        """Lets a future wait for a step; the memo, if it was decided already."""
        self._futures[step_id] = future
        early = self._early.pop(step_id, None)
        return None if early is None else self.decide(early)

    def decide(self, decided: Decided) -> Memo | None:
        """Hands on what was decided of a step; the memo, if that is what somebody got."""
        if decided.status == StepStatus.DUE and decided.attempt <= self._attempts.get(decided.step_id, -1):
            # Heard twice: it would be one attempt more.
            return None
        future = self._futures.pop(decided.step_id, None)
        if future is None:
            self._early[decided.step_id] = decided
            return None
        self._deadlines.pop(decided.step_id, None)
        if future.done():
            return None
        if decided.status == StepStatus.DUE:
            future.set_result(Retry(decided.attempt))
            return None
        memo = Memo(decided.data, decided.status == StepStatus.FAILED)
        future.set_result(memo)
        return memo
