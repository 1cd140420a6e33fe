"""The WSGI door by itself: bodies with and without a length, paths, and what is too large."""

from __future__ import annotations

import io
from wsgiref.util import setup_testing_defaults

import pytest

from perdure import App, Context
from perdure.model.json import Json, decode, encode
from perdure.serving import wsgi

CALL = encode({"ctx": {"run_id": "01"}, "event": {"name": "a", "data": {"x": "ü"}}, "steps": {}, "version": 2})


def shop() -> App:
    app = App("shop")

    @app.function("f", trigger="a")
    async def f(ctx: Context) -> Json:
        return ctx.event.data

    return app


def request(method: str, body: bytes = b"", **environ: Json) -> tuple[str, dict[str, str], bytes]:
    found: dict[str, Json] = {
        "REQUEST_METHOD": method,
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
    }
    found |= {"SCRIPT_NAME": "/api", "PATH_INFO": "/inngest", "QUERY_STRING": "fnId=shop-f&stepId=step"} | environ
    setup_testing_defaults(found)
    started: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Json = None) -> Json:
        started.append((status, dict(headers)))

    answered = b"".join(wsgi(shop(), is_dev=True)(found, start_response))
    return *started[0], answered


def test_a_call_is_answered() -> None:
    status, headers, body = request("POST", CALL)
    assert status == "200 OK" and decode(body) == {"x": "ü"}
    assert headers["content-length"] == str(len(body)) and headers["x-inngest-framework"] == "wsgi"


def test_a_body_in_chunks_has_no_length() -> None:
    chunked = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
    assert decode(request("POST", CALL, **chunked)[2]) == {"x": "ü"}
    assert request("POST", CALL, CONTENT_LENGTH="")[0] == "400 Bad Request"


def test_head_and_get() -> None:
    assert request("HEAD")[2] == b"" and decode(request("GET")[2])["function_count"] == 1


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.serving.blocking.MAX_REQUEST_BYTES", 10)
    assert request("POST", CALL)[0].startswith("413 ")


def test_the_address_is_that_of_the_request() -> None:
    _, _, body = request("PUT", HTTP_HOST="shop.test:81", HTTP_X_INNGEST_SYNC_KIND="in_band", PATH_INFO="/h\xc3\xbc")
    assert decode(body)["url"] == "http://shop.test:81/api/h%C3%BC"
