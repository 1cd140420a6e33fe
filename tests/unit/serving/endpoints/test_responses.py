"""What handlers return, as answers: values, responses, and what is too large."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from perdure.model.values import UnserializableError
from perdure.serving.endpoints.requests import EndpointRequest
from perdure.serving.endpoints.responses import (
    Capture,
    Captured,
    ResponseTooLargeError,
    capture,
    of_exception,
    of_value,
    render,
)

SCOPE = {
    "type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b"", "scheme": "http",
    "server": ("a.test", 80), "asgi": {"spec_version": "2.3"},
    "extensions": {"http.response.pathsend": {}, "http.response.debug": {}},
}  # fmt: skip


def request() -> Request:
    return EndpointRequest(dict(SCOPE), b"").replayed("R")


async def test_headers_of_one_name_and_bytes_are_exact() -> None:
    response = Response(b"\xff\x00", 203, {"x-a": "1"}, "application/octet-stream")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    found = await capture(response, request(), 100)
    result = found.result()
    assert (result["status"], result["body"], result["body_b64"]) == (203, "", "/wA=")
    assert [pair[0] for pair in result["headers_list"]] == ["x-a", "content-type", "set-cookie", "set-cookie"]
    assert result["headers"]["set-cookie"].startswith("b=2")


async def test_text_is_text() -> None:
    found = await capture(PlainTextResponse("grüß"), request(), 100)
    assert found.result() == {
        "status": 200, "headers": {"content-type": "text/plain; charset=utf-8"}, "body": "grüß", "version": 2,
    }  # fmt: skip


async def test_responses_of_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("in a file")

    async def pieces() -> AsyncIterator[str]:
        yield "one"
        yield "two"

    done: list[int] = []
    background = BackgroundTask(done.append, 1)
    assert (await capture(FileResponse(file), request(), 100)).body == b"in a file"
    assert (await capture(StreamingResponse(pieces(), background=background), request(), 100)).body == b"onetwo"
    assert (await capture(RedirectResponse("/y"), request(), 100)).headers["location"] == "/y"
    assert (await capture(Captured(204, (), b""), request(), 0)).status == 204
    assert done == [1]


async def test_what_is_too_large_is_refused_or_not_kept() -> None:
    with pytest.raises(ResponseTooLargeError, match="max_response"):
        await capture(PlainTextResponse("x" * 11), request(), 10)
    found = await render(PlainTextResponse("x" * 11), request(), Capture(10, strict=False))
    assert found.result()["truncated"] is True and found.body == b""


def test_a_value_that_is_no_json() -> None:
    with pytest.raises(UnserializableError, match="what the endpoint returns"):
        of_value(object())


def test_exceptions_that_are_answers() -> None:
    found = of_exception(HTTPException(418, "short", {"X-A": "1"}))
    assert found is not None and (found.status, found.body, found.headers["x-a"]) == (418, b'{"detail":"short"}', "1")
    assert of_exception(ValueError()) is None
    empty = of_exception(HTTPException(304))
    assert empty is not None and empty.body == b""
