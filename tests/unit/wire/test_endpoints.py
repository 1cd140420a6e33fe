"""Requests that become runs, as they are reported, made again and answered."""

from __future__ import annotations

import base64

import pytest

from perdure.model.json import Json, encode
from perdure.wire.endpoints import (
    Answer,
    EndpointError,
    NewRun,
    answer_of,
    entry_headers,
    original_body,
    original_url,
    parse_new_run,
    signed_part,
)

NOW = 1_795_331_236_740
RUN = "01M81198VWM7D9852ZF7Y29THA"
REQUEST: dict[str, Json] = {
    "domain": "http://127.0.0.1:29540", "method": "GET", "path": "/sync-json", "query_params": "q=1&z=a+b", "body": "",
    "content_type": "", "ip": "", "fn": "",
}  # fmt: skip
STEP: dict[str, Json] = {
    "id": "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8", "mode": "sync", "op": "StepRun", "name": "a", "displayName": "a",
    "userland": {"id": "a"}, "opts": {}, "rawArgs": ["a", None], "promise": {}, "fulfilled": True, "handled": True,
    "middleware": {"stepInfo": {"memoized": False}}, "data": {"n": 1},
    "timing": {"a": 1_795_331_236_733_000_000, "b": 0},
}  # fmt: skip


def reported(steps: Json = (), retries: Json = 3, run_id: Json = RUN, **request: Json) -> bytes:
    event = {"name": "inngest/http.request", "data": {**REQUEST, **request}}
    body = {"run_id": run_id, "event": event, "steps": steps, "ts": NOW, "request_version": 2, "retries": retries}
    return encode(body)


def parsed(**request: Json) -> NewRun:
    return parse_new_run(reported(**request), NOW)


def test_the_first_report_of_a_run_as_the_sdk_sends_it() -> None:
    new = parse_new_run(reported([STEP]), NOW)
    assert (new.run_id, new.retries, new.name, new.domain) == (RUN, 3, "GET /sync-json", "http://127.0.0.1:29540")
    [op] = new.ops
    assert (op.op, op.name, op.data, op.started_at) == ("StepRun", "a", b'{"n":1}', 1_795_331_236_733)
    assert original_url(new.request) == "http://127.0.0.1:29540/sync-json?q=1&z=a+b"


def test_an_error_of_the_function_that_says_nothing_is_one() -> None:
    """What the SDK makes of an error that is thrown outside of a step: JSON knows no such object."""
    complete = "0737c22d3bfae812339732d14d8c7dbd6dc4e09c"
    [op] = parse_new_run(reported([{"id": complete, "op": "StepError", "error": {}}]), NOW).ops
    assert op.op == "RunError"


@pytest.mark.parametrize(
    ("asked", "delay"), [(2, 2000), (0, 0), (1.5, 1500), ("2", None), (True, None), (-1, None), (1e300, None)]
)
def test_a_step_that_failed_may_ask_for_its_next_attempt(asked: Json, delay: int | None) -> None:
    failed = {"id": "a", "op": "StepError", "error": {"message": "m"}, "retry_after": asked}
    [op] = parse_new_run(reported([failed]), NOW).ops
    assert op.retry_after == delay


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"run_id": "\xff"}', "cannot be read"),
        (encode({"run_id": RUN}), "event"),
        (reported(run_id=""), "run_id"),
        (reported(run_id="run-1"), "run_id"),
        (reported(run_id=5), "run_id"),
        (reported(retries="3"), "retries"),
        (reported(method="BREW"), "event.data.method"),
        (reported(method=None), "event.data.method"),
        (reported(path=""), "event.data.path"),
        (reported(query_params=["a"]), "event.data.query_params"),
        (reported(body={"a": 1}), "event.data.body"),
        (reported(body="%", body_encoding="base64"), "event.data.body"),
        (reported(body="é", body_encoding="base64"), "event.data.body"),
    ],
)
def test_a_report_that_cannot_be_taken_names_its_field(body: bytes, field: str) -> None:
    with pytest.raises(EndpointError, match=field):
        parse_new_run(body, NOW)


@pytest.mark.parametrize(
    "domain",
    [
        "", "app.test", "ftp://app.test", "http://", "https:///x", "http://a/b", "http://a?b", "http://a#b", "http://a:b",
        "http://me:secret@a", "http://a b", "http://a\n", "http://a\\@b", "file:///etc/passwd", "http://[::1", 5,
    ],
)  # fmt: skip
def test_a_domain_is_a_scheme_and_a_host(domain: Json) -> None:
    with pytest.raises(EndpointError, match="domain"):
        parsed(domain=domain)


@pytest.mark.parametrize(
    "domain", ["http://a", "https://a.example.com/", "http://[::1]:3000", "https://bücher.example"]
)
def test_domains(domain: str) -> None:
    assert parsed(domain=domain).domain == domain.rstrip("/")


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (1, 1), (20, 20), (21, 20), (10**30, 20), (-1, 3), (-(10**30), 3)])
def test_retries_are_kept_within_what_there_can_be(given: int, kept: int) -> None:
    assert parse_new_run(reported(retries=given), NOW).retries == kept


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "GET /"),
        ("/users/123", "GET /users/:id"),
        ("/users/9a1b2c3d-1111-2222-3333-444455556666/x", "GET /users/:id/x"),
        (f"/runs/{RUN}", "GET /runs/:id"),
        ("/v1/users", "GET /v1/users"),
    ],
)
def test_paths_that_name_things_are_one_function(path: str, name: str) -> None:
    assert parsed(path=path).name == name
    assert parsed(path=path, fn="mine").name == "mine"


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        ({"body": '{"a": 1}'}, b'{"a": 1}'),
        ({"body": "aGVsbG8="}, b"aGVsbG8="),
        ({"body": base64.b64encode(b"\x00\xff").decode(), "body_encoding": "base64"}, b"\x00\xff"),
        ({"body": "é"}, "é".encode()),
        ({}, b""),
    ],
)
def test_a_body_is_decoded_only_where_the_app_says_that_it_is_encoded(request_: dict[str, Json], body: bytes) -> None:
    assert original_body(parsed(method="POST", **request_).request) == body


@pytest.mark.parametrize(
    ("request_", "url"),
    [
        ({"path": "/a", "query_params": ""}, "/a"),
        ({"path": "a", "query_params": "x=1"}, "/a?x=1"),
        ({"path": "//evil.test/a", "query_params": ""}, "//evil.test/a"),
        ({"path": "@evil.test", "query_params": ""}, "/@evil.test"),
        ({"path": "/a?b#c", "query_params": "d=#e"}, "/a%3Fb%23c?d=%23e"),
    ],
)
def test_a_request_goes_to_where_it_came_from(request_: dict[str, Json], url: str) -> None:
    assert original_url(parsed(**request_).request) == "http://127.0.0.1:29540" + url


@pytest.mark.parametrize(
    ("request_", "signed"),
    [
        ({"method": "GET"}, b""),
        ({"method": "POST", "body": '{"b": 1.0, "a": "é"}'}, '{"a":"é","b":1}'.encode()),
        ({"method": "PUT", "body": "[1, 2]"}, b"[1,2]"),
        ({"method": "PATCH", "body": '{"a": 1}'}, b""),
        ({"method": "DELETE", "body": '{"a": 1}'}, b""),
        ({"method": "POST", "body": "no json"}, b"no json"),
        ({"method": "PATCH", "body": "AAE=", "body_encoding": "base64"}, b"\x00\x01"),
    ],
)
def test_what_is_signed_of_a_repeated_request(request_: dict[str, Json], signed: bytes) -> None:
    request = parsed(**request_).request
    assert signed_part(request, original_body(request)) == signed


def _entry(step_id: str | None = None, plan: bool = False, attempt: int = 0, **request: Json) -> dict[str, str]:
    return entry_headers(
        {**REQUEST, **request}, run_id=RUN, request_id="R", job_id="J", attempt=attempt, step_id=step_id, plan=plan
    )


def test_the_headers_of_a_repeated_request_are_those_of_the_protocol() -> None:
    assert _entry() == {
        "user-agent": "perdure", "content-type": "application/json", "x-run-id": RUN, "x-inngest-signature": "",
        "x-inngest-req-version": "2", "x-request-id": "R", "x-inngest-job-id": "J", "x-inngest-generation-id": "1",
    }  # fmt: skip
    assert _entry("86f7", plan=True, attempt=1, content_type="text/csv").items() >= {
        "x-inngest-step-id": "86f7", "x-inngest-force-step-plan": "true", "x-inngest-generation-id": "2",
        "content-type": "text/csv",
    }.items()  # fmt: skip


def test_headers_that_the_app_kept_cannot_speak_for_the_server() -> None:
    kept = {
        "Authorization": "Bearer a", "X-Tenant": "t", "Host": "evil.test", "Content-Length": "0", "Connection": "close",
        "Transfer-Encoding": "chunked", "X-Inngest-Step-Id": "b", "x-inngest-force-step-plan": "true", "X-Run-Id": "r",
        "X-Inngest-Signature": "t=1&s=2", "Proxy-Authorization": "p", "bad name": "x", "x-bad": "a\r\nx-more: b",
        "user-agent": "curl", "Accept-Encoding": "br",
    }  # fmt: skip
    assert _entry(headers=kept) == {**_entry(), "authorization": "Bearer a", "x-tenant": "t"}
    assert _entry(headers=["a"], content_type="a\nb") == _entry()


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ({"status": 201, "headers": {"X-A": "b"}, "body": "made"}, Answer(201, [("x-a", "b")], b"made")),
        ({"status": 204, "headers": {}, "body": "null"}, Answer(204, [], b"")),
        ({"status": 304, "body": "x"}, Answer(304, [], b"")),
        ({"status": 500, "body": "é"}, Answer(500, [], "é".encode())),
        ({"status": 200, "body": {"a": 1}}, Answer(200, [], b'{"a":1}')),
        ({"status": 200}, Answer(200, [], b"")),
        ({"status": 200, "body": "", "body_b64": "AP8="}, Answer(200, [], b"\x00\xff")),
        ({"status": 200, "body": "", "body_b64": "é"}, Answer(200, [], b"")),
        (
            {"status": 200, "headers": {"set-cookie": "b"}, "headers_list": [["Set-Cookie", "a"], ["Set-Cookie", "b"]]},
            Answer(200, [("set-cookie", "a"), ("set-cookie", "b")], b""),
        ),
        ({"status": 200, "headers_list": [["a"], 5, "ab", ["b", "c", "d"]]}, Answer(200, [], b"")),
        (
            {"status": 200, "headers": {"Content-Length": "9", "Upgrade": "h2c", "a b": "c", "d": "e\r\nf: g"}},
            Answer(200, [], b""),
        ),
        ({"status": 200, "headers": {"Access-Control-Allow-Origin": "*", "Date": "now"}}, Answer(200, [], b"")),
    ],
)  # fmt: skip
def test_a_result_with_a_status_is_an_answer(output: Json, answer: Answer) -> None:
    assert answer_of(encode(output)) == answer


@pytest.mark.parametrize(
    "output", [b"null", b'"text"', b"[1]", b'{"a":1}', b'{"status":"done"}', b'{"status":true}', b'{"status":101}',
    b'{"status":0}', b'{"status":600}', b'{"status":200.5}', b'{"status":-1}'],
)  # fmt: skip
def test_any_other_result_is_json(output: bytes) -> None:
    assert answer_of(output) == Answer(200, [("content-type", "application/json")], output)
