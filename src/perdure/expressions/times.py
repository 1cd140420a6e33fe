"""Instants and durations: reading their text, and taking them apart.

Instants are whole nanoseconds from year 1 to 9999; durations fit 64 bits of nanoseconds (about 292 years).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from perdure.expressions.errors import EvaluationError
from perdure.expressions.values import INT_MAX, Duration, Timestamp

_SECOND: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62_135_596_800 * _SECOND
_LAST: Final = 253_402_300_800 * _SECOND - 1
_UNITS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": _SECOND, "m": 60 * _SECOND,
    "h": 3600 * _SECOND, "d": 86_400 * _SECOND, "w": 604_800 * _SECOND,
}  # fmt: skip
_PART = re.compile(r"([0-9]{1,19})?(?:\.([0-9]{1,30}))?(ns|us|µs|μs|ms|s|m|h|d|w)")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,30}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_LOOSE = re.compile(
    r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})"
    r"(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,30}))?)? ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_OFFSET = re.compile(r"([+-]?)([0-9]{1,2}):?([0-9]{2})")


def timestamp(ns: int) -> Timestamp:
    """An instant, checked to lie in the years 1 to 9999."""
    if not _FIRST <= ns <= _LAST:
        raise EvaluationError("the time is outside the years 1 to 9999")
    return Timestamp(ns)


def duration(ns: int) -> Duration:
    """A duration, checked to fit 64 bits of nanoseconds."""
    if not -INT_MAX - 1 <= ns <= INT_MAX:
        raise EvaluationError("the duration is longer than 292 years")
    return Duration(ns)


def parse_duration(text: str) -> Duration:
    """`1h30m`, `-1.5s`, `250ms`, `2d`, `1w`; a sum of numbers with units, largest first or not.

    >>> parse_duration("1h30m")
    Duration(ns=5400000000000)
    """
    sign, position = (-1, 1) if text.startswith("-") else (1, 1 if text.startswith("+") else 0)
    if text[position:] == "0":
        return Duration(0)
    total = 0
    start = position
    while found := _PART.match(text, position):
        whole, fraction, unit = found.groups()
        if not whole and not fraction:
            break
        total += int(whole or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction or "")
        position = found.end()
    if position == start or position != len(text) or len(text) > 200:
        raise EvaluationError(f"{text[:60]!r} is not a duration; write for example '90s', '1h30m' or '7d'")
    return duration(sign * total)


def parse_timestamp(text: str) -> Timestamp:
    """An RFC 3339 instant such as `2026-01-02T03:04:05Z` or `2026-01-02T03:04:05.25+02:00`."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise EvaluationError(f"{text[:60]!r} is not a time; write for example '2026-01-02T03:04:05Z'")
    day, clock, fraction, zone = found.groups()
    offset = "+00:00" if zone in "Zz" else zone
    return _instant(text, f"{day}T{clock}{offset}", fraction)


def parse_date(text: str) -> Timestamp:
    """What `date()` reads: RFC 3339, a day, a day and a time (UTC unless it says otherwise), an RFC 1123
    date.

    >>> parse_date("2020-01-01") == parse_date("2020-01-01 00:00") == parse_timestamp("2020-01-01T00:00:00Z")
    True
    """
    text = text.strip()
    if _RFC3339.fullmatch(text):
        return parse_timestamp(text)
    if found := _LOOSE.fullmatch(text):
        year, month, day, hour, minute, second, fraction, zone = found.groups()
        if zone in (None, "Z", "UTC"):
            zone = "+00:00"
        clock = f"{int(hour or 0):02d}:{minute or '00'}:{second or '00'}"
        return _instant(text, f"{year}-{int(month):02d}-{int(day):02d}T{clock}{zone}", fraction)
    try:
        parsed = parsedate_to_datetime(text[:100])
    except (ValueError, TypeError, IndexError, OverflowError):
        raise EvaluationError(f"{text[:60]!r} is not a date; write for example '2026-01-02'") from None
    return timestamp(_nanoseconds(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)))


def from_number(value: int | float) -> Timestamp:
    """Seconds since the epoch; a number too large for that (year 10000 and later) is milliseconds."""
    scale = _SECOND if abs(value) * _SECOND <= _LAST else 10**6
    return timestamp(int(value * scale) if isinstance(value, int) else round(value * scale))


def _instant(text: str, iso: str, fraction: str | None) -> Timestamp:
    try:
        parsed = datetime.fromisoformat(iso)
    except ValueError as error:
        raise EvaluationError(f"{text[:60]!r} is not a time: {error}") from None
    return timestamp(_nanoseconds(parsed) + int((fraction or "0")[:9].ljust(9, "0")))


def _nanoseconds(value: datetime) -> int:
    span = value - _EPOCH
    return (span.days * 86_400 + span.seconds) * _SECOND + span.microseconds * 1000


@lru_cache(maxsize=128)
def _zone(name: str) -> tzinfo:
    if name in ("UTC", "Z", ""):
        return UTC
    if found := _OFFSET.fullmatch(name):
        sign, hours, minutes = found.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        if offset < timedelta(hours=24):
            return timezone(-offset if sign == "-" else offset)
    else:
        try:
            return ZoneInfo(name)
        except (ValueError, KeyError, OSError):
            pass
    raise EvaluationError(f"{name[:60]!r} is not a time zone; write for example 'Europe/Paris' or '+02:00'")


def _local(value: Timestamp, zone: str) -> datetime:
    try:
        return (_EPOCH + timedelta(microseconds=value.ns // 1000)).astimezone(_zone(zone))
    except OverflowError:
        raise EvaluationError("the time is outside the years 1 to 9999 in that zone") from None


def timestamp_part(value: Timestamp, part: str, zone: str) -> int:
    """One part of an instant's local time. Months, days of month and of year count from 0, `getDate` from
    1.
    """
    local = _local(value, zone)
    match part:
        case "getFullYear":
            return local.year
        case "getMonth":
            return local.month - 1
        case "getDate":
            return local.day
        case "getDayOfMonth":
            return local.day - 1
        case "getDayOfWeek":
            return local.isoweekday() % 7
        case "getDayOfYear":
            return local.timetuple().tm_yday - 1
        case "getHours":
            return local.hour
        case "getMinutes":
            return local.minute
        case "getSeconds":
            return local.second
        case _:
            return local.microsecond // 1000


def duration_part(value: Duration, part: str) -> int:
    """The whole duration in hours, minutes, seconds or milliseconds, rounded toward zero."""
    units = {
        "getHours": 3600 * _SECOND,
        "getMinutes": 60 * _SECOND,
        "getSeconds": _SECOND,
        "getMilliseconds": 10**6,
    }
    if part not in units:
        raise EvaluationError(f"{part}() is for timestamps, not durations")
    whole = abs(value.ns) // units[part]
    return -whole if value.ns < 0 else whole
