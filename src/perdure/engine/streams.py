"""The log of what runs say while they go on: appended to in order, read from an offset, complete when the run is over.

One row of `stream` says where the log of a run stands, and rows of `chunk` hold its events, a batch each. Invariants:
- offsets grow, and a log that was taken up anew after a crash leaves a gap (`GAP`): what was told and lost has
  offsets that never come again;
- `open` has the steps that have said something that is neither committed nor rolled back, `undone` the offset of the
  last rollback of each step;
- nothing follows the response. The log of a run that has ended by itself takes what was on its way until then, for what
  an app says comes on a way of its own; that of a cancelled run takes nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.engine.mutations import PutChunk, PutStream
from perdure.engine.reads import run_by_id, step_by_id
from perdure.engine.turn import Decision, Read
from perdure.model.json import decode, encode
from perdure.model.records import RunStatus, StepStatus
from perdure.model.streams import Entry, StreamEvent, pack, unpack

GAP: Final = 1_000_000
"""More events than anybody hears of before they are kept."""
PAGE: Final = 16
"""Batches that are read at once."""

REFUSED: Final = "refused"
"""The answer to an append for a run that there is not, or whose log is over."""
TOO_LARGE: Final = "too large"
MOVED: Final = "moved"
"""The answer to an append where another node has appended since."""


class Standing(msgspec.Struct):
    """Where the log of a run stands. `last` is its last offset, `size` the bytes of its data."""

    run_id: str
    last: int
    size: int
    ended: int
    open: list[str]
    undone: dict[str, int]


class Overview(msgspec.Struct):
    """A run as readers of its stream see it. `output` is there once it has ended.

    `closing` is what the log lacks of the steps that are open in it (see `closing`).
    """

    run_id: str
    function_id: str
    status: int
    output: bytes
    standing: Standing
    closing: list[Entry]

    @property
    def over(self) -> bool:
        return RunStatus(self.status).final


class Appended(msgspec.Struct):
    """Where the first of the events that were appended stands, and how large the log has become."""

    first: int
    size: int


def append(
    run_id: str, entries: list[Entry], limit: int, *, anew: bool, after: int | None = None
) -> Decision[Appended | str]:
    """Adds events to a log. `anew`: who appends has not done so before, so that others may have left it broken off.
    `after` is the offset behind which they are to stand.

    Gives back `REFUSED`, `TOO_LARGE` beyond `limit` bytes, or `MOVED`, and appends nothing.
    """
    rows = yield Read("run_status", (run_id,))
    if not rows:
        return REFUSED
    standing = yield from standing_of(run_id)
    if standing.ended or RunStatus(rows[0][0]) == RunStatus.CANCELLED:
        return REFUSED
    if after is not None and standing.last != after:
        return MOVED
    said = sum(entry.size for entry in entries if entry.kind == "data")
    if said and standing.size + said > limit:
        return TOO_LARGE
    # What ends a step is always taken.
    standing.size += sum(entry.size for entry in entries)
    first = standing.last + 1 + (GAP if anew and standing.open else 0)
    _advance(standing, first, entries)
    yield PutChunk(run_id, first, len(entries), pack(entries))
    yield PutStream(
        run_id, standing.last, standing.size, standing.ended, encode(standing.open), encode(standing.undone)
    )
    return Appended(first, standing.size)


def _advance(standing: Standing, first: int, entries: list[Entry]) -> None:
    opened = dict.fromkeys(standing.open)
    for offset, entry in enumerate(entries, first):
        if entry.kind == "response":
            standing.ended = 1
        elif entry.step is not None and entry.kind == "data":
            opened[entry.step] = None
        elif entry.step is not None:
            opened.pop(entry.step, None)
            if entry.kind == "rollback":
                standing.undone[entry.step] = offset
    standing.last, standing.open = first + len(entries) - 1, list(opened)


def standing_of(run_id: str) -> Decision[Standing]:
    """Where a log stands, that of a run which has said nothing included."""
    rows = yield Read("stream_by_run", (run_id,))
    if not rows:
        return Standing(run_id, 0, 0, 0, [], {})
    _, last, size, ended, opened, undone = rows[0]
    return Standing(run_id, last, size, ended, decode(opened), decode(undone))


def overview(run_id: str) -> Decision[Overview | None]:
    """A run and where its log stands, as of one moment."""
    run = yield from run_by_id(run_id)
    if run is None:
        return None
    standing = yield from standing_of(run_id)
    missing = (yield from closing(run_id, standing.open)) if standing.open else []
    return Overview(run_id, run.function_id, run.status, run.output or b"null", standing, missing)


def closing(run_id: str, open_steps: list[str]) -> Decision[list[Entry]]:
    """What has to be said of steps that were cut off: what a recorded one has said counts, all else is taken back."""
    entries: list[Entry] = []
    for step_id in open_steps:
        step = yield from step_by_id(run_id, step_id)
        done = step is not None and step.status == StepStatus.DONE
        entries.append(Entry("commit" if done else "rollback", step_id))
    return entries


def settled(run_id: str, step_id: str) -> Decision[list[Entry] | None]:
    """What has to be said of a step that is done, as its app says; None while that is not recorded, nothing when its
    run has ended."""
    step = yield from step_by_id(run_id, step_id)
    if step is not None and step.status in (StepStatus.DONE, StepStatus.FAILED):
        return [Entry("commit" if step.status == StepStatus.DONE else "rollback", step_id)]
    rows = yield Read("run_status", (run_id,))
    return [] if not rows or RunStatus(rows[0][0]).final else None


def torn(run_id: str) -> Decision[list[Entry]]:
    """The same for all that is open in the log of a run, which nobody drives."""
    standing = yield from standing_of(run_id)
    return (yield from closing(run_id, standing.open)) if standing.open else []


def events_after(run_id: str, offset: int) -> Decision[list[StreamEvent]]:
    """The next events after an offset, some batches of them; none at the end of what is kept."""
    rows = yield Read("chunks_after", (run_id, offset, PAGE))
    return [event for first, _, body in rows for event in unpack(first, body) if event.offset > offset]
