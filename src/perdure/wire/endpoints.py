"""Requests that become runs (Durable Endpoints): how they are reported, made again, and answered.

An app answers a request itself and reports each step meanwhile; the report of the first begins the run. When the run
must wait, the server makes the same request again, marked so that the SDK knows it for a call of the run. The result
of such a run is an HTTP answer. The facts are those of the protocol's `/v1/checkpoint`.
"""

from __future__ import annotations

import base64
import re
from typing import Final

import msgspec

from perdure.model.errors import PerdureError
from perdure.model.ids import is_ulid
from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import InvalidJsonError, Json, decode
from perdure.model.limits import MAX_RETRIES
from perdure.model.ops import RUN_COMPLETE, Op
from perdure.wire import headers as names
from perdure.wire.ops import parse_reported

HTTP_REQUEST: Final = "inngest/http.request"
"""The name of the event of such a run."""
DEFAULT_RETRIES: Final = 3

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ORIGIN: Final = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/\\?#@:\[\]]+)(:\d{1,5})?/*", re.ASCII)
"""A scheme and a host: with more than that, a request would go elsewhere than it came from."""
_IDENTIFIER: Final = re.compile(r"\d+|[0-9a-fA-F]{16,}|[0-9a-fA-F-]{36}|[0-9A-HJKMNP-TV-Z]{26}")


class EndpointError(PerdureError):
    """A report that cannot be taken; the text names the field and the fix."""


class NewRun(msgspec.Struct):
    """The first report of a run: the request as the app saw it, and what is done of it by now.

    `request` is the data of the run's event: domain, method, path, query_params, body (base64 where `body_encoding`
    says so), content_type, ip, fn. `goes_on`: a step that failed for good does not end the request.
    """

    run_id: str
    request: dict[str, Json]
    retries: int
    ops: list[Op]
    goes_on: bool = False

    @property
    def domain(self) -> str:
        domain: str = self.request["domain"]
        return domain

    @property
    def name(self) -> str:
        """The function of the request: the id that the app gave, or its method and path without identifiers.

        Paths that name things, such as /orders/17, would otherwise be a function each.
        """
        if self.request.get("fn"):
            return str(self.request["fn"])
        parts = [":id" if _IDENTIFIER.fullmatch(part) else part for part in self.request["path"].split("/")]
        return f"{self.request['method']} {'/'.join(parts)}"


class _Event(msgspec.Struct):
    data: dict[str, Json]
    name: str = HTTP_REQUEST


class _NewRun(msgspec.Struct):
    run_id: str
    event: _Event
    retries: int = DEFAULT_RETRIES
    goes_on: Json = None


class _Reported(msgspec.Struct):
    goes_on: Json = None


_new_run = msgspec.json.Decoder(_NewRun)
_reported = msgspec.json.Decoder(_Reported)


def parse_new_run(body: bytes, now: int) -> NewRun:
    """The body of `POST /v1/checkpoint`. Raises `EndpointError`, `MalformedOpsError`, `FatalOpError`."""
    try:
        found = _new_run.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EndpointError(f"the report cannot be read: {error}") from error
    if not is_ulid(found.run_id):
        raise EndpointError(f"run_id: must be a ULID, got {found.run_id[:40]!r}")
    request = {**found.event.data}
    for field in ("domain", "method", "path"):
        if not isinstance(request.get(field), str) or not request[field]:
            raise EndpointError(f"event.data.{field}: is required, as text")
    for field in ("query_params", "body", "content_type", "ip", "fn"):
        if not isinstance(request.setdefault(field, ""), str):
            raise EndpointError(f"event.data.{field}: must be a text")
    if not _ORIGIN.fullmatch(request["domain"]):
        raise EndpointError(
            "event.data.domain: must be a scheme and a host, such as https://api.example.com, and nothing else"
        )
    if request["method"].upper() not in _METHODS:
        raise EndpointError(f"event.data.method: must be one of {', '.join(sorted(_METHODS))}")
    request["method"], request["domain"] = request["method"].upper(), request["domain"].rstrip("/")
    original_body(request)
    ops = reported_ops(body, now)
    retries = max(0, min(found.retries, MAX_RETRIES)) if found.retries >= 0 else DEFAULT_RETRIES
    return NewRun(found.run_id, request, retries, ops, found.goes_on is True)


def goes_on(body: bytes) -> bool:
    """Whether a report that could be read is of an app whose request goes on after a step that failed for good."""
    return _reported.decode(body).goes_on is True


def reported_ops(body: bytes, now: int) -> list[Op]:
    """The operations that a report tells. Raises `EndpointError`, `MalformedOpsError`, `FatalOpError`."""
    ops = parse_reported(body, now)
    for op in ops:
        if op.op == RUN_COMPLETE and op.data:
            check_result(op.data)
    return ops


def original_body(request: dict[str, Json]) -> bytes:
    """The body of the request, as it came. Raises `EndpointError`."""
    text: str = request.get("body") or ""
    if request.get("body_encoding") != "base64":
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise EndpointError(f"event.data.body: is no base64, as event.data.body_encoding says: {error}") from error


def original_url(request: dict[str, Json]) -> str:
    """The URL of the request."""
    path = "/" + request["path"].removeprefix("/").replace("?", "%3F").replace("#", "%23")
    query = (request.get("query_params") or "").replace("#", "%23")
    return f"{request['domain']}{path}{'?' + query if query else ''}"


def signed_part(request: dict[str, Json], body: bytes) -> bytes:
    """What the signature of a repeated request is made over: SDKs verify bodies of POST and PUT only, canonical.

    A request of an app that says how its body is encoded is signed as it is.
    """
    if request.get("body_encoding"):
        return body
    if request["method"] not in ("POST", "PUT") or not body:
        return b""
    try:
        return canonical(decode(body))
    except (InvalidJsonError, CanonicalJsonError):
        return body


def entry_headers(
    request: dict[str, Json],
    *,
    run_id: str,
    request_id: str,
    job_id: str,
    attempt: int,
    step_id: str | None,
    plan: bool,
) -> dict[str, str]:
    """The headers of a repeated request. The signature is there even if it is empty: it marks such a request.

    Of the request's own, those that the app told, but for what is between two hops or a word of the protocol.
    """
    kept = request.get("headers")
    headers = {
        str(key).lower(): str(value)
        for key, value in (kept.items() if isinstance(kept, dict) else ())
        if _can_be_sent(str(key), str(value)) and not _is_ours(str(key).lower())
    }
    kind = request.get("content_type") or ""
    headers |= {
        "user-agent": "perdure",
        "content-type": kind if kind and kind.isprintable() else "application/json",
        names.RUN_ID: run_id,
        names.SIGNATURE: "",
        names.REQ_VERSION: "2",
        names.REQUEST_ID: request_id,
        names.JOB_ID: job_id,
        names.GENERATION_ID: str(attempt + 1),
    }
    if plan:
        headers[names.FORCE_STEP_PLAN] = "true"
    if step_id is not None:
        headers[names.STEP_ID] = step_id
    return headers


class Answer(msgspec.Struct):
    """An HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


_DROPPED: Final = frozenset(
    {
        "content-length", "transfer-encoding", "te", "trailer", "connection", "keep-alive", "upgrade",
        "proxy-connection", "date", "server",
    }
)  # fmt: skip
"""What belongs to one connection, or is written by whoever answers."""
_OURS: Final = frozenset({"host", "expect", "accept-encoding", "x-run-id", "x-request-id"})
_BODILESS: Final = frozenset({204, 205, 304})


def answer_of(output: bytes) -> Answer:
    """The HTTP answer that a run's result stands for: one with a status is one; any other is JSON.

    Who may read it is the server's to say (CORS), and it cannot say so twice.

    >>> answer_of(b'{"status": 201, "headers": {"x-a": "b"}, "body": "made"}')
    Answer(status=201, headers=[('x-a', 'b')], body=b'made')
    """
    value = decode(output)
    status = value.get("status") if isinstance(value, dict) else None
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        return Answer(200, [("content-type", "application/json")], output)
    given = value.get("headers_list")
    if not isinstance(given, list):
        found = value.get("headers")
        given = list(found.items()) if isinstance(found, dict) else []
    pairs = [
        (str(pair[0]).lower(), str(pair[1]))
        for pair in given
        if isinstance(pair, list | tuple) and len(pair) == 2 and _can_be_sent(str(pair[0]), str(pair[1]))
    ]
    pairs = [pair for pair in pairs if not pair[0].startswith("access-control-")]
    return Answer(status, pairs, b"" if status in _BODILESS else _body(value))


_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _can_be_sent(name: str, value: str) -> bool:
    """Whether a pair is a header, and one that is the app's to set."""
    return _NAME.fullmatch(name) is not None and value.isprintable() and name.lower() not in _DROPPED


def check_result(output: bytes) -> None:
    """Refuses a result that says of itself what it is not. Raises `EndpointError`."""
    value = decode(output)
    if isinstance(value, dict) and "body_b64" in value and _decoded(value["body_b64"]) is None:
        raise EndpointError("data.body_b64: must be base64, as text; leave it out where body has all")


def _decoded(encoded: Json) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except ValueError:
        return None


def _is_ours(name: str) -> bool:
    """Whether a header of a repeated request is for the server to set."""
    return name in _OURS or name.startswith(("x-inngest-", "proxy-"))


def _body(value: dict[str, Json]) -> bytes:
    decoded = _decoded(value.get("body_b64"))
    if decoded is not None:
        return decoded
    body = value.get("body")
    if isinstance(body, str):
        return body.encode("utf-8", "replace")
    return b"" if body is None else msgspec.json.encode(body)
