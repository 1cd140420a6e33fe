from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.durations import (
    MAX_DURATION,
    DurationError,
    InstantError,
    format_duration,
    parse_duration,
    parse_instant,
    parse_protocol_duration,
)
from perdure.model.json import Json

SECOND, MINUTE, HOUR, DAY, WEEK = 1000, 60_000, 3_600_000, 86_400_000, 604_800_000

PROTOCOL = [
    ("1s", SECOND),
    ("500ms", 500),
    ("1d2h", DAY + 2 * HOUR),
    ("1w2d3h", WEEK + 2 * DAY + 3 * HOUR),
    ("1h30m", 90 * MINUTE),
    ("30m1h", 90 * MINUTE),
    ("1h1h", 2 * HOUR),
    ("1.5h", 90 * MINUTE),
    (".5s", 500),
    ("1.s", SECOND),
    ("0.1s", 100),
    ("-1h", -HOUR),
    ("+1h", HOUR),
    ("-1h30m", -90 * MINUTE),
    ("0", 0),
    ("0s", 0),
    ("-0", 0),
    ("1500us", 2),
    ("1500\u00b5s", 2),
    ("1500\u03bcs", 2),
    ("2000000ns", 2),
    ("1ns", 1),
    ("-1ns", -1),
    ("0ns", 0),
    ("1.1s", 1100),
    ("9223372036s", 9223372036000),
]


@pytest.mark.parametrize(("text", "ms"), PROTOCOL)
def test_protocol_form(text: str, ms: int) -> None:
    assert parse_protocol_duration(text) == ms
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("1 hour", HOUR),
        ("30 minutes", 30 * MINUTE),
        ("2 days", 2 * DAY),
        ("2 DAYS", 2 * DAY),
        ("1 week", WEEK),
        ("10 secs", 10 * SECOND),
        ("5 min", 5 * MINUTE),
        ("2 hrs", 2 * HOUR),
        ("250 milliseconds", 250),
        ("1 hour 30 minutes", 90 * MINUTE),
        ("1 hour and 30 minutes", 90 * MINUTE),
        ("1 day, 2 hours, and 3 seconds", DAY + 2 * HOUR + 3 * SECOND),
        ("1h 30m", 90 * MINUTE),
        ("1 h", HOUR),
        ("  1h  ", HOUR),
        ("1hour", HOUR),
        ("1.5 hours", 90 * MINUTE),
        ("- 1 hour", -HOUR),
        (0, 0),
        (90, 90 * SECOND),
        (1.5, 1500),
        (0.1 + 0.2, 300),
        (0.0001, 1),
        (-2, -2000),
        (timedelta(hours=1, milliseconds=5), HOUR + 5),
        (timedelta(microseconds=1), 1),
        (timedelta(microseconds=-1), -1),
        (timedelta(0), 0),
    ],
)
def test_what_users_write(value: str | float | timedelta, ms: int) -> None:
    assert parse_duration(value) == ms


@pytest.mark.parametrize(
    ("value", "bad", "fix"),
    [
        ("90", "'90'", '"90s"'),
        ("1h30", "'30'", '"30s"'),
        ("1M", "'M'", "m for minutes"),
        ("1 month", "'month'", "30d"),
        ("1y", "'y'", "365d"),
        ("2 years", "'years'", "365d"),
        ("1H", "'H'", "1h"),
        ("", "empty", '"30s"'),
        ("   ", "empty", '"30s"'),
        ("-", "no number", '"30s"'),
        ("h", "'h'", '"1h30m"'),
        ("1h-30m", "'-30m'", '"1h30m"'),
        ("--1h", "'-1h'", '"1h30m"'),
        ("1h,", "','", '"1h30m"'),
        ("1h and", "'and'", '"1h30m"'),
        ("1..5h", "'1.'", "no unit"),
        ("1 fortnight", "'fortnight'", "units are"),
        ("PT1H", "'PT1H'", '"1h30m"'),
        ("\u0661h", "'\u0661h'", '"1h30m"'),
        ("1" * 300 + "s", "111", "longer than 200"),
        ("300000d", "300000d", "292 years"),
        ("1" * 100 + "s", "1111", "292 years"),
        (10**400, "the number", "292 years"),
        (1e300, "1e+300", "292 years"),
        (timedelta.max, "timedelta", "292 years"),
        (math.nan, "nan", "finite"),
        (math.inf, "inf", "finite"),
        (True, "True", "number of seconds"),
        (None, "None", "number of seconds"),
        ([1], "list", "number of seconds"),
    ],
)
def test_refused_with_the_bad_part_and_the_fix(value: Json, bad: str, fix: str) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(value)
    assert bad in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize("text", ["1 hour", "1h 30m", " 1h", "1h ", "1hour", "1H", "", "-", "+", "90", "1h,2m"])
def test_the_wire_takes_no_words(text: str) -> None:
    with pytest.raises(DurationError):
        parse_protocol_duration(text)


def test_the_wire_takes_text_only() -> None:
    number: Json = 90
    with pytest.raises(DurationError, match="int"):
        parse_protocol_duration(number)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (500, "500ms"),
        (90 * MINUTE, "1h30m"),
        (1500, "1s500ms"),
        (WEEK + 2 * DAY, "1w2d"),
        (-90_000, "-1m30s"),
    ],
)
def test_format(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(-MAX_DURATION, MAX_DURATION))
def test_format_is_the_inverse_of_parse(ms: int) -> None:
    assert parse_protocol_duration(format_duration(ms)) == ms
    assert parse_duration(format_duration(ms)) == ms


def test_format_refuses_what_cannot_be_parsed() -> None:
    with pytest.raises(DurationError, match="292 years"):
        format_duration(MAX_DURATION + 1)


@given(st.text(alphabet="0123456789.+-hmsdwnuy \u00b5,and", max_size=20))
def test_any_text_parses_or_raises_duration_error(text: str) -> None:
    try:
        ms = parse_duration(text)
    except DurationError:
        return
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1000),
        ("1970-01-01 01:00:00+01:00", 0),
        ("2026-11-22T10:00:00.123456789Z", 1795341600123),
        ("1969-12-31T23:59:59.999Z", -1),
        (1795338000000, 1795338000000),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), 0),
        # Both passes of a repeated hour are told apart.
        (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris")), 1792888200000),
        (datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")), 1792891800000),
    ],
)
def test_instants(value: str | int | datetime, ms: int) -> None:
    assert parse_instant(value) == ms


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (datetime(2026, 1, 1), "no time zone: add one"),
        ("2026-01-01T00:00:00", "add Z for UTC"),
        ("2026-01-01", "RFC 3339"),
        ("tomorrow", "RFC 3339"),
        ("", "RFC 3339"),
        ("2026-02-30T00:00:00Z", "not a time that exists"),
        ("2026-01-01T25:00:00Z", "not a time that exists"),
        (True, "bool"),
        (1.5, "as an int"),
        (None, "NoneType"),
        (10**18, "since 1970"),
    ],
)
def test_refused_instants(value: Json, says: str) -> None:
    with pytest.raises(InstantError, match=says):
        parse_instant(value)
