"""What an endpoint's app says of a request and of its answer, a server understands to the byte."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from perdure.model.json import encode
from perdure.serving.endpoints.requests import EndpointRequest
from perdure.serving.endpoints.responses import Captured
from perdure.wire.endpoints import answer_of, original_body, original_url

NAMES = st.sampled_from(["set-cookie", "x-a", "content-type", "vary", "x-b"])
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(st.integers(200, 599), st.lists(st.tuples(NAMES, VALUES), max_size=6), st.binary(max_size=200))
def test_answers(status: int, pairs: list[tuple[str, str]], body: bytes) -> None:
    told = Captured(status, tuple(pairs), body)
    found = answer_of(encode(told.result()))
    # These have none, whatever was said.
    expected = b"" if status in (204, 205, 304) else body
    assert (found.status, found.headers, found.body) == (status, pairs, expected)


@given(
    st.binary(max_size=200),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=20),
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
)
def test_requests(body: bytes, path: str, query: str, method: str) -> None:
    raw = quote("/" + path).encode()
    scope = {
        "type": "http", "method": method, "scheme": "https", "path": "/" + path, "raw_path": raw, "root_path": "",
        "query_string": query.encode(), "headers": [(b"host", b"shop.test:8443")], "server": ("10.0.0.1", 80),
    }  # fmt: skip
    data = EndpointRequest(scope, body).event_data("", (), None, None)
    assert original_body(data) == body
    assert original_url(data) == f"https://shop.test:8443{raw.decode()}{'?' + query if query else ''}"
