"""What the answers of apps mean, and of what stands in front of them (part C.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.json import Json, decode, encode
from perdure.wire.replies import Failed, Finished, Outcome, Reported, outcome, request_version, retry_after

SDK = {"x-inngest-sdk": "js:v4.24.0"}
NOW = 1_795_331_597_812


def answered(status: int, body: bytes = b"", **headers: str) -> Outcome:
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return outcome(status, {**SDK, **extra}, body, now=NOW, attempt=0)


@pytest.mark.parametrize(
    ("status", "body", "output"),
    [
        (200, b'{"a":1}', {"a": 1}),
        (200, b"", None),
        (200, b"hello there", "hello there"),
        (202, b"[1]", [1]),
        (200, b"null", None),
    ],
)
def test_a_success_is_the_result(status: int, body: bytes, output: Json) -> None:
    found = answered(status, body)
    assert isinstance(found, Finished) and decode(found.output) == output


@pytest.mark.parametrize("body", ['[{"op":"RunComplete","id":"x","data":1}]', [{"op": "RunComplete", "data": 1}]])
def test_a_stream_carries_its_answer_after_spaces(body: Json) -> None:
    found = answered(201, b"  \n  " + encode({"status": 206, "headers": {"X-Inngest-Sdk": "x"}, "body": body}))
    assert isinstance(found, Reported) and found.ops[0].data == b"1"


def test_a_stream_can_carry_a_failure() -> None:
    carried = encode({"status": 400, "headers": {"X-Inngest-No-Retry": "true"}, "body": '{"message":"m"}'})
    found = answered(201, b" " + carried)
    assert found == Failed(b'{"message":"m"}', fatal=True, cause="NonRetriableError")
    broken = answered(201, encode({"status": 200, "body": None, "error": "boom"}))
    assert broken == Failed(b'"boom"', cause="invalid status code: 500")
    assert isinstance(answered(201, b"  "), Failed)


@pytest.mark.parametrize(("header", "fatal"), [("true", True), ("false", False), ("", False)])
def test_an_error_is_final_where_the_app_says_so(header: str, fatal: bool) -> None:
    found = answered(400, b'{"name":"E","message":"m"}', x_inngest_no_retry=header)
    cause = "NonRetriableError" if fatal else "invalid status code: 400"
    assert found == Failed(b'{"name":"E","message":"m"}', fatal=fatal, cause=cause)


def test_a_worker_reports_its_last_failure_as_done() -> None:
    found = answered(200, b'{"message":"m"}', x_inngest_no_retry="true")
    assert found == Failed(b'{"message":"m"}', fatal=True, cause="NonRetriableError")


def test_an_error_without_a_body_says_its_status() -> None:
    found = answered(500)
    assert isinstance(found, Failed) and "HTTP 500" in decode(found.error)["message"]


@pytest.mark.parametrize("status", [200, 206, 299])
def test_a_success_of_something_else_is_a_failed_attempt(status: int) -> None:
    found = outcome(status, {}, b"<html>login</html>", now=NOW, attempt=0)
    assert isinstance(found, Failed) and not found.fatal
    error = decode(found.error)
    assert error["name"] == "not_sdk" and "x-inngest-sdk" in error["message"] and "login" in error["stack"]


def test_an_error_of_something_else_names_the_status_and_shows_the_body() -> None:
    found = outcome(404, {"content-type": "text/html"}, b"<html>nope</html>", now=NOW, attempt=0)
    assert isinstance(found, Failed) and not found.fatal
    error = decode(found.error)
    assert error["message"] == "Your server returned HTTP 404 before the SDK responded."
    assert error["name"] == "Server returned a fatal error"
    assert "text/html" in error["stack"] and "<html>nope</html>" in error["stack"]


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("2", 2000),
        ("", None),
        ("soon", None),
        ("99999999", None),
        ("Sun, 22 Nov 2026 07:13:22 GMT", 4188),
        ("2026-11-22T07:13:18Z", 188),
        ("Sun, 22 Nov 2020 07:13:22 GMT", 0),
    ],
)
def test_retry_after(text: str, millis: int | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == millis


def test_the_failed_step_of_an_answer_gets_its_headers() -> None:
    body = encode([{"op": "StepError", "id": "a", "error": {"message": "m"}}])
    found = answered(206, body, retry_after="3", x_inngest_no_retry="true")
    assert isinstance(found, Reported)
    assert found.ops[0].retry_after == 3000 and found.ops[0].no_retry


def test_a_result_that_is_too_large_is_final() -> None:
    found = answered(200, b'"' + b"x" * (4 * 1024 * 1024) + b'"')
    assert isinstance(found, Failed) and found.fatal and decode(found.error)["name"] == "output_too_large"


@pytest.mark.parametrize(("text", "version"), [("2", 2), ("", None), ("-1", None), ("abc", None), ("99999", None)])
def test_the_version_of_an_answer(text: str, version: int | None) -> None:
    assert request_version({"x-inngest-req-version": text}) == version


@given(
    st.integers(100, 999),
    st.dictionaries(
        st.sampled_from(["x-inngest-sdk", "x-inngest-no-retry", "retry-after", "content-type"]), st.text(max_size=12)
    ),
    st.one_of(st.binary(max_size=60), st.sampled_from([b"[]", b"{}", b"null", b"[null]", b'[{"op":"Sleep","id":1}]'])),
)
def test_whatever_is_answered_means_something(status: int, headers: dict[str, str], body: bytes) -> None:
    found = outcome(status, headers, body, now=NOW, attempt=0)
    if isinstance(found, Finished):
        decode(found.output)
    elif isinstance(found, Failed):
        decode(found.error)
