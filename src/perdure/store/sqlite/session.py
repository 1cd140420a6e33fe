"""One transaction's decisions, with the writes that many of them share executed together.

Under load most decisions of a commit do the same: create a run, record a step, end a run. Every call into SQLite
gives up Python's interpreter lock and has to win it back from the event loop, so the number of calls, not of rows,
is what a commit costs. `Session` therefore gathers such writes from consecutive decisions and executes each kind as
one statement. The result is as if each decision had run alone, in order: the gathered kinds concern only rows of
their own run, and anything else that a decision asks for first executes what was gathered.
"""

from __future__ import annotations

import sqlite3
from typing import Any, TypeAlias

import msgspec

from perdure.engine import reads
from perdure.engine.mutations import (
    DeleteDriver,
    EndLeasedRun,
    Mutation,
    PutEvent,
    PutJob,
    PutPause,
    PutRun,
    RecordStep,
)
from perdure.engine.turn import Decision, Lease, Read
from perdure.store.sqlite.driver import WRITES, apply, apply_all, drive, rows

_GATHERED: tuple[type[Mutation], ...] = (PutEvent, PutRun, PutJob, RecordStep, EndLeasedRun, DeleteDriver)
"""The gathered kinds, in the order of their execution."""
_IS_GATHERED = frozenset(_GATHERED)

_Guarded: TypeAlias = "RecordStep | EndLeasedRun"


class PauseNames:
    """The event names that pauses wait for, or have waited for: asking for others needs no statement.

    Sound only in the one connection that writes. Names are only ever added, so a failed transaction does no harm.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("SELECT DISTINCT name FROM pause WHERE kind IN ('event', 'cancel')")
        self._names: set[str] = {row[0] for row in found}

    def add(self, pause: PutPause) -> None:
        if pause.kind in ("event", "cancel"):
            self._names.add(pause.name)

    def may_hold(self, names: tuple[str | None, ...]) -> bool:
        return not self._names.isdisjoint(names)


class _Pending:
    """A decision under way: its place in the results, and the guarded write whose answer it waits for."""

    __slots__ = ("decision", "guarded", "place")

    def __init__(self, place: int, decision: Decision[Any]) -> None:
        self.place = place
        self.decision = decision
        self.guarded: _Guarded | None = None


class Session:
    """Runs the decisions of one transaction. Use: `add` each, then `finish` for their results in that order."""

    def __init__(self, cursor: sqlite3.Cursor, pauses: PauseNames) -> None:
        self._cursor = cursor
        self._pauses = pauses
        self._gathered: dict[type[Mutation], list[tuple[Any, ...]]] = {}
        self._waiting: list[_Pending] = []
        self._results: list[Any] = []

    def add(self, decision: Decision[Any]) -> None:
        """Runs a decision as far as it goes without the answer to a guarded write."""
        pending = _Pending(len(self._results), decision)
        self._results.append(None)
        self._run(pending, None)

    def finish(self) -> list[Any]:
        """Executes what is left; the results of all decisions."""
        self._flush()
        return self._results

    def _run(self, pending: _Pending, answer: object) -> None:
        try:
            while True:
                item = pending.decision.send(answer)
                if isinstance(item, Read):
                    answer = self._read(item)
                elif self._gather(item):
                    if isinstance(item, RecordStep | EndLeasedRun):
                        pending.guarded = item
                        self._waiting.append(pending)
                        return
                    answer = 1
                else:
                    self._flush()
                    answer = apply(self._cursor, item)
                    if isinstance(item, PutPause):
                        self._pauses.add(item)
        except StopIteration as stop:
            self._results[pending.place] = stop.value

    def _read(self, read: Read) -> list[tuple[Any, ...]]:
        if read.name == reads.PAUSE_PATHS and not self._pauses.may_hold(read.params):
            return []
        self._flush()
        return rows(self._cursor, read)

    def _gather(self, mutation: Mutation) -> bool:
        kind = type(mutation)
        if kind not in _IS_GATHERED:
            return False
        params: tuple[Any, ...] = msgspec.structs.astuple(mutation)
        if WRITES[kind].is_large(params):
            return False
        self._gathered.setdefault(kind, []).append(params)
        return True

    def _flush(self) -> None:
        while self._gathered:
            gathered, self._gathered = self._gathered, {}
            waiting, self._waiting = self._waiting, []
            kept = {kind: apply_all(self._cursor, kind, gathered[kind]) for kind in _GATHERED if kind in gathered}
            whole = all(kept.get(kind, 0) == len(gathered.get(kind, ())) for kind in (RecordStep, EndLeasedRun))
            for pending in waiting:
                self._run(pending, 1 if whole else self._held(pending.guarded))

    def _held(self, guarded: _Guarded | None) -> int:
        """Whether a guarded write found its lease, asked one by one where not all of them did."""
        assert guarded is not None
        run_id = guarded.run_id if isinstance(guarded, RecordStep) else guarded.id
        return int(drive(self._cursor, reads.holds_lease(Lease(run_id, guarded.node, guarded.token))))
