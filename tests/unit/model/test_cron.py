from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from perdure.model.cron import CronError, CronSpec, parse_cron
from perdure.model.json import Json

HOUR = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(spec: CronSpec, after: str, count: int) -> list[str]:
    at, found = ms(after), list[str]()
    for _ in range(count):
        at = spec.next(at)
        local = datetime.fromtimestamp(at / 1000, ZoneInfo(spec.zone))
        found.append(local.strftime("%m-%dT%H:%M%z"))
    return found


# Clocks in 2026. New York: forward 8 March 02:00, back 1 November 02:00. Paris: 29 March 02:00, 25 October
# 03:00. Lord Howe shifts by half an hour: forward 4 October 02:00 -> 02:30, back 5 April 02:00 -> 01:30.
# Havana changes at midnight: forward 8 March 00:00 -> 01:00, back 1 November 01:00 -> 00:00.
@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 9 * * *", "2026-01-01T08:59:59.999+00:00", ["01-01T09:00+0000", "01-02T09:00+0000"]),
        ("0 9 * * *", "2026-01-01T09:00:00.000+00:00", ["01-02T09:00+0000"]),
        ("0 9 * * *", "2026-01-01T09:00:00.001+00:00", ["01-02T09:00+0000"]),
        ("*/20 8-9 * * *", "2026-01-01T08:30+00:00", ["01-01T08:40+0000", "01-01T09:00+0000"]),
        ("0 0 * * 7", "2026-01-01T00:00+00:00", ["01-04T00:00+0000", "01-11T00:00+0000"]),
        ("0 0 * * 0", "2026-01-01T00:00+00:00", ["01-04T00:00+0000", "01-11T00:00+0000"]),
        ("0 0 * * SAT-SUN", "2026-01-01T00:00+00:00", ["01-03T00:00+0000", "01-04T00:00+0000"]),
        ("0 0 * * 1/2", "2026-01-01T00:00+00:00", ["01-02T00:00+0000", "01-05T00:00+0000"]),
        ("0 0 * * 6/1", "2026-01-01T00:00+00:00", ["01-03T00:00+0000", "01-10T00:00+0000"]),
        ("0 0 * * sat/2", "2026-01-01T00:00+00:00", ["01-03T00:00+0000", "01-10T00:00+0000"]),
        ("5-5/10 * * * *", "2026-01-01T00:00+00:00", ["01-01T00:05+0000", "01-01T01:05+0000"]),
        ("0 0 1 jan,JUL ?", "2026-01-02T00:00+00:00", ["07-01T00:00+0000", "01-01T00:00+0000"]),
        # Both days restricted: either; one of them a star: both.
        ("0 0 13 * 5", "2026-01-10T00:00+00:00", ["01-13T00:00+0000", "01-16T00:00+0000"]),
        ("0 0 */2 * 5", "2026-01-02T00:00+00:00", ["01-09T00:00+0000", "01-23T00:00+0000"]),
        ("0 0 29 2 *", "2026-01-01T00:00+00:00", ["02-29T00:00+0000"]),
        ("0 0 L * *", "2026-01-31T00:00+00:00", ["02-28T00:00+0000", "03-31T00:00+0000"]),
        ("0 0 * * 1#2", "2026-01-01T00:00+00:00", ["01-12T00:00+0000", "02-09T00:00+0000"]),
        ("@hourly", "2026-01-01T00:30+00:00", ["01-01T01:00+0000"]),
        ("@daily", "2026-01-01T00:30+00:00", ["01-02T00:00+0000"]),
        ("@midnight", "2026-01-01T00:30+00:00", ["01-02T00:00+0000"]),
        ("@weekly", "2026-01-01T00:30+00:00", ["01-04T00:00+0000"]),
        ("@monthly", "2026-01-01T00:30+00:00", ["02-01T00:00+0000"]),
        ("@yearly", "2026-01-01T00:30+00:00", ["01-01T00:00+0000"]),
        ("@annually", "2026-01-01T00:30+00:00", ["01-01T00:00+0000"]),
        ("TZ=Asia/Tokyo @daily", "2026-01-01T00:30+00:00", ["01-02T00:00+0900"]),
        ("CRON_TZ=Asia/Tokyo 0 9 * * *", "2026-01-01T00:00+00:00", ["01-02T09:00+0900"]),
        # Forward: fixed times come right after the gap, once for all that it swallowed.
        (
            "TZ=America/New_York 30 2 * * *",
            "2026-03-07T00:00-05:00",
            ["03-07T02:30-0500", "03-08T03:00-0400", "03-09T02:30-0400"],
        ),
        (
            "TZ=America/New_York 0,30 2,3 * * *",
            "2026-03-08T00:00-05:00",
            ["03-08T03:00-0400", "03-08T03:30-0400", "03-09T02:00-0400"],
        ),
        (
            "TZ=Europe/Paris 15 2 * * *",
            "2026-03-28T12:00+01:00",
            ["03-29T03:00+0200", "03-30T02:15+0200"],
        ),
        (
            "TZ=America/New_York */30 2 * * *",
            "2026-03-07T12:00-05:00",
            ["03-08T03:00-0400", "03-09T02:00-0400", "03-09T02:30-0400"],
        ),
        (
            "TZ=Australia/Lord_Howe 15 2 * * *",
            "2026-10-03T12:00+10:30",
            ["10-04T02:30+1100", "10-05T02:15+1100"],
        ),
        ("TZ=America/Havana 0 0 * * *", "2026-03-07T12:00-05:00", ["03-08T01:00-0400", "03-09T00:00-0400"]),
        # Forward: schedules through all hours lose none and gain none.
        (
            "TZ=America/New_York 15 * * * *",
            "2026-03-08T01:00-05:00",
            ["03-08T01:15-0500", "03-08T03:15-0400"],
        ),
        (
            "TZ=Australia/Lord_Howe */20 * * * *",
            "2026-10-04T01:30+10:30",
            ["10-04T01:40+1030", "10-04T02:40+1100", "10-04T03:00+1100"],
        ),
        # Back: fixed times come once, the first time.
        (
            "TZ=America/New_York 30 1 * * *",
            "2026-10-31T12:00-04:00",
            ["11-01T01:30-0400", "11-02T01:30-0500"],
        ),
        ("TZ=America/New_York 30 1 * * *", "2026-11-01T01:15-05:00", ["11-02T01:30-0500"]),
        (
            "TZ=Australia/Lord_Howe 45 1 * * *",
            "2026-04-04T12:00+11:00",
            ["04-05T01:45+1100", "04-06T01:45+1030"],
        ),
        ("TZ=America/Havana 0 0 * * *", "2026-10-31T12:00-04:00", ["11-01T00:00-0400", "11-02T00:00-0500"]),
        # Back: intervals keep their pace.
        (
            "TZ=Europe/Paris */30 * * * *",
            "2026-10-25T01:45+02:00",
            [
                "10-25T02:00+0200",
                "10-25T02:30+0200",
                "10-25T02:00+0100",
                "10-25T02:30+0100",
                "10-25T03:00+0100",
            ],
        ),
        (
            "TZ=Australia/Lord_Howe */15 1 * * *",
            "2026-04-05T01:20+11:00",
            ["04-05T01:30+1100", "04-05T01:45+1100", "04-05T01:30+1030", "04-05T01:45+1030"],
        ),
    ],
)
def test_golden(text: str, after: str, expected: list[str]) -> None:
    assert ticks(parse_cron(text), after, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * *", "seconds are not supported, use '@every 10s'"),
        ("61 * * * *", "minute '61'.*0-59"),
        ("*/0 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("\u0663 * * * *", "minute"),
        ("0 24 * * *", "hour '24'.*0-23"),
        ("0 0 32 * *", "day-of-month '32'"),
        ("0 0 0 * *", "day-of-month '0'"),
        ("0 0 1 13 *", "month '13'.*JAN"),
        ("0 0 1 foo *", "month 'foo'"),
        ("0 0 * * 8", "day-of-week '8'.*SUN"),
        ("0 0 * * FRI-MON", "day-of-week 'FRI-MON'"),
        ("0 0 30 2 *", "never ticks.*month 2.*day-of-month 30"),
        ("0 0 31 4,6,9,11 *", "never ticks"),
        ("0 0 */29 2 MON#5", "never ticks"),
        ("@fortnightly", "@fortnightly.*@daily"),
        ("@reboot", "not known"),
        ("@every", "no duration"),
        ("@every30m", "no duration"),
        ("@every 90", "no unit"),
        ("@every 1 hour", "@every"),
        ("@every 10ms", "1s is the least"),
        ("@every -1h", "1s is the least"),
        ("TZ=Mars/Base 0 9 * * *", "time zone 'Mars/Base'.*Europe/Paris"),
        ("TZ=europe/paris 0 9 * * *", "write Europe/Paris"),
        ("TZ=../../etc/passwd 0 9 * * *", "time zone"),
        ("TZ= 0 9 * * *", "time zone ''"),
        ("TZ=Europe/Paris", "0 fields"),
        ("*" * 300, "255"),
        (None, "NoneType"),
        (5, "int"),
    ],
)
def test_refused(text: Json, says: str) -> None:
    with pytest.raises(CronError, match=says):
        parse_cron(text)


def test_the_source_is_kept_verbatim() -> None:
    spec = parse_cron("TZ=Europe/Paris  0 9 * * mon")
    assert (spec.text, spec.zone) == ("TZ=Europe/Paris  0 9 * * mon", "Europe/Paris")
    assert parse_cron("0 9 * * *").zone == "UTC"
    assert parse_cron("@daily") == parse_cron("@daily") != parse_cron("@hourly")
    assert len({parse_cron("@daily"), parse_cron("@daily")}) == 1


def test_every_counts_from_its_anchor() -> None:
    spec = parse_cron("@every 1h30m")
    anchor = ms("2026-01-01T00:07+00:00")
    first = anchor + 90 * 60_000
    assert spec.next(anchor, anchor) == first
    assert spec.next(first - 1, anchor) == first
    assert spec.next(first, anchor) == first + 90 * 60_000
    assert spec.next(0, anchor) == first
    assert spec.previous(first, anchor) == first
    assert spec.previous(first - 1, anchor) is None
    assert spec.missed(anchor, anchor + 4 * HOUR, 10, anchor) == [first, first + 90 * 60_000]


def test_missed_gives_the_newest_when_there_are_too_many() -> None:
    spec = parse_cron("*/10 * * * *")
    until = ms("2026-01-01T00:00+00:00")
    year = until - 365 * 24 * HOUR
    assert spec.missed(year, until, 3) == [until - 1_200_000, until - 600_000, until]
    assert spec.missed(until - 1_200_000, until, 2) == [until - 600_000, until]
    assert spec.missed(until, until + 599_999, 5) == []
    assert spec.missed(year, until, 0) == []


def test_previous() -> None:
    assert parse_cron("0 0 29 2 *").previous(ms("2026-01-01T00:00+00:00")) == ms("2024-02-29T00:00+00:00")
    now = ms("2026-01-01T00:00+00:00")
    assert parse_cron("* * * * *").previous(now) == now
    assert parse_cron("* * * * *").previous(now - 1) == now - 60_000


def test_the_calendar_ends() -> None:
    with pytest.raises(CronError, match="no tick after"):
        parse_cron("0 0 * * *").next(ms("9999-12-31T23:00+00:00"))
