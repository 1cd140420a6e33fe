"""What a handler returns, as the HTTP answer that it stands for: made once, kept exactly, told again.

A `Response` is any ASGI application, so those of Starlette and FastAPI are, and what streams; anything else is JSON,
apart from bytes, which are themselves. Invariant: status, headers (each of those of one name) and bytes are what the
caller of the first request gets or would have got.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.model import values
from perdure.model.errors import NonRetriableError
from perdure.model.json import Json, encode
from perdure.model.limits import MAX_STEP_BYTES
from perdure.wire import headers as names

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Send

_log = logging.getLogger("perdure.serving")
_JSON: Final = "application/json"
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "content-length", "date", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade"}
)


class ResponseTooLargeError(NonRetriableError):
    """The answer is larger than what the endpoint records."""


class Captured(msgspec.Struct, frozen=True):
    """An HTTP answer. `pairs` are its headers, in lower case and in order; `complete` says that no byte is missing."""

    status: int
    pairs: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """The headers for those who can take but one of a name: the last."""
        return dict(self.pairs)

    @property
    def text(self) -> str:
        """The body as text, "" where it is none."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            return ""

    def exactly(self) -> dict[str, Json]:
        """What `headers` and `text` leave out; {} where they leave out nothing."""
        told: dict[str, Json] = {}
        if len(self.headers) != len(self.pairs):
            told["headers_list"] = [list(pair) for pair in self.pairs]
        if self.body and not self.text:
            told["body_b64"] = base64.b64encode(self.body).decode("ascii")
        return told

    def result(self) -> dict[str, Json]:
        """The result of the run."""
        told = {"status": self.status, "headers": self.headers, "body": self.text, "version": 2, **self.exactly()}
        return told if self.complete else {**told, "truncated": True}


def problem_of(status: int, told: Json, *, retry: bool) -> Captured:
    """What a caller is told instead of an answer; `retry`: whether asking again may help."""
    pairs = (("content-type", _JSON), (names.NO_RETRY, "false" if retry else "true"))
    return Captured(status, pairs, encode(told))


def too_large(most: int) -> Captured:
    """The answer to a request whose body has more bytes than that."""
    told = {"name": "BodyTooLargeError", "message": f"the body has more than {most} bytes (max_body of the endpoint)"}
    return problem_of(413, told, retry=False)


def is_response(value: object) -> bool:
    """Whether a handler returned an HTTP answer, and not a value."""
    return callable(value) and hasattr(value, "status_code")


def of_value(value: object) -> Captured:
    """The answer that a value stands for. Raises `UnserializableError`.

    >>> of_value({"a": 1}).body, of_value(None).body, of_value("done").body
    (b'{"a":1}', b'null', b'"done"')
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return Captured(200, (("content-type", "application/octet-stream"),), bytes(value))
    return Captured(200, (("content-type", _JSON),), values.encode(value, where="what the endpoint returns"))


def of_exception(error: BaseException) -> Captured | None:
    """The answer that an error stands for: that of an HTTPException of Starlette or FastAPI; None for other errors."""
    from starlette.exceptions import HTTPException

    if not isinstance(error, HTTPException):
        return None
    detail: Json = error.detail
    headers = [(name.lower(), value) for name, value in (error.headers or {}).items()]
    if error.status_code in (204, 304):
        return Captured(error.status_code, tuple(headers), b"")
    body = values.encode({"detail": detail}, where="the detail of the HTTPException")
    return Captured(error.status_code, (("content-type", _JSON), *headers), body)


class Capture:
    """Takes down an answer while it is made. Past `most` bytes it keeps none, and raises if `strict`."""

    def __init__(self, most: int, send: Send | None = None, *, strict: bool = True) -> None:
        self._most = most
        self._send = send
        self._strict = strict
        self._body = bytearray()
        self._complete = True
        self.ended = False
        self._status = 0
        self._pairs: list[tuple[str, str]] = []

    async def take(self, message: Message) -> None:
        """Takes a message of the answer, and sends it on where it is to go at once."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._pairs = [
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message.get("headers", ())
            ]
        elif message["type"] == "http.response.body":
            self._keep(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        if self._send is not None:
            await self._send(message)

    def _keep(self, data: bytes) -> None:
        if len(self._body) + len(data) <= self._most and self._complete:
            self._body += data
            return
        self._refuse(f"the answer has more than {self._most} bytes")

    def _refuse(self, reason: str) -> None:
        if self._strict:
            fix = "return less, or a reference, or raise max_response"
            raise ResponseTooLargeError(f"{reason}, and must be recorded: {fix}")
        self._complete = False
        self._body.clear()

    @property
    def begun(self) -> bool:
        return bool(self._status)

    def found(self) -> Captured:
        pairs = tuple((name, value) for name, value in self._pairs if name not in _OF_THE_CONNECTION)
        captured = Captured(self._status or 500, pairs, bytes(self._body), self._complete)
        # As JSON a byte takes six at most: what may be too much is measured.
        if len(captured.body) > MAX_STEP_BYTES // 8 and len(encode(captured.result())) > MAX_STEP_BYTES:
            self._refuse(f"the answer has more than {MAX_STEP_BYTES} bytes as JSON (bytes that are no text as base64)")
            return Captured(captured.status, pairs, b"", False)
        return captured


async def capture(value: object, request: Request, most: int) -> Captured:
    """The answer that what a handler returned stands for, whole. Raises `ResponseTooLargeError`, and what it raises."""
    if isinstance(value, Captured):
        return value
    if not is_response(value):
        return of_value(value)
    return await render(value, request, Capture(most))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def render(response: ASGIApp, request: Request, taken: Capture) -> Captured:
    """Lets a response answer, and takes it down."""
    # To a HEAD request no body is sent, but the run has the whole answer.
    try:
        await response(request.scope, request.receive, taken.take)
    except Exception:
        if not taken.ended:
            raise
        # The answer is complete: what failed is a background task of it.
        _log.exception("what comes after the response of an endpoint failed")
    return taken.found()
