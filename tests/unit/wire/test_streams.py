"""Streams as server-sent events: what comes out of bodies however they are cut, and what subscribers are sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model import json
from perdure.model.records import RunStatus
from perdure.model.streams import Entry, StreamEvent
from perdure.wire.streams import EventParser, MalformedStreamError, entry_of, event_bytes, metadata, response_of

STEP = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(st.lists(TEXTS), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_events_come_out_whole_however_a_body_is_cut(texts: list[str], line: str, data: st.DataObject) -> None:
    body = "".join(f"event: x{line}data: {json.encode(text).decode()}{line}{line}" for text in texts).encode() + b"ev"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    parser = EventParser(1000)
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    found = [event for piece in pieces for event in parser.feed(piece)]
    assert found == [(b"x", json.encode(text)) for text in texts]


def test_comments_ids_and_events_without_data_are_passed_over() -> None:
    parser = EventParser(1000)
    assert parser.feed(b":\n\nid: 7\nretry: 3\nevent:a\ndata:1\ndata: 2\n\nevent: b\n\n\n\n") == [(b"a", b"1 2")]


def test_an_event_without_end_is_refused() -> None:
    parser = EventParser(100)
    assert parser.feed(b"data: " + b"x" * 50) == []
    with pytest.raises(MalformedStreamError, match="more than 100 bytes"):
        parser.feed(b"x" * 50)


@pytest.mark.parametrize(
    ("name", "data", "entry"),
    [
        (b"inngest.stream", b'{"data": 1.50, "hashedStepId": "%s"}' % STEP.encode(), Entry("data", STEP, b"1.50")),
        (b"inngest.stream", b'{"data":null}', Entry("data", None, b"null")),
        (b"inngest.stream", b"{}", Entry("data", None, b"")),
        (b"inngest.commit", b'{"hashedStepId":"%s"}' % STEP.encode(), Entry("commit", STEP)),
        (b"inngest.rollback", b'{"hashedStepId":null}', Entry("rollback")),
        (b"inngest.metadata", b'{"runId":"r"}', None),
        (b"inngest.redirect_info", b"{", None),
        (b"", b"1", None),
    ],
)
def test_what_apps_say(name: bytes, data: bytes, entry: Entry | None) -> None:
    assert entry_of(name, data) == entry


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"inngest.stream", b"{"),
        (b"inngest.stream", b"[]"),
        (b"inngest.stream", b'{"data":"\xff"}'),
        (b"inngest.commit", b'{"hashedStepId":7}'),
        (b"inngest.commit", b'{"hashedStepId":"a\\"b"}'),
        (b"inngest.response", b'{"status":"great","response":{}}'),
        (b"inngest.response", b'{"status":"failed"}'),
    ],
)
def test_what_apps_may_not_say(name: bytes, data: bytes) -> None:
    with pytest.raises(MalformedStreamError, match=r"cannot be used|not the hash of a step"):
        entry_of(name, data)


def test_what_subscribers_are_sent() -> None:
    sent = [
        event_bytes(StreamEvent(1, "data", STEP, b'{"a":1}')),
        event_bytes(StreamEvent(2, "data", STEP, b"")),
        event_bytes(StreamEvent(3, "data", None, b"")),
        event_bytes(StreamEvent(4, "commit", None, b"")),
        event_bytes(StreamEvent(1_000_005, "rollback", STEP, b"")),
        event_bytes(StreamEvent(6, "response", None, b'{"status":"failed"}')),
        metadata("r"),
    ]
    assert b"".join(sent).decode() == (
        f'id: 1\nevent: inngest.stream\ndata: {{"data":{{"a":1}},"hashedStepId":"{STEP}"}}\n\n'
        f'id: 2\nevent: inngest.stream\ndata: {{"hashedStepId":"{STEP}"}}\n\n'
        "id: 3\nevent: inngest.stream\ndata: {}\n\n"
        'id: 4\nevent: inngest.commit\ndata: {"hashedStepId":null}\n\n'
        f'id: 1000005\nevent: inngest.rollback\ndata: {{"hashedStepId":"{STEP}"}}\n\n'
        'id: 6\nevent: inngest.response\ndata: {"status":"failed"}\n\n'
        'event: inngest.metadata\ndata: {"runId":"r"}\n\n'
    )


@pytest.mark.parametrize(
    ("status", "output", "told"),
    [
        (RunStatus.COMPLETED, b'{"n":1}', ("succeeded", 200, '{"n":1}', {"content-type": "application/json"})),
        (
            RunStatus.COMPLETED,
            b'{"status":202,"headers":{"x-a":"b"},"body":"made","version":2}',
            ("succeeded", 202, "made", {"x-a": "b"}),
        ),
        (
            RunStatus.FAILED,
            b'{"name":"ValueError","message":"no \\"go\\"","stack":"..."}',
            ("failed", 500, '"no \\"go\\""', {"content-type": "application/json"}),
        ),
        (
            RunStatus.CANCELLED,
            b"null",
            ("failed", 410, '"the run was cancelled"', {"content-type": "application/json"}),
        ),
    ],
)
def test_the_response_is_made_of_how_a_run_ended(status: RunStatus, output: bytes, told: tuple[object, ...]) -> None:
    made = json.decode(response_of(status, output))
    response = made["response"]
    assert (made["status"], response["statusCode"], response["body"], response["headers"]) == told
