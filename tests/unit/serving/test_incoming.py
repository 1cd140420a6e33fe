"""Reading calls: bodies, events, and every shape of a memo."""

from __future__ import annotations

import pytest

from perdure.model import json
from perdure.model.errors import ErrorInfo, error_info
from perdure.model.json import Json
from perdure.model.ops import SLEEP, WAIT_FOR_EVENT, Memo
from perdure.serving.incoming import CallError, memo_of, parse_call, parse_events, parse_steps
from perdure.wire.memos import memo_of as written_memo

EVENT = {"name": "t/a", "data": {"x": 1}, "id": "e1", "ts": 5, "user": {}}


def body(**changes: Json) -> bytes:
    found = {"ctx": {"run_id": "01"}, "event": EVENT, "events": [EVENT], "steps": {}, "use_api": False, "version": -1}
    return json.encode({**found, **changes})


def test_a_call_is_read() -> None:
    ctx = {"run_id": "01", "attempt": 3, "fn_id": "F", "qi_id": "Q", "generation_id": 4, "unknown": [1]}
    call = parse_call(body(ctx=ctx, events=[EVENT, {**EVENT, "id": "e2", "user": {"id": 7}}], unknown=1))
    assert (call.ctx.attempt, call.ctx.qi_id, call.ctx.generation_id) == (3, "Q", 4)
    assert [(event.id, event.user) for event in call.events] == [("e1", None), ("e2", {"id": 7})]


def test_an_event_alone_is_enough() -> None:
    (event,) = parse_call(json.encode({"ctx": {"run_id": "01"}, "event": {"name": "a"}})).events
    assert (event.name, event.data) == ("a", {})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"{}", "ctx"),
        (body(ctx={}), "run_id"),
        (body(version=7), "version 7"),
        (body(event=None, events=[]), "event: is required"),
        (body(events=[{"data": {}}]), "event:"),
        (body(events=["x"]), "event: must be an object"),
        (body(steps=[]), "steps"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, words: str) -> None:
    with pytest.raises(CallError, match=words):
        parse_call(data)


def test_state_that_is_fetched_is_not_asked_of_the_call() -> None:
    call = parse_call(body(use_api=True, event={}, events=[], steps=None))
    assert call.use_api and not call.events
    assert parse_events(json.encode([EVENT]))[0].id == "e1"
    assert dict(parse_steps(b'{"h": {"data": 1}}')).keys() == {"h"}
    for wrong in (b"{}", b"[]", b"x"):
        with pytest.raises(CallError):
            parse_events(wrong)
    with pytest.raises(CallError):
        parse_steps(b"[]")


@pytest.mark.parametrize(
    ("memo", "expected"),
    [
        ({"data": {"data": 1, "name": "x"}}, Memo(b'{"data":1,"name":"x"}')),
        ({"data": None}, Memo(b"null")),
        (None, Memo(b"null")),
        (7, Memo(b"7")),
        (EVENT, Memo(json.encode(EVENT))),
        ({"data": 1, "error": None}, Memo(b"1")),
        ({"input": [1]}, None),
        ({"x": 1}, Memo(b'{"x":1}')),
        ({}, Memo(b"{}")),
    ],
)
def test_the_shape_of_a_memo_tells_what_it_is(memo: Json, expected: Memo | None) -> None:
    assert memo_of(json.encode(memo)) == expected


@pytest.mark.parametrize("error", [{"name": "E", "message": "m", "stack": "s"}, "just text", {"code": 5}, ["x"]])
def test_an_error_of_any_language_is_one(error: Json) -> None:
    memo = memo_of(json.encode({"error": error}))
    assert memo is not None and memo.failed
    assert isinstance(error_info(memo.data), ErrorInfo)


def test_sleeps_and_events_are_read_back() -> None:
    assert memo_of(written_memo(SLEEP, b"null", failed=False)) == Memo(b"null")
    memo = memo_of(written_memo(WAIT_FOR_EVENT, json.encode(EVENT), failed=False))
    assert memo is not None and json.decode(memo.data) == EVENT
