"""Durations and points in time, as text and as integer milliseconds.

Two grammars. The *protocol* form is what goes over the wire and into rows: `1d2h`, `1.5s`, `-500ms`, with the
units ns us ms s m h d w. Users may also write words ("1 hour 30 minutes"), numbers of seconds and timedeltas.
Both refuse what reads two ways: a bare number in a string, `M` (month or minute?), `y` (how many days?).

Invariants: arithmetic is exact (no floats on the way from text to milliseconds), a duration that is not zero
never becomes zero, and `parse_protocol_duration(format_duration(ms)) == ms` for every duration in range.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final

MAX_DURATION: Final = (2**63 - 1) // 1_000_000
"""The longest duration in ms: 2**63 - 1 ns, about 292 years, which is all the protocol's form can carry."""

_MAX_TEXT = 200
_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter, which looks the same
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_WORDS: Final = {
    "nanosecond": "ns",
    "microsecond": "us",
    "millisecond": "ms",
    "msec": "ms",
    "second": "s",
    "sec": "s",
    "minute": "m",
    "min": "m",
    "hour": "h",
    "hr": "h",
    "day": "d",
    "week": "w",
    "wk": "w",
}
_FORMAT: Final = tuple((unit, _NS[unit] // 1_000_000) for unit in ("w", "d", "h", "m", "s", "ms"))

# [0-9], not \d: other scripts' digits are not part of the wire format.
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.\s,+-]*)")
_FRIENDLY_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([^0-9.\s,+-]*)")
_GLUE = re.compile(r"\s*(?:,\s*)?(?:and\s+)?")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(Z|z|[+-][0-9]{2}:[0-9]{2})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_MIN_INSTANT = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
_MAX_INSTANT = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


class DurationError(ValueError):
    """A duration that cannot be understood. The message names the bad part and what to write instead."""


class InstantError(ValueError):
    """A point in time that cannot be understood. The message names the bad part and what to write instead."""


def parse_duration(value: str | int | float | timedelta) -> int:
    """A duration as users write it, in ms: text, a number of seconds, or a timedelta. May be negative.

    Parts of a millisecond are rounded to the nearest, but never to zero.

    Raises `DurationError`.

    >>> parse_duration("1d2h"), parse_duration("1 hour and 30 minutes"), parse_duration(1.5)
    (93600000, 5400000, 1500)
    """
    if isinstance(value, str):
        return _from_text(value, friendly=True)
    if isinstance(value, timedelta):
        microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
        return _millis(Fraction(microseconds * 1000), value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DurationError(
            f"a duration cannot be {value!r} ({type(value).__name__}): "
            'give text ("90s", "1h30m"), a number of seconds, or a timedelta'
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise DurationError(f"a duration cannot be {value!r}: give a finite number of seconds")
    return _millis(Fraction(value) * 1_000_000_000, value)


def parse_protocol_duration(text: str) -> int:
    """A duration in the protocol's form only, in ms: no words, no spaces.

    Raises `DurationError`.

    >>> parse_protocol_duration("1w2d3h")
    788400000
    """
    if not isinstance(text, str):
        raise DurationError(f'a duration cannot be {text!r} ({type(text).__name__}): give text such as "90s"')
    return _from_text(text, friendly=False)


def format_duration(ms: int) -> str:
    """The protocol's form of a duration in ms; the inverse of `parse_protocol_duration`.

    >>> format_duration(5_400_000), format_duration(500), format_duration(0)
    ('1h30m', '500ms', '0s')
    """
    if abs(ms) > MAX_DURATION:
        raise DurationError(_too_long(ms))
    rest, parts = abs(ms), []
    for unit, size in _FORMAT:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if ms < 0 else "") + "".join(parts) if parts else "0s"


def parse_instant(value: str | datetime | int) -> int:
    """A point in time, in ms since the epoch: RFC 3339 text, a datetime with a time zone, or ms as an int.

    Raises `InstantError`, above all for a datetime or text without a time zone.

    >>> parse_instant("2026-11-22T10:00:00+01:00")
    1795338000000
    """
    if isinstance(value, str):
        return _instant_of_text(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InstantError(f"{value.isoformat()} has no time zone: add one, datetime(..., tzinfo=timezone.utc)")
        return (value - _EPOCH) // _MS
    if isinstance(value, bool) or not isinstance(value, int):
        raise InstantError(
            f"a point in time cannot be {value!r} ({type(value).__name__}): give a datetime with a time "
            "zone, RFC 3339 text, or milliseconds since the epoch as an int"
        )
    if not _MIN_INSTANT <= value <= _MAX_INSTANT:
        raise InstantError(f"{value} is outside the years 1 to 9999: give milliseconds since 1970")
    return value


def _from_text(text: str, *, friendly: bool) -> int:
    shown = text if len(text) <= 40 else text[:40] + "..."
    body = text.strip() if friendly else text
    if not body:
        raise DurationError('the duration is empty: write a number and a unit, such as "30s" or "1h30m"')
    if len(body) > _MAX_TEXT:
        raise DurationError(f"the duration {shown!r} is longer than {_MAX_TEXT} characters")
    sign = -1 if body[0] == "-" else 1
    if body[0] in "+-":
        body = body[1:].lstrip() if friendly else body[1:]
    if body == "0":
        return 0
    total, at = Fraction(0), 0
    part = _FRIENDLY_PART if friendly else _PART
    while at < len(body):
        found = part.match(body, at)
        if found is None:
            raise DurationError(_no_number(shown, body[at:]))
        number, unit = found.groups()
        total += Fraction(number) * _NS[_unit(shown, number, unit, friendly)]
        at = found.end()
        glue = _GLUE.match(body, at) if friendly else None
        if glue is not None and glue.end() < len(body):
            at = glue.end()
    if at == 0:
        raise DurationError(_no_number(shown, body))
    return _millis(sign * total, text)


def _unit(shown: str, number: str, unit: str, friendly: bool) -> str:
    if unit in _NS:
        return unit
    where = f"in the duration {shown!r}"
    if not unit:
        raise DurationError(f'{number!r} {where} has no unit: write "{number}s" or "{number}m"')
    word = unit.lower()
    known = _WORDS.get(word) or _WORDS.get(word.removesuffix("s"))
    if known and friendly:
        return known
    if known:
        raise DurationError(f'unit {unit!r} {where} is not known: write "{number}{known}"')
    if unit == "M" or word.startswith("mo"):
        fix = "a month has no fixed length; write m for minutes, or days such as 30d"
    elif word in ("y", "yr", "yrs", "year", "years"):
        fix = "a year has no fixed length; write days such as 365d"
    elif word in _NS:
        fix = f"units are lower case; write {number}{word}"
    else:
        fix = "units are ns, us, ms, s, m, h, d, w"
    raise DurationError(f"unit {unit!r} {where} is not known: {fix}")


def _no_number(shown: str, rest: str) -> str:
    if not rest.strip():
        return f'the duration {shown!r} has no number: write for example "30s"'
    return f'{rest[:20]!r} in the duration {shown!r} is not a number and a unit: write for example "1h30m"'


def _millis(nanoseconds: Fraction, source: object) -> int:
    if abs(nanoseconds) >= 2**63:
        raise DurationError(_too_long(source))
    ms = round(nanoseconds / 1_000_000)
    if ms == 0 and nanoseconds:
        return 1 if nanoseconds > 0 else -1
    return max(-MAX_DURATION, min(ms, MAX_DURATION))


def _too_long(source: object) -> str:
    # A number of thousands of digits cannot even be printed (ValueError in int.__str__).
    shown = repr(source)[:60] if not isinstance(source, int) or abs(source) < 10**50 else "the number"
    return f"the duration {shown} is too long: 292 years is the most; check the unit"


def _instant_of_text(text: str) -> int:
    found = _RFC3339.fullmatch(text.strip())
    if found is None:
        raise InstantError(f"{text[:60]!r} is not an RFC 3339 time: write for example 2026-11-22T09:00:00Z")
    if found[1] is None:
        raise InstantError(f"{text[:60]!r} has no time zone: add Z for UTC, or an offset such as +01:00")
    try:
        return (datetime.fromisoformat(found[0].upper()) - _EPOCH) // _MS
    except ValueError as error:
        raise InstantError(f"{text[:60]!r} is not a time that exists: {error}") from None
