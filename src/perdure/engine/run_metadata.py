"""Metadata: small notes that programs attach to a run, a step or a span, by scope and kind, and merge as they go.

Notes come while a run executes and after it has ended. What is kept of one target, and of one run, is limited, so
that notes never grow into state.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.engine import reads, views
from perdure.engine.mutations import PutRunMetadata
from perdure.engine.turn import Decision, Turn
from perdure.model.json import Json, decode, encode
from perdure.model.records import RunMetadata

RUN_SCOPE = "run"
MAX_TARGET_BYTES = 64 * 1024
MAX_RUN_BYTES = 1024 * 1024


class Note(msgspec.Struct, frozen=True):
    """One change: `values` are merged into what is there, replace it ("set"), or name what goes ("delete")."""

    scope: str
    kind: str
    values: dict[str, Json]
    op: Literal["merge", "set", "delete"] = "merge"


def notes_of(reported: Json) -> list[Note]:
    """The notes that came with an operation of an app. Those that are malformed are left out: no step fails by them.

    >>> notes_of([{"kind": "userland.x", "scope": "step", "op": "merge", "values": {"a": 1}}, {"kind": 7}])
    [Note(scope='step', kind='userland.x', values={'a': 1}, op='merge')]
    """
    found: list[Note] = []
    for each in reported if isinstance(reported, list) else ():
        try:
            found.append(msgspec.convert(each, Note))
        except msgspec.ValidationError:
            continue
    return found


class Rejected(msgspec.Struct, frozen=True):
    """Why notes were not taken; nothing of them was."""

    reason: Literal["not_found", "no_target", "too_large"]
    message: str


def attach_to_step(turn: Turn, run_id: str, target: str, notes: list[Note]) -> Decision[Rejected | None]:
    """As `attach`, to a step by its hash: it must have been reported, so that nothing is kept that nobody will see."""
    if (yield from reads.run_by_id(run_id)) is not None and (yield from reads.step_by_id(run_id, target)) is None:
        return Rejected("no_target", "Unable to find metadata target")
    return (yield from attach(turn, run_id, target, notes))


def attach(turn: Turn, run_id: str, target: str, notes: list[Note]) -> Decision[Rejected | None]:
    """Attaches notes to a target of a run: a step's hash, a span's id, or "" for the run itself. All or none.

    Notes whose scope is the run are the run's, whatever they came with.
    """
    if (yield from reads.run_by_id(run_id)) is None:
        return Rejected("not_found", f"there is no run {run_id}")
    kept = {(row.target, row.scope, row.kind): row for row in (yield from views.metadata_of_run(run_id))}
    changed: dict[tuple[str, str, str], RunMetadata] = {}
    for note in notes:
        key = ("" if note.scope == RUN_SCOPE else target, note.scope, note.kind)
        before: dict[str, Json] = decode(kept[key].entries) if key in kept else {}
        row = RunMetadata(run_id, *key, encode(_applied(before, note)), turn.now)
        kept[key] = changed[key] = row
    for place in {row.target for row in changed.values()}:
        if sum(_size(row) for row in kept.values() if row.target == place) > MAX_TARGET_BYTES:
            return Rejected("too_large", f"the metadata of one target is limited to {MAX_TARGET_BYTES} bytes")
    if sum(map(_size, kept.values())) > MAX_RUN_BYTES:
        return Rejected("too_large", f"the metadata of one run is limited to {MAX_RUN_BYTES} bytes")
    for row in changed.values():
        yield PutRunMetadata(*msgspec.structs.astuple(row))
    return None


def _applied(before: dict[str, Json], note: Note) -> dict[str, Json]:
    if note.op == "set":
        return note.values
    if note.op == "delete":
        return {name: value for name, value in before.items() if name not in note.values}
    return before | note.values


def _size(row: RunMetadata) -> int:
    return len(row.target) + len(row.scope) + len(row.kind) + len(row.entries)
