"""Errors that user code raises or catches, and the form in which an error is stored.

A stored error (`ErrorInfo`) is plain data: name, message, stack, cause, optional data. Exceptions are never
pickled: what cannot be rebuilt from data would strand the run that meets it.
"""

from __future__ import annotations

import traceback
from datetime import datetime, timedelta

import msgspec

from perdure.model.json import Json, decode, encode

_MAX_CAUSES = 8
_MAX_STACK = 20_000


class PerdureError(Exception):
    """Base of the errors that perdure itself raises."""


class ConfigError(PerdureError, ValueError):
    """A function, app or option is not valid. `problems` lists each fault as "field: what is wrong and the fix"."""

    def __init__(self, subject: str, problems: list[str]) -> None:
        self.subject = subject
        self.problems = problems
        super().__init__(f"{subject} is not valid: " + "; ".join(problems))


class NonRetriableError(PerdureError):
    """Raise it in a step or handler to fail at once, whatever retries are left."""


class RetryAfterError(PerdureError):
    """Raise it to choose when the next attempt starts: seconds, a timedelta, or a point in time with a zone.

    >>> RetryAfterError("busy", 30).retry_after
    30
    """

    def __init__(self, message: str, retry_after: int | float | timedelta | datetime) -> None:
        super().__init__(message)
        if isinstance(retry_after, datetime) and retry_after.tzinfo is None:
            raise ValueError("RetryAfterError: retry_after has no time zone; use datetime.now(timezone.utc) + ...")
        self.retry_after = retry_after

    def millis(self, now: int) -> int:
        """Milliseconds from `now` until the next attempt, not clamped."""
        if isinstance(self.retry_after, datetime):
            return int(self.retry_after.timestamp() * 1000) - now
        if isinstance(self.retry_after, timedelta):
            return int(self.retry_after.total_seconds() * 1000)
        return int(self.retry_after * 1000)


class ErrorInfo(msgspec.Struct, omit_defaults=True):
    """An error as stored and as sent: what the protocol calls the user error (C.6)."""

    name: str
    message: str
    stack: str = ""
    cause: ErrorInfo | None = None
    data: Json = None
    error: str = ""

    def to_json(self) -> dict[str, Json]:
        body: dict[str, Json] = msgspec.to_builtins(self)
        return body


def error_object(value: Json) -> dict[str, Json]:
    """What another server sent as an error, as an object that surely has a name and a message.

    Errors of other languages come in any shape: a text, an object without a name, a cause that is no error.

    >>> error_object("no such card")
    {'name': 'Error', 'message': 'no such card'}
    """
    if not isinstance(value, dict):
        return {"name": "Error", "message": value if isinstance(value, str) else encode(value).decode()}
    name, message, stack = (value.get(key) for key in ("name", "message", "stack"))
    found: dict[str, Json] = {
        "name": name if isinstance(name, str) and name else "Error",
        "message": message if isinstance(message, str) else "" if message is None else encode(message).decode(),
    }
    if isinstance(stack, str) and stack:
        found["stack"] = stack
    found.update({key: value[key] for key in ("cause", "data") if value.get(key) is not None})
    if isinstance(value.get("error"), str):
        found["error"] = value["error"]
    return found


def error_info(data: bytes) -> ErrorInfo:
    """A stored error, from wherever it came."""
    return _info(decode(data), 0)


def _info(value: Json, depth: int) -> ErrorInfo:
    found = error_object(value)
    cause = found.pop("cause", None)
    info = ErrorInfo(**found)
    if cause is not None and depth < _MAX_CAUSES:
        info.cause = _info(cause, depth + 1)
    return info


class StepError(PerdureError):
    """A step failed for good. Raised inside the handler, where it can be caught like any exception.

    `name`, `message` and `stack` are those of the original error; `step_id` is the id the user gave.
    """

    def __init__(self, step_id: str, info: ErrorInfo) -> None:
        self.step_id = step_id
        self.info = info
        self.name = info.name
        self.message = info.message
        self.stack = info.stack
        super().__init__(f"step {step_id!r} failed: {info.name}: {info.message}")


class RunError(PerdureError):
    """The run whose result was asked for did not complete."""

    def __init__(self, run_id: str, message: str, info: ErrorInfo | None = None) -> None:
        self.run_id = run_id
        self.info = info
        super().__init__(message)


class RunFailedError(RunError):
    """The run failed; `info` is the error that ended it."""


class RunCancelledError(RunError):
    """The run was cancelled before it ended."""


class RefusedError(PerdureError):
    """A run was not started, for a reason of its function's flow control (`reason`, e.g. "rate_limited")."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class NotFoundError(PerdureError, LookupError):
    """No run, event or function has the given id."""


class StoreLockedError(PerdureError):
    """Another process has the database file open as its server."""


class StoreError(PerdureError):
    """The store could not take a change: disk full, file damaged or made by a newer version."""


def describe(error: BaseException) -> ErrorInfo:
    """An exception as data, with its chain of causes and its stack from the user's first frame on."""
    return _describe(error, 0)


def _describe(error: BaseException, depth: int) -> ErrorInfo:
    if isinstance(error, StepError):
        return error.info
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__, chain=False))
    return ErrorInfo(
        name=type(error).__name__,
        message=_message(error),
        stack=_text(stack[-_MAX_STACK:]),
        cause=_describe(cause, depth + 1) if cause is not None and depth < _MAX_CAUSES else None,
    )


def _message(error: BaseException) -> str:
    # KeyError('x') prints as "'x'": its argument says more than its quotes.
    if isinstance(error, KeyError) and len(error.args) == 1:
        return f"key {error.args[0]!r} is missing"
    return _text(str(error))


def _text(text: str) -> str:
    # Of half a character, as in names of files that are not UTF-8, no JSON can be made.
    return text.encode("utf-8", "replace").decode()
