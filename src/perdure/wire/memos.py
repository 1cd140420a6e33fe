"""The recorded outcomes of steps as an app gets them with a call (part 0, rule 4, and part C.5), in canonical JSON.

What a step's memo looks like depends on its operation: most are wrapped as `{"data": ..}` or `{"error": ..}`, so that
an app can tell a result from a failure; events and sleeps stand for themselves.
"""

from __future__ import annotations

from typing import Final

from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import InvalidJsonError, decode, encode
from perdure.model.ops import SLEEP, STEP_RAW, WAIT_FOR_EVENT, WAIT_FOR_SIGNAL

_BARE: Final = frozenset({SLEEP, WAIT_FOR_EVENT, STEP_RAW})


def memo_of(op: str, data: bytes, *, failed: bool) -> bytes:
    """The memo of a step whose recorded outcome is `data`.

    >>> memo_of("StepRun", b'{"b": 1, "a": 2.0}', failed=False)
    b'{"data":{"a":2,"b":1}}'
    """
    value = _canonical(_event(data) if op == WAIT_FOR_EVENT and not failed else data)
    if failed:
        return b'{"error":' + value + b"}"
    if op in _BARE or (op == WAIT_FOR_SIGNAL and value == b"null"):
        return value
    return b'{"data":' + value + b"}"


def input_memo(arguments: bytes) -> bytes:
    """The memo of a step that is to run again with other arguments: JSON of a list (part D.11)."""
    return b'{"input":' + _canonical(arguments) + b"}"


def _event(data: bytes) -> bytes:
    """An event that was waited for, or null. It always has its `user`, as the one that triggered the run has."""
    try:
        event = decode(data)
    except InvalidJsonError:
        return data
    return encode({**event, "user": {}}) if isinstance(event, dict) and "user" not in event else data


def _canonical(data: bytes) -> bytes:
    """Recorded JSON in its canonical form. A number beyond a double, or too deep a nesting, has none: it goes out as
    it is, for what is recorded must reach its app, which may know what to do with it."""
    try:
        return canonical(decode(data))
    except (CanonicalJsonError, InvalidJsonError):
        return data
