"""What an app's answer means (part C.3): the result, operations, or a failure, and whether to try again.

Whatever an app or something in front of it sends comes out as one of three; nothing that can be sent raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeAlias

import msgspec

from perdure.model.durations import InstantError, parse_instant
from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.model.limits import MAX_STEP_BYTES, SECOND
from perdure.model.ops import Op
from perdure.wire import headers as names
from perdure.wire.ops import FatalOpError, MalformedOpsError, parse_ops

_SHOWN = 2000
"""How much of an unexpected body an error shows (characters)."""


class Finished(msgspec.Struct):
    """The function has ended with this result (JSON)."""

    output: bytes


class Reported(msgspec.Struct):
    """The function reports operations."""

    ops: list[Op]


class Failed(msgspec.Struct):
    """The attempt failed with this error (JSON, of any shape). `fatal`: so has the run, whatever retries are left.

    `cause` is what the protocol calls the way in which it failed; None where the error itself says so.
    """

    error: bytes
    fatal: bool = False
    retry_after: int | None = None
    cause: str | None = None


Outcome: TypeAlias = Finished | Reported | Failed


def request_version(headers: Mapping[str, str]) -> int | None:
    """The protocol's version that the app answers in, None where it says none."""
    text = headers.get(names.REQ_VERSION, "")
    return int(text) if text.isdecimal() and len(text) < 4 else None


def outcome(status: int, headers: Mapping[str, str], body: bytes, *, now: int, attempt: int) -> Outcome:
    """What an answer to attempt number `attempt` means.

    >>> outcome(200, {"x-inngest-sdk": "x"}, b'{"ok":true}', now=0, attempt=0)
    Finished(output=b'{"ok":true}')
    """
    if names.SDK not in headers:
        return _foreign(status, headers, body, now)
    if status == 201:
        unwrapped = _unwrap(body)
        if unwrapped is None:
            return _synthetic("MalformedStream", "The app answered 201 with what is no streamed answer.", body)
        status, inner, body = unwrapped
        headers = {**headers, **inner}
    no_retry = headers.get(names.NO_RETRY, "").lower() == "true"
    delay = retry_after(headers, now)
    if status == 206:
        try:
            return Reported(parse_ops(body, now, attempt=attempt, no_retry=no_retry, delay=delay))
        except MalformedOpsError as error:
            return _synthetic("MalformedResponse", str(error), body)
        except FatalOpError as error:
            return Failed(msgspec.json.encode(error.info), fatal=True)
    if not 200 <= status < 300 or no_retry:
        # A worker that is connected reports the last failure as done, and forbids to try again.
        cause = "NonRetriableError" if no_retry else f"invalid status code: {status}"
        return Failed(_json_of(body, empty=_said_nothing(status)), no_retry, delay, cause)
    if len(body) > MAX_STEP_BYTES:
        message = f"The function's result is {len(body)} bytes; at most {MAX_STEP_BYTES} are allowed."
        return _synthetic("output_too_large", message, b"", fatal=True)
    return Finished(_json_of(body, empty=b"null"))


def retry_after(headers: Mapping[str, str], now: int) -> int | None:
    """How many ms the app wants to be left alone: Retry-After in seconds, or as a date. None where it says nothing.

    >>> retry_after({"retry-after": "2"}, 0)
    2000
    """
    text = headers.get(names.RETRY_AFTER, "").strip()
    if not text:
        return None
    if text.isdecimal():
        return int(text) * SECOND if len(text) <= 7 else None
    try:
        return max(parse_instant(text) - now, 0)
    except InstantError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # Digits that are no date: some are too many for a number in C.
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(int(aware.timestamp() * 1000) - now, 0)


def _unwrap(body: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """The answer that a stream carried: spaces that kept it open, then its status, headers and body."""
    try:
        envelope = decode(body.strip())
    except InvalidJsonError:
        return None
    status = envelope.get("status") if isinstance(envelope, dict) else None
    if not isinstance(status, int):
        return None
    given = envelope.get("headers")
    headers = {str(key).lower(): str(value) for key, value in given.items()} if isinstance(given, dict) else {}
    inner: Json = envelope.get("body")
    if inner is None and envelope.get("error") is not None:
        return max(status, 500), headers, _json_of(str(envelope["error"]).encode(), empty=b"null")
    return status, headers, inner.encode() if isinstance(inner, str) else encode(inner)


def _json_of(body: bytes, *, empty: bytes) -> bytes:
    """A body as JSON: as it is, or else as a text."""
    if not body.strip():
        return empty
    try:
        decode(body)
    except InvalidJsonError:
        return encode(body.decode("utf-8", "replace"))
    return body


def _said_nothing(status: int) -> bytes:
    return encode({"name": "Error", "message": f"The app answered HTTP {status} without saying why."})


def _foreign(status: int, headers: Mapping[str, str], body: bytes, now: int) -> Failed:
    """Something answered that is no SDK: a proxy, a login page, another program on the port."""
    if 200 <= status < 300:
        message = (
            f"What answered HTTP {status} is not an SDK of this protocol: its {names.SDK} header is missing. "
            "Is this the URL that the SDK serves, and does everything in front of it pass on response headers?"
        )
        return _synthetic("not_sdk", message, body)
    message = f"Your server returned HTTP {status} before the SDK responded."
    kind = headers.get("content-type", "no content type")
    text = body[:_SHOWN].decode("utf-8", "replace")
    stack = (
        "No step was executed: a proxy or load balancer in front of the app may have answered in its place, or the "
        f"app could not handle the request.\n\nIt answered ({kind}):\n{text}"
    )
    error = {"error": message, "name": "Server returned a fatal error", "message": message, "stack": stack}
    return Failed(encode(error), retry_after=retry_after(headers, now))


def _synthetic(name: str, message: str, body: bytes, *, fatal: bool = False) -> Failed:
    error = {"error": message, "name": name, "message": message}
    if body:
        error["stack"] = "It answered:\n" + body[:_SHOWN].decode("utf-8", "replace")
    return Failed(encode(error), fatal)
