"""Cron against a minute-by-minute scan of UTC, around the clock changes of zones with odd habits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.model.cron import CronError, CronSpec, parse_cron

MINUTE = timedelta(minutes=1)
CHANGES = [
    ("Europe/Paris", "2026-03-29"),
    ("Europe/Paris", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Havana", "2026-03-08"),
    ("America/Havana", "2026-11-01"),
    ("America/Santiago", "2026-04-05"),
    ("America/Santiago", "2026-09-06"),
    ("America/St_Johns", "2010-03-14"),
    ("America/St_Johns", "2010-11-07"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("Pacific/Apia", "2011-12-30"),  # a whole day does not exist
    ("Antarctica/Troll", "2026-03-29"),  # two hours at once
    ("Antarctica/Troll", "2026-10-25"),
    ("Asia/Kathmandu", "2026-05-05"),
    ("UTC", "2026-05-05"),
]


@dataclass
class Field:
    text: str
    values: set[int]


def fields(low: int, high: int) -> st.SearchStrategy[Field]:
    value = st.integers(low, high)
    span = st.tuples(value, value).map(sorted)
    step = st.integers(1, high)
    every = range(low, high + 1)
    term = st.one_of(
        value.map(lambda n: Field(str(n), {n})),
        span.map(lambda s: Field(f"{s[0]}-{s[1]}", set(range(s[0], s[1] + 1)))),
        st.tuples(span, step).map(
            lambda p: Field(f"{p[0][0]}-{p[0][1]}/{p[1]}", set(range(p[0][0], p[0][1] + 1, p[1])))
        ),
        st.tuples(value, step).map(lambda p: Field(f"{p[0]}/{p[1]}", set(range(p[0], high + 1, p[1])))),
    )
    terms = st.lists(term, min_size=1, max_size=3).map(
        lambda items: Field(",".join(item.text for item in items), set().union(*(item.values for item in items)))
    )
    star = st.just(Field("*", set(every)))
    return star | terms | step.map(lambda n: Field(f"*/{n}", set(every[::n])))


@dataclass
class Case:
    zone: ZoneInfo
    start: datetime
    minute: Field
    hour: Field
    day: Field
    weekday: Field

    @property
    def text(self) -> str:
        parts = (self.minute, self.hour, self.day, Field("*", set()), self.weekday)
        return f"TZ={self.zone.key} " + " ".join(part.text for part in parts)

    def matches(self, wall: datetime) -> bool:
        if wall.minute not in self.minute.values or wall.hour not in self.hour.values:
            return False
        day, weekday = wall.day in self.day.values, wall.isoweekday() % 7 in self.weekday.values
        if self.day.text.startswith("*") or self.weekday.text.startswith("*"):
            return day and weekday
        return day or weekday


star = st.just(Field("*", set(range(32))))
# Most clock changes are in the first hours.
early = st.sampled_from([Field("0", {0}), Field("1", {1}), Field("2", {2}), Field("0-3", {0, 1, 2, 3})])
cases = st.builds(
    lambda change, hours, minute, hour, day, weekday: Case(
        ZoneInfo(change[0]),
        datetime.fromisoformat(change[1]).replace(tzinfo=UTC) + timedelta(hours=hours),
        minute,
        hour,
        day,
        weekday,
    ),
    st.sampled_from(CHANGES),
    st.integers(-40, 10),
    fields(0, 59),
    fields(0, 23) | early,
    star | fields(1, 31),
    star | fields(0, 6),
)


def scan(case: Case, minutes: int) -> list[datetime]:
    """The rules of `perdure.model.cron`, taken literally, minute after minute of UTC."""
    through_all_hours = case.hour.text.startswith("*")
    keeps_pace = through_all_hours or case.minute.text.startswith("*")
    found: list[datetime] = []
    before = case.start.astimezone(case.zone)
    for count in range(1, minutes + 1):
        at = case.start + count * MINUTE
        local = at.astimezone(case.zone)
        wall = local.replace(tzinfo=None)
        hit = case.matches(wall) and (keeps_pace or not local.fold)
        skipped = before.replace(tzinfo=None) + MINUTE
        while skipped < wall and not hit and not through_all_hours:
            hit = case.matches(skipped)
            skipped += MINUTE
        if hit:
            found.append(at)
        before = local
    return found


def walk(spec: CronSpec, start: int, end: int) -> list[int]:
    found: list[int] = []
    at = spec.next(start)
    while at <= end:
        found.append(at)
        at = spec.next(at)
    return found


def millis(at: datetime) -> int:
    return int(at.timestamp()) * 1000


@given(cases)
@settings(max_examples=150, deadline=None)
def test_agrees_with_a_scan_of_utc(case: Case) -> None:
    try:
        spec = parse_cron(case.text)
    except CronError as error:
        # Day 31 on no weekday at all, for example.
        assert "never ticks" in str(error)
        return
    minutes = 48 * 60
    start, end = millis(case.start), millis(case.start + minutes * MINUTE)
    expected = [millis(at) for at in scan(case, minutes)]
    assert walk(spec, start, end) == expected
    assert spec.missed(start, end, len(expected)) == expected
    if expected:
        assert spec.previous(end) == expected[-1]
        assert spec.missed(start, end, 2) == expected[-2:]


@given(cases, st.integers(0, 48 * 3_600_000))
@settings(max_examples=100, deadline=None)
def test_next_and_previous_agree_from_any_moment(case: Case, delta: int) -> None:
    try:
        spec = parse_cron(case.text)
    except CronError:
        return
    at = millis(case.start) + delta
    following = spec.next(at)
    assert following > at
    assert spec.next(following - 1) == following
    assert spec.previous(following) == following
    earlier = spec.previous(at)
    assert earlier is not None and earlier <= at
    assert spec.next(earlier) == following


@given(st.text(alphabet="0123456789*/,-#?LW@ SUNMOJA\u00b2", max_size=25))
@settings(max_examples=300)
def test_any_text_parses_or_raises_cron_error(text: str) -> None:
    try:
        spec = parse_cron(text)
    except CronError:
        return
    assert spec.next(0) > 0
