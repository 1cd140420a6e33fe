"""The values an expression works on, and how they become text and JSON.

JSON values are plain Python values, used as they are: nothing is converted on the way in. Five kinds exist
only inside an expression: `UNKNOWN` (a path that leads nowhere), `Uint`, bytes, `Timestamp` and `Duration`
(both whole nanoseconds), and `TypeName` (what `type(x)` gives). `to_json` turns them into JSON on the way
out.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from perdure.expressions.errors import EvaluationError
from perdure.model.json import Json

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
UINT_MAX: Final = 2**64 - 1
_TEXT_DEPTH: Final = 64


class Unknown(Enum):
    """The type of `UNKNOWN`, the value of a path that leads nowhere."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        return False


UNKNOWN: Final = Unknown.UNKNOWN


class Uint(int):
    """An unsigned integer (`1u`); it equals the int of the same value."""


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """An instant: nanoseconds since the epoch."""

    ns: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in nanoseconds, positive or negative."""

    ns: int


@dataclass(frozen=True, slots=True)
class TypeName:
    """What `type(x)` gives: `int`, `string`, `map` ..."""

    name: str


TIMESTAMP_TYPE: Final = "google.protobuf.Timestamp"
DURATION_TYPE: Final = "google.protobuf.Duration"
TYPE_NAMES: Final = frozenset({"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"})


def type_name(value: Json) -> str:
    """The dialect's name for the value's type; a whole JSON number is an int."""
    names: dict[type[Json], str] = {
        type(None): "null_type", bool: "bool", int: "int", Uint: "uint", float: "double", str: "string",
        bytes: "bytes", list: "list", dict: "map", Timestamp: TIMESTAMP_TYPE, Duration: DURATION_TYPE,
        TypeName: "type",
    }  # fmt: skip
    return "missing" if value is UNKNOWN else names.get(type(value), type(value).__name__)


def is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def whole(value: Json) -> int | None:
    """The integer a number is equal to; None for fractions and for everything that is not a number."""
    if not is_number(value) or (isinstance(value, float) and not value.is_integer()):
        return None
    return int(value)


def truthy(value: Json) -> bool:
    """Truth as `&&`, `||` and `?:` see it: missing, null, false, zero and the empty string are false."""
    if isinstance(value, (list, dict, bytes, Timestamp, Duration, TypeName)):
        return True
    return bool(value)


def number_text(value: int | float) -> str:
    """A number as text, the same for equal numbers: `5` and `5.0` are both "5".

    >>> number_text(5.0), number_text(12.5), number_text(1700000000000)
    ('5', '12.5', '1700000000000')
    """
    if isinstance(value, float):
        if not math.isfinite(value) or not value.is_integer() or abs(value) >= 1e21:
            return repr(value)
        value = int(value)
    if value.bit_length() > 8192:
        # Python refuses to write such a number in decimal digits.
        return f"{value:#x}"
    return str(int(value))


def text(value: Json, depth: int = 0) -> str:
    """The text of a value inside a concatenation: `[a b c]` for a list, `map[k:v]` for a map."""
    if depth > _TEXT_DEPTH:
        raise EvaluationError("the value is nested too deeply to become text")
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if value is UNKNOWN:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_text(value)
    if isinstance(value, list):
        return "[" + " ".join(text(item, depth + 1) for item in value) + "]"
    if isinstance(value, dict):
        entries = sorted(((text(key), item) for key, item in value.items()), key=lambda entry: entry[0])
        return "map[" + " ".join(f"{key}:{text(item, depth + 1)}" for key, item in entries) + "]"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return _moment_text(value)


def timestamp_text(value: Timestamp) -> str:
    """RFC 3339 in UTC with only the decimals needed.

    >>> timestamp_text(Timestamp(1_500_000_000))
    '1970-01-01T00:00:01.5Z'
    """
    seconds, fraction = divmod(value.ns, 10**9)
    days, rest = divmod(seconds, 86_400)
    year, month, day = civil_from_days(days)
    decimals = f".{fraction:09d}".rstrip("0") if fraction else ""
    hour, rest = divmod(rest, 3600)
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{rest // 60:02d}:{rest % 60:02d}{decimals}Z"


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day number (days since 1970-01-01), proleptic Gregorian."""
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def duration_text(value: Duration) -> str:
    """Seconds with an `s`, as protocol buffers write durations in JSON.

    >>> duration_text(Duration(3_600_000_000_000)), duration_text(Duration(-1_500_000_000))
    ('3600s', '-1.5s')
    """
    seconds, fraction = divmod(abs(value.ns), 10**9)
    decimals = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{'-' if value.ns < 0 else ''}{seconds}{decimals}s"


def to_json(value: Json, charge: Callable[[int], None]) -> Json:
    """A result as a JSON value: missing is false, bytes are base64, times and types are strings.

    Every element is charged: a small result may hold the same large list a thousand times.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, bytes)):
        charge(len(value) // 64)
        return value if isinstance(value, str) else base64.b64encode(value).decode("ascii")
    if value is UNKNOWN:
        return False
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EvaluationError("the result is not a finite number")
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, list):
        charge(1 + len(value) // 2)
        return [to_json(item, charge) for item in value]
    if isinstance(value, dict):
        charge(1 + len(value) // 2)
        return {_field(key): to_json(item, charge) for key, item in value.items()}
    return _moment_text(value)


def _field(key: str | int) -> str:
    return key if isinstance(key, str) else number_text(key)


def _moment_text(value: Json) -> str:
    """The text of a value that JSON has no form for."""
    if isinstance(value, Timestamp):
        return timestamp_text(value)
    if isinstance(value, Duration):
        return duration_text(value)
    if isinstance(value, TypeName):
        return value.name
    raise EvaluationError(f"a {type(value).__name__} is not a JSON value")
