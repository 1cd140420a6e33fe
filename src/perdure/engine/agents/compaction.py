"""Compaction of an agent's log: once its run is over, the deltas of a part become one, and what was taken back goes.

Invariants: an event that stays keeps its offset, and one made of several has that of the last, so places go on to
grow; what is put together says from which place on it is (`firstIndex`), for readers whose place is inside of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from perdure.engine import streams
from perdure.engine.mutations import DeleteRunChunks, PutChunk, PutStream
from perdure.engine.turn import Decision
from perdure.model.json import Json, encode
from perdure.model.streams import Entry, StreamEvent, pack

_JOINED: Final = {"text-delta": "text", "reasoning-delta": "text", "tool-call-delta": "argsTextDelta"}
"""Kinds of chunks whose texts are put together, and where the text is."""


class Compacted(msgspec.Struct):
    """A log as it will be: `last` is the offset at which it ended when it was read, `saved` how many events go."""

    last: int
    size: int
    saved: int
    rows: list[tuple[int, int, bytes]]


def read(run_id: str) -> Decision[Compacted | None]:
    """What the log of a run comes to; None if the run is not over, or the log is not complete."""
    found = yield from streams.overview(run_id)
    if found is None or not found.over or found.standing.open or not found.standing.last:
        return None
    events: list[StreamEvent] = []
    while page := (yield from streams.events_after(run_id, events[-1].offset if events else 0)):
        events += page
    kept = list(_joined(_standing(events, found.standing.undone)))
    return Compacted(found.standing.last, sum(len(e.body) for e in kept), len(events) - len(kept), list(_rows(kept)))


def write(run_id: str, compacted: Compacted) -> Decision[int]:
    """Puts the log in the place of what it was made of; how many events are gone."""
    standing = yield from streams.standing_of(run_id)
    if standing.last != compacted.last or not compacted.saved:
        return 0
    yield DeleteRunChunks(run_id)
    for first, count, body in compacted.rows:
        yield PutChunk(run_id, first, count, body)
    yield PutStream(run_id, standing.last, compacted.size, standing.ended, b"[]", b"{}")
    return compacted.saved


def _standing(events: Iterable[StreamEvent], undone: dict[str, int]) -> Iterable[StreamEvent]:
    """What counts, said by nobody in particular: every step is decided."""
    for event in events:
        if event.kind == "response":
            yield event
        elif event.kind == "data" and event.offset > undone.get(event.step or "", 0):
            yield StreamEvent(event.offset, "data", None, event.body)


def _joined(events: Iterable[StreamEvent]) -> Iterable[StreamEvent]:
    """Deltas of one part that follow each other, as one."""
    parts: list[tuple[StreamEvent, Json]] = []
    key: object = None
    for event in events:
        said = event.data if event.kind == "data" else None
        found = _part(said)
        if parts and (found is None or found != key):
            yield _one(parts)
            parts = []
        if found is None:
            yield event
        else:
            key = found
            parts.append((event, said))
    if parts:
        yield _one(parts)


def _part(said: Json) -> tuple[str, str, str] | None:
    """Which part a delta belongs to; None for what is no delta."""
    if not isinstance(said, dict) or said.get("type") not in _JOINED or not isinstance(said.get("payload"), dict):
        return None
    payload = said["payload"]
    part = payload.get("id", payload.get("toolCallId"))
    text = payload.get(_JOINED[said["type"]])
    return (said["type"], str(said.get("runId")), part) if isinstance(part, str) and isinstance(text, str) else None


def _one(parts: list[tuple[StreamEvent, Json]]) -> StreamEvent:
    if len(parts) == 1:
        return parts[0][0]
    first, said = parts[0]
    field = _JOINED[said["type"]]
    text = "".join(each["payload"][field] for _, each in parts)
    start = said.get("firstIndex", first.offset)
    whole = {**said, "payload": {**said["payload"], field: text}, "firstIndex": start}
    return StreamEvent(parts[-1][0].offset, "data", None, encode(whole))


def _rows(events: list[StreamEvent]) -> Iterable[tuple[int, int, bytes]]:
    """Rows as the log has them: in each the offsets follow one another."""
    row: list[StreamEvent] = []
    for event in [*events, None]:
        if row and (event is None or event.offset != row[-1].offset + 1):
            yield row[0].offset, len(row), pack(Entry(e.kind, e.step, e.body) for e in row)
            row = []
        if event is not None:
            row.append(event)
