"""Transactions of the commonest writes alone: one round trip, during which nobody waits for a message of ours.

Most decisions under load create a run, record a step or end a run, and read nothing but the names that pauses wait
for. `Plain` runs them ahead of the transaction, as if their leases held and no new name were waited for. The server
checks both and commits, or changes nothing (`commit_plain_2`): then they are decided anew, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from perdure.engine import reads
from perdure.engine.mutations import DeleteDriver, EndLeasedRun, Mutation, PutEvent, PutJob, PutRun, RecordStep
from perdure.engine.turn import Decision, Read
from perdure.store.postgres.session import PauseNames, Row
from perdure.store.postgres.statements import WRITES

_KINDS: Final[tuple[type[Mutation], ...]] = (PutEvent, PutRun, PutJob, RecordStep, EndLeasedRun, DeleteDriver)
"""In the order of the parameters of `commit_plain_2`, which is that of their execution."""
_WIDTH: Final = sum(len(kind.__struct_fields__) for kind in _KINDS)
SQL: Final = f"SELECT perdure.commit_plain_2({', '.join(f'${number}' for number in range(1, 4 + _WIDTH + 1))})"


class Plain:
    """Decisions that were made ahead, what they write, and their results."""

    def __init__(self, names: PauseNames) -> None:
        self.results: list[object] = []
        self._names = names
        self._rows: dict[type[Mutation], dict[Row, Row]] = {kind: {} for kind in _KINDS}

    def take_first(self, begins: Iterable[Callable[[], Decision[Any]]]) -> int:
        """Makes decisions up to the first that is not plain; how many."""
        for begin in begins:
            if not self._take(begin()):
                break
        return len(self.results)

    def _take(self, decision: Decision[Any]) -> bool:
        """Makes a decision if it is plain; otherwise nothing of it is kept."""
        written: dict[tuple[type[Mutation], Row], Row] = {}
        answer: object = None
        try:
            while True:
                item = decision.send(answer)
                if isinstance(item, Read):
                    if item.name != reads.PAUSE_PATHS or self._names.may_hold(item.params):
                        decision.close()
                        return False
                    answer = []
                    continue
                kind = type(item)
                params: Row = msgspec.structs.astuple(item)
                if kind not in self._rows or WRITES[kind].is_large(params):
                    decision.close()
                    return False
                row = WRITES[kind].row(params)
                if row in self._rows[kind] or (kind, row) in written:
                    # Twice in one statement cannot be.
                    decision.close()
                    return False
                written[kind, row] = params
                answer = 1
        except StopIteration as stop:
            self.results.append(stop.value)
        except Exception:
            # It fails, or it would not if it had seen what there is: to be found out where that is seen.
            return False
        for (kind, row), params in written.items():
            self._rows[kind][row] = params
        return True

    @property
    def news(self) -> list[str]:
        """What concerns other nodes of that which is written."""
        return [f"ended {run_id}" for (run_id,) in self._rows[EndLeasedRun]]

    def parameters(self) -> Iterable[Row]:
        """The columns of what is written, kind by kind."""
        for kind in _KINDS:
            rows = self._rows[kind]
            if rows:
                yield from zip(*rows.values(), strict=True)
            else:
                yield from [()] * len(kind.__struct_fields__)
