"""A reader of an agent's stream who comes again, at any place of any log, has in the end what one has who stayed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.agents.chunks import Chunk
from perdure.agents.durable.log import ROLLBACK, LogView, View
from perdure.model.ids import step_hash
from perdure.model.json import encode
from perdure.model.streams import StreamEvent

RUN = "r"
# What a step does next: says something, fails, is recorded. Two tools may go on beside each other.
acts = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["say", "say", "fail", "record"])), max_size=25)


def log_of(script: list[tuple[str, str]]) -> list[StreamEvent]:
    """A log as the engine keeps it, ended by a chunk `finish` in a step of its own."""
    events: list[StreamEvent] = []
    turn = {"a": 0, "b": 0}
    said: set[str] = set()

    def add(kind: str, step: str, type_: str = "text-delta") -> None:
        offset = len(events) + 1
        body = encode({"type": type_, "runId": RUN, "from": "AGENT", "payload": {"text": f"{step}{offset}"}})
        events.append(StreamEvent(offset, kind, step_hash(step), body if kind == "data" else b""))  # type: ignore[arg-type]

    for branch, act in script:
        step = f"tool:{branch}{turn[branch]}"
        if act == "say":
            add("data", step)
            said.add(step)
        elif step in said:
            said.discard(step)
            add("rollback" if act == "fail" else "commit", step)
            turn[branch] += act == "record"
    for branch in "ab":
        step = f"tool:{branch}{turn[branch]}"
        if step in said:
            add("commit", step)
    add("data", "llm:1", "finish")
    add("commit", "llm:1")
    return events


def told(events: list[StreamEvent], after: int, now: int) -> list[StreamEvent]:
    """What the engine tells a reader who comes when `now` events are there, with a place in the log."""
    undone = {event.step: event.offset for event in events[:now] if event.kind == "rollback"}
    counting = []
    for event in events:
        taken_back = undone.get(event.step, 0)
        if event.offset <= after or (event.kind == "data" and event.offset < taken_back):
            continue
        if event.kind == "rollback" and after == 0 and event.offset <= taken_back:
            continue
        counting.append(event)
    return counting


def read(events: list[StreamEvent], after: int, now: int, view: View = "committed") -> list[Chunk]:
    log = LogView(RUN, view, after)
    if after:
        log.prime(events[:now], after)
    return log.take(told(events, after, now))


def standing(shown: list[Chunk]) -> list[str]:
    """What stands of the chunks that a reader was shown."""
    kept: dict[int, Chunk] = {}
    for said in shown:
        if said.type == ROLLBACK:
            first = said.payload["fromIndex"]
            kept = {index: was for index, was in kept.items() if was.step != said.step or index < first}
        else:
            kept[said.index] = said
    return [said.payload["text"] for said in kept.values()]


def recorded(events: list[StreamEvent]) -> list[str]:
    """What the log comes to."""
    open_: dict[str | None, list[tuple[int, str]]] = {}
    kept: list[tuple[int, str]] = []
    for event in events:
        if event.kind == "data":
            open_.setdefault(event.step, []).append((event.offset, event.data["payload"]["text"]))
        elif event.kind == "commit":
            kept += open_.pop(event.step, [])
        else:
            open_.pop(event.step, None)
    return [text for _, text in sorted(kept)]


@given(acts)
def test_who_stays_has_what_was_recorded(script: list[tuple[str, str]]) -> None:
    events = log_of(script)
    assert standing(read(events, 0, 0)) == recorded(events)
    assert standing(read(events, 0, len(events))) == recorded(events)
    assert [said.payload["text"] for said in read(events, 0, 0, "settled")] == recorded(events)


@settings(deadline=None)
@given(acts)
def test_who_comes_again_at_any_place_has_the_same(script: list[tuple[str, str]]) -> None:
    events = log_of(script)
    for now in range(1, len(events) + 1):
        before = read(events[:now], 0, 0)
        for place in {said.index for said in before}:
            seen = [said for said in before if said.index <= place]
            for again in {now, len(events)}:
                assert standing(seen + read(events, place, again)) == recorded(events)


@settings(deadline=None)
@given(acts)
def test_the_settled_view_goes_on_exactly_where_it_was(script: list[tuple[str, str]]) -> None:
    events = log_of(script)
    whole = [said.index for said in read(events, 0, 0, "settled")]
    assert whole == sorted(whole)
    for now in range(1, len(events) + 1):
        before = [said.index for said in read(events[:now], 0, 0, "settled")]
        for place in before[:-1] if now == len(events) else before:
            rest = [said.index for said in read(events, place, len(events), "settled")]
            assert [index for index in whole if index <= place] + rest == whole


@given(acts)
def test_indices_grow_in_every_view(script: list[tuple[str, str]]) -> None:
    events = log_of(script)
    for view in ("committed", "settled", "live"):
        places = [said.index for said in read(events, 0, 0, view)]
        assert places == sorted(set(places))


@given(acts)
def test_the_end_is_told_however_late_one_comes(script: list[tuple[str, str]]) -> None:
    events = log_of(script)
    for place in range(len(events) + 3):
        log = LogView(RUN, "committed", place)
        log.prime(events, place)
        log.take([event for event in events if event.offset > place])
        assert log.finish is not None
