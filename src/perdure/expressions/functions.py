"""The dialect's functions and methods, by name, with their number of arguments.

A function never sees a missing argument: the compiler answers for it with `when_missing` (false for
questions, zero for `size`, missing for conversions).
Null is a value like any other here, and mostly of the wrong type.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from perdure.expressions.budget import MAX_STRING, Frame
from perdure.expressions.errors import EvaluationError
from perdure.expressions.regex import compile_pattern
from perdure.expressions.times import (
    duration_part,
    from_number,
    parse_date,
    parse_duration,
    parse_timestamp,
    timestamp,
    timestamp_part,
)
from perdure.expressions.values import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    UNKNOWN,
    Duration,
    Timestamp,
    TypeName,
    Uint,
    duration_text,
    is_number,
    number_text,
    timestamp_text,
    type_name,
)
from perdure.model.json import InvalidJsonError, Json, decode

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True, slots=True)
class Function:
    """`least` and `most` count the arguments, a method's target not included (it is passed first)."""

    least: int
    most: int
    call: Callable[..., Json]
    when_missing: Json = UNKNOWN


def _wrong(name: str, value: Json, wanted: str) -> EvaluationError:
    return EvaluationError(f"{name}() needs {wanted}, not {type_name(value)}")


def _string(name: str, value: Json) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a string")
    return value


def _bad_text(name: str, value: str, wanted: str) -> EvaluationError:
    return EvaluationError(f"{name}() cannot read {value[:60]!r}: it is not {wanted}")


def size(frame: Frame, value: Json) -> int:
    if value is None:
        return 0
    if isinstance(value, (str, bytes, list, dict)):
        return len(value)
    raise _wrong("size", value, "a string, bytes, list or map")


def _integer(name: str, low: int, high: int, frame: Frame, value: Json) -> int:
    result = _whole_part(name, value)
    if not low <= result <= high:
        raise EvaluationError(f"{name}() is out of range: {number_text(result)[:40]} does not fit 64 bits")
    return result


def _whole_part(name: str, value: Json) -> int:
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            raise _bad_text(name, value, "a whole number")
        return int(value)
    if isinstance(value, Timestamp) and name == "int":
        return value.ns // 10**9
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _wrong(name, value, "a number or a string of digits")
    if isinstance(value, float) and not math.isfinite(value):
        raise EvaluationError(f"{name}() is out of range")
    return int(value)


def to_uint(frame: Frame, value: Json) -> Uint:
    return Uint(_integer("uint", 0, UINT_MAX, frame, value))


def to_double(frame: Frame, value: Json) -> float:
    if isinstance(value, str):
        if len(value) > 400 or not _DOUBLE.fullmatch(value):
            raise _bad_text("double", value, "a number")
    elif not is_number(value):
        raise _wrong("double", value, "a number or a string")
    result = float(value)
    if not math.isfinite(result):
        raise EvaluationError("double() is out of range")
    return result


def to_string(frame: Frame, value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    if isinstance(value, Timestamp):
        return timestamp_text(value)
    if isinstance(value, Duration):
        return duration_text(value)
    if isinstance(value, bytes):
        frame.charge(len(value) // 64)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise EvaluationError("string() cannot read these bytes: they are not UTF-8") from None
    raise _wrong("string", value, "a string, number, bool, bytes, timestamp or duration")


def to_bytes(frame: Frame, value: Json) -> bytes:
    if isinstance(value, bytes):
        return value
    frame.charge(len(_string("bytes", value)) // 64)
    return str(value).encode("utf-8", "surrogatepass")


def to_bool(frame: Frame, value: Json) -> bool:
    if isinstance(value, bool):
        return value
    if _string("bool", value) in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise _bad_text("bool", value, "true or false")


def to_timestamp(frame: Frame, value: Json) -> Timestamp:
    return _instant("timestamp", parse_timestamp, value)


def to_date(frame: Frame, value: Json) -> Timestamp:
    return _instant("date", parse_date, value)


def _instant(name: str, parse: Callable[[str], Timestamp], value: Json) -> Timestamp:
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, str):
        return parse(value)
    if is_number(value) and (isinstance(value, int) or math.isfinite(value)):
        return from_number(value)
    raise _wrong(name, value, "a string or a number of seconds or milliseconds")


def to_duration(frame: Frame, value: Json) -> Duration:
    return value if isinstance(value, Duration) else parse_duration(_string("duration", value))


def now(frame: Frame) -> Timestamp:
    return timestamp(frame.now * 10**6)


def _shifted(name: str, sign: int, frame: Frame, value: Json) -> Timestamp:
    span = value if isinstance(value, Duration) else parse_duration(_string(name, value))
    return timestamp(frame.now * 10**6 + sign * span.ns)


def _cased(name: str, change: Callable[[str], str], frame: Frame, value: Json) -> str:
    frame.charge(1 + len(_string(name, value)) // 64)
    return change(value)


def b64decode(frame: Frame, value: Json) -> str:
    encoded = _string("b64decode", value)
    frame.charge(1 + len(encoded) // 64)
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise _bad_text("b64decode", encoded, "base64 of UTF-8 text") from None


def json_parse(frame: Frame, value: Json) -> Json:
    encoded = _string("json_parse", value)
    if len(encoded) > MAX_STRING:
        raise EvaluationError(f"json_parse() reads no more than {MAX_STRING} characters")
    frame.charge(1 + len(encoded) // 16)
    try:
        return decode(encoded.encode("utf-8"))
    except (InvalidJsonError, UnicodeEncodeError):
        raise _bad_text("json_parse", encoded, "JSON") from None


def _text_test(name: str, test: Callable[[str, str], bool], frame: Frame, value: Json, part: Json) -> bool:
    whole, wanted = _string(name, value), _string(name, part)
    frame.charge(1 + len(whole) // 256)
    return test(whole, wanted)


def matches(frame: Frame, value: Json, pattern: Json) -> bool:
    whole, wanted = _string("matches", value), _string("matches", pattern)
    return compile_pattern(wanted).search(whole, frame.charge)


def _part(name: str, frame: Frame, value: Json, zone: Json = "UTC") -> int:
    if isinstance(value, Duration):
        return duration_part(value, name)
    if not isinstance(value, Timestamp):
        raise _wrong(name, value, "a timestamp; write timestamp(x) or date(x) around it")
    return timestamp_part(value, name, _string(name, zone))


FUNCTIONS: Final[dict[str, Function]] = {
    "size": Function(1, 1, size, 0),
    "int": Function(1, 1, partial(_integer, "int", INT_MIN, INT_MAX)),
    "uint": Function(1, 1, to_uint),
    "double": Function(1, 1, to_double),
    "string": Function(1, 1, to_string),
    "bytes": Function(1, 1, to_bytes),
    "bool": Function(1, 1, to_bool),
    "dyn": Function(1, 1, lambda frame, value: value),
    "type": Function(1, 1, lambda frame, value: TypeName(type_name(value))),
    "timestamp": Function(1, 1, to_timestamp),
    "duration": Function(1, 1, to_duration),
    "matches": Function(2, 2, matches, False),
    "lowercase": Function(1, 1, partial(_cased, "lowercase", str.lower)),
    "uppercase": Function(1, 1, partial(_cased, "uppercase", str.upper)),
    "b64decode": Function(1, 1, b64decode),
    "json_parse": Function(1, 1, json_parse),
    "date": Function(1, 1, to_date),
    "now": Function(0, 0, now),
    "now_plus": Function(1, 1, partial(_shifted, "now_plus", 1)),
    "now_minus": Function(1, 1, partial(_shifted, "now_minus", -1)),
}
_PARTS: Final = (
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
)
METHODS: Final[dict[str, Function]] = {
    "size": Function(0, 0, size, 0),
    "contains": Function(1, 1, partial(_text_test, "contains", lambda a, b: b in a), False),
    "startsWith": Function(1, 1, partial(_text_test, "startsWith", str.startswith), False),
    "endsWith": Function(1, 1, partial(_text_test, "endsWith", str.endswith), False),
    "matches": Function(1, 1, matches, False),
    **{name: Function(0, 1, partial(_part, name)) for name in _PARTS},
}
# What answers true or false whatever it is given (or raises).
PREDICATES: Final = frozenset({"contains", "startsWith", "endsWith", "matches"})
# What reads a literal argument: a bad one is found when the expression is compiled.
LITERAL_READERS: Final[dict[str, Callable[[str], object]]] = {
    "timestamp": parse_timestamp,
    "date": parse_date,
    "duration": parse_duration,
    "now_plus": parse_duration,
    "now_minus": parse_duration,
    "matches": compile_pattern,
}
