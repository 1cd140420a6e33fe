"""What a streamed event says, and the final answer."""

from __future__ import annotations

import pytest

from perdure.client import Commit, Data, Metadata, Rollback, StreamError, StreamResponse
from perdure.client.sse import ServerSentEvent
from perdure.client.stream_shapes import RedirectInfo, parse
from perdure.model.json import Json


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("metadata", '{"runId":"R","new":1}', Metadata("R")),
        ("stream", '{"data":{"a":[1]},"hashedStepId":"s"}', Data({"a": [1]}, "s")),
        ("stream", '{"data":null}', Data(None)),
        ("stream", "{}", Data(None)),
        ("commit", '{"hashedStepId":null}', Commit(None)),
        ("rollback", '{"hashedStepId":"s"}', Rollback("s")),
        ("redirect_info", '{"runId":"R","url":"/x"}', RedirectInfo("/x", "R")),
        ("redirect_info", '{"url":"/x","outputUrl":"/y"}', RedirectInfo("/x", output_url="/y")),
        ("stream", "[1]", None),
        ("stream", "null", None),
        ("other", "{", None),
    ],
)
def test_an_event_is_understood(name: str, text: str, told: Json) -> None:
    assert parse(ServerSentEvent(f"inngest.{name}", text)) == told


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stream", "{", "is not JSON"),
        ("metadata", "{}", "missing required field `runId`"),
        ("stream", '{"data":1,"hashedStepId":2}', "unknown shape"),
        ("redirect_info", '{"runId":"R"}', "`url`"),
        ("response", '{"status":"succeeded"}', "`response`"),
        ("response", '{"status":"succeeded","response":{"statusCode":200,"body_b64":"?"}}', "unknown shape"),
    ],
)
def test_what_cannot_be_read_is_an_error(name: str, text: str, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        parse(ServerSentEvent(f"inngest.{name}", text))


def test_an_event_of_another_protocol_is_skipped() -> None:
    assert parse(ServerSentEvent("message", "{}")) is None


def test_the_fields_that_carry_everything_come_first() -> None:
    text = (
        '{"status":"failed","response":{"statusCode":500,"body":"lossy","headers":{"set-cookie":"b=2"},'
        '"body_b64":"/w==","headers_list":[["Set-Cookie","a=1"],["Set-Cookie","b=2"]]}}'
    )
    response = parse(ServerSentEvent("inngest.response", text))
    assert isinstance(response, StreamResponse)
    assert (response.status_code, response.failed, response.content) == (500, True, b"\xff")
    assert response.headers.getall("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("text/plain", "é".encode(), "é"),
        ('text/plain; Charset="latin-1"; x=y', "é".encode("latin-1"), "é"),
        ("text/plain; charset=nonsense", "é".encode(), "é"),
        ("text/plain", b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_the_text_of_an_answer(content_type: str, content: bytes, text: str) -> None:
    assert StreamResponse(200, [("content-type", content_type)], content).text == text


def test_an_answer_that_is_no_json_says_so() -> None:
    with pytest.raises(ValueError, match="malformed"):
        StreamResponse(200, [], b"<html>").json()
