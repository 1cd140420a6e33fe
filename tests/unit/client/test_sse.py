"""The framing of server-sent events."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.client import StreamError, sse
from perdure.client.sse import ServerSentEvent, SseParser


def parsed(*pieces: bytes) -> list[ServerSentEvent]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_read(end: bytes) -> None:
    lines = [b"event: e", b"data: 1", b"data:2", b"id: 7", b"", b"data", b"", b""]
    assert parsed(end.join(lines)) == [ServerSentEvent("e", "1\n2", "7"), ServerSentEvent("message", "")]


def test_what_is_no_event_is_passed_over() -> None:
    text = b"\xef\xbb\xbf: comment\nevent: e\n\nretry: soon\nfoo: bar\nid: 1\x00\ndata:  x\n\ndata: cut off\n"
    assert parsed(text) == [ServerSentEvent("message", " x")]


def test_an_id_is_remembered_though_the_event_has_no_data() -> None:
    parser = SseParser("3")
    assert parser.feed(b"data: x\n\n") == [ServerSentEvent("message", "x", None)]
    assert parser.last_id == "3"
    assert parser.feed(b"id: 9\nretry: 250\n\n") == []
    assert (parser.last_id, parser.retry) == ("9", 250)


def test_an_event_that_is_cut_off_leaves_the_id_before_it() -> None:
    parser = SseParser()
    parser.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y\n")
    assert parser.last_id == "1"


STREAM = "event: é\r\ndata: 1\r\n\r\n: c\rid: 4\rdata: \N{GRINNING FACE}\r\rdata: a\ndata: b\n\n".encode()


@given(st.sets(st.integers(min_value=1, max_value=len(STREAM) - 1)))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(edges)]
    assert parsed(*pieces) == [
        ServerSentEvent("é", "1"),
        ServerSentEvent("message", "\N{GRINNING FACE}", "4"),
        ServerSentEvent("message", "a\nb"),
    ]


@given(st.lists(st.binary(max_size=30)))
def test_no_bytes_break_it(pieces: list[bytes]) -> None:
    assert parsed(*pieces) == parsed(b"".join(pieces))


@pytest.mark.parametrize("piece", [b"x" * 40, b"data: " + b"x" * 40 + b"\n"])
def test_what_an_event_may_hold_is_bounded(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    parser = SseParser()
    with pytest.raises(StreamError, match="larger than 100 bytes"):
        for _ in range(10):
            parser.feed(piece)
