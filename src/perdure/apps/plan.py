"""What is to be done next in a run of an app on another server: plain data, no input or output (part C.8).

It knows every step of the run and says which steps are to be called for, and whether the function is to be called
from its start ("discovery") so that it finds its next steps. Invariants:
- a decided step is in `stack`, once, and its memo never changes;
- a step that is known is never begun again by a second report of it: apps repeat what is still open;
- in version 2 of the protocol a group of parallel steps is discovered once, when all of it is decided; steps in
  race mode, and all steps in version 1, are discovered one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from perdure.engine.defers import abortable, is_defer
from perdure.model.json import Json, decode, encode
from perdure.model.ops import AI_GATEWAY, DEFER_ABORT, DEFER_ADD, GATEWAY, STEP_PLANNED, STEP_RUN, Op
from perdure.model.records import Step, StepStatus
from perdure.wire.memos import input_memo, memo_of

GATEWAYS = frozenset({GATEWAY, AI_GATEWAY})
DEFERS = frozenset({DEFER_ADD, DEFER_ABORT})


class Entry(msgspec.Struct, gc=False):
    """A step as the plan knows it."""

    id: str
    op: str
    name: str
    status: int
    attempt: int
    race: bool

    @property
    def open(self) -> bool:
        return self.status > StepStatus.FAILED

    @property
    def in_place(self) -> bool:
        """Whether a discovery executes it where it comes upon it, when it is due."""
        return self.op != STEP_PLANNED and self.op not in GATEWAYS


class Plan:
    """The steps of one run. `version` is the protocol's version that its app has chosen."""

    def __init__(self, steps: list[Step], version: int) -> None:
        self.version = version
        self.entries: dict[str, Entry] = {}
        self._open: dict[str, Entry] = {}
        self.memos: dict[str, bytes] = {}
        self.stack: list[str] = []
        self.defers = abortable(steps)
        self._aborts: set[str] = set()
        self._discover = True
        self._forced = self._one_by_one
        for step in sorted(steps, key=_decided_order):
            self._recall(step)

    @property
    def _one_by_one(self) -> bool:
        """Whether the app wants to be called after each step of a group: so did the versions before the second."""
        return 0 <= self.version < 2

    def _recall(self, step: Step) -> None:
        if is_defer(step):
            return
        opts: Json = decode(step.opts) if step.opts else None
        options = opts if isinstance(opts, dict) else {}
        # A retrying step has used attempt n; its row holds the next once the timer has fired.
        entry = Entry(step.id, step.op, step.name, step.status, step.attempt, options.get("parallelMode") == "race")
        self.entries[step.id] = entry
        if not entry.open:
            self._keep(entry, step.data or b"null")
        else:
            self._open[step.id] = entry
            if "override" in options:
                self.memos[step.id] = input_memo(encode(options["override"]))

    def _keep(self, entry: Entry, data: bytes) -> None:
        self._open.pop(entry.id, None)
        self.memos[entry.id] = memo_of(entry.op, data, failed=entry.status == StepStatus.FAILED)
        self.stack.append(entry.id)

    def add(self, entry: Entry) -> None:
        """Learns of an open step that was reported and recorded."""
        self.entries[entry.id] = self._open[entry.id] = entry

    def decided(self, step_id: str, status: int, data: bytes) -> None:
        """A step has its outcome: its group may go on."""
        entry = self.entries[step_id]
        if not entry.open:
            return
        entry.status = status
        self._keep(entry, data)
        self._discover = True
        self._forced = self._forced or entry.race or self._one_by_one

    def knows_defer(self, op_id: str) -> bool:
        """Whether a defer, or the abortion of one, was recorded."""
        return op_id in self.defers or op_id in self._aborts

    def keep_defer(self, op: Op, *, rejected: bool) -> None:
        """Learns of a defer, or the abortion of one, that was recorded."""
        if op.op == DEFER_ADD:
            self.defers[op.id] = not rejected
            return
        self._aborts.add(op.id)
        target = (op.opts or {}).get("target_hashed_id")
        if isinstance(target, str) and target in self.defers:
            self.defers[target] = False

    def due(self, step_id: str, attempt: int) -> None:
        """A step may be attempted again."""
        entry = self.entries[step_id]
        if entry.open:
            entry.status, entry.attempt = StepStatus.DUE, attempt
            if entry.in_place:
                self.ask()

    def plan_retry(self, step_id: str) -> None:
        """A step that failed is planned again by a discovery: its app found it beside others, and does not execute it
        in place. It is due as one that was planned from the start: by a call of its own."""
        entry = self.entries[step_id]
        if entry.open and entry.op == STEP_RUN:
            entry.op = STEP_PLANNED

    def ask(self) -> None:
        """The function is to be called, whatever is open."""
        self._discover = self._forced = True

    def discovering(self) -> None:
        """The function is being called: what was decided by now it will see."""
        self._discover, self._forced = False, False

    @property
    def wants_discovery(self) -> bool:
        """Whether the function is to be called now."""
        return self._discover and (self._forced or not any(self._holding()))

    def _holding(self) -> Iterator[Entry]:
        """The open steps for which their group waits."""
        for entry in self._open.values():
            if not entry.race and not (entry.in_place and entry.status == StepStatus.DUE):
                yield entry

    @property
    def executes_in_place(self) -> bool:
        """Whether the app may execute a step that it comes upon: not beside others that are open."""
        return not any(self._holding())

    @property
    def waits(self) -> bool:
        """Whether a step will be decided, or due, without anything being called. Else the run must not park."""
        return any(entry.status != StepStatus.DUE for entry in self._open.values())

    @property
    def open_ids(self) -> list[str]:
        return list(self._open)

    @property
    def attempt(self) -> int | None:
        """The attempt of the step that a discovery will attempt again; None where there is no such step."""
        return max(
            (entry.attempt for entry in self._open.values() if entry.in_place and entry.status == StepStatus.DUE),
            default=None,
        )

    def to_call(self) -> list[Entry]:
        """The planned steps that are to be executed, each by a call of its own."""
        return [e for e in self._open.values() if e.status == StepStatus.DUE and e.op == STEP_PLANNED]

    def to_perform(self) -> list[Entry]:
        """The requests that the server is to make."""
        return [e for e in self._open.values() if e.status == StepStatus.DUE and e.op in GATEWAYS]


def _decided_order(step: Step) -> tuple[int, int]:
    return step.ended_at or 0, step.seq
