"""Cron: when a schedule ticks.

A front over `cronsim`, which knows the fields. It adds macros, time zones and what clock changes mean:
cronsim runs on wall-clock time without a zone; this module maps that to instants, one stretch of constant UTC
offset after the other. Invariants, checked against a minute-by-minute scan of UTC:

- ticks rise strictly, and `next` depends on nothing but its arguments;
- clocks go forward: a tick in the missing hour comes right after it, unless the hour field starts with `*` (a
  schedule that runs through all hours loses none);
- clocks go back: a tick in the hour that comes twice comes the first time only, unless the minute or hour
  field starts with `*` (such a schedule keeps its pace through both).

`@every 30m` has no clock at all: its ticks are counted from an anchor, the time of registration.
"""

from __future__ import annotations

import re
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from perdure.model.durations import DurationError, parse_protocol_duration

MAX_LENGTH: Final = 255
_FIELDS: Final = ("minute", "hour", "day-of-month", "month", "day-of-week")
_ALLOWED: Final = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L for the last day",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT (0 and 7 are Sunday), 5L for the last Friday, 1#2 for the second Monday",
}
_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ZONE_PREFIX = re.compile(r"(?:CRON_)?TZ=(\S*)\s*(.*)", re.DOTALL)
# What cronsim reads otherwise than people do: it takes "5-5/10" for "5/10", and counts the days of the week
# to 7 = Sunday, so that "1/2" would run on to Sunday and "SAT-SUN" backwards.
_ONE_WITH_STEP = re.compile(r"([0-9A-Z]+)-\1/0*[1-9][0-9]*")
_OPEN_STEP = re.compile(r"([0-6]|[A-Z]{3})/(.*)")
_TO_SUNDAY = re.compile(r"((?!SUN|0)[0-9A-Z]+)-(?:SUN|0)(/.*)?")

_EPOCH = datetime(1970, 1, 1)
_FAR: Final = datetime(2000, 1, 1)
# No zone has shifted its clock by more than a day at once; no two changes of one zone are closer than this.
_WINDOW: Final = 36 * 3600


class CronError(ValueError):
    """A schedule that cannot be understood or never ticks. The message names the field and the fix."""


class CronSpec:
    """A parsed schedule; make one with `parse_cron`. All times are ms since the epoch.

    `text` is the source as given, `zone` the name of its time zone ("UTC" if none is given).
    """

    __slots__ = ("_every", "_keeps_pace", "_loses_none", "_sim", "_zone", "text", "zone")

    def __init__(self, text: str, zone: ZoneInfo | None, sim: CronSim | None, every: int) -> None:
        self.text: Final = text
        self.zone: Final = zone.key if zone else "UTC"
        self._zone = zone
        self._sim = sim
        self._every = every
        self._loses_none = sim is not None and sim.parts[2].startswith("*")
        self._keeps_pace = self._loses_none or (sim is not None and sim.parts[1].startswith("*"))

    def __repr__(self) -> str:
        return f"CronSpec({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CronSpec) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def next(self, after: int, anchor: int = 0) -> int:
        """The first tick strictly after `after`. `anchor` is where `@every` counts from; others ignore it.

        Raises `CronError` if there is none left (the calendar ends with the year 9999).

        >>> parse_cron("TZ=Europe/Paris 0 9 * * 1").next(1795338000000)
        1795420800000
        """
        if self._every:
            return anchor + max((after - anchor) // self._every + 1, 1) * self._every
        try:
            return self._next_second(after // 1000) * 1000
        except (StopIteration, OverflowError):
            raise CronError(f"the schedule {self.text!r} has no tick after {after} ms") from None

    def previous(self, until: int, anchor: int = 0) -> int | None:
        """The last tick at or before `until`; None if there is none in 50 years, or since `anchor`."""
        if self._every:
            count = (until - anchor) // self._every
            return anchor + count * self._every if count >= 1 else None
        # Find a stretch that holds a tick, then halve it: cheap for rare ticks and for dense ones.
        width = 60_000
        while self.next(until - width) > until:
            width *= 4
            if width > 50 * 366 * 86_400_000:
                return None
        low, high = until - width, until
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.next(middle) <= until else (low, middle)
        return self.next(low)

    def missed(self, after: int, until: int, limit: int, anchor: int = 0) -> list[int]:
        """The ticks in (after, until], oldest first; the newest `limit` of them if there are more.

        >>> parse_cron("@every 1h").missed(0, 9_000_000, limit=10)
        [3600000, 7200000]
        """
        ticks: list[int] = []
        tick = self.next(after, anchor)
        while tick <= until and len(ticks) <= limit:
            ticks.append(tick)
            tick = self.next(tick, anchor)
        if len(ticks) <= limit:
            return ticks
        newest: list[int] = []
        at = self.previous(until, anchor)
        while at is not None and len(newest) < limit:
            newest.append(at)
            at = self.previous(at - 1, anchor)
        return newest[::-1]

    def _next_second(self, at: int) -> int:
        """The first tick after the second `at`, in seconds."""
        offset = self._offset(at)
        while True:
            tick = self._wall_tick(at + offset) - offset
            horizon = min(tick, at + _WINDOW)
            if self._offset(horizon) != offset:
                change = self._change(at, horizon, offset)
                new = self._offset(change)
                # Wall clock skipped: from change + offset until change + new.
                if not self._loses_none and self._wall_tick(change + offset - 1) < change + new:
                    return change
                at, offset = change - 1, new
            elif horizon < tick:
                # No tick is near, and a clock change moves one by a day at most: go on shortly before it.
                at = max(horizon, tick - _WINDOW)
                offset = self._offset(at)
            elif self._keeps_pace or not self._comes_again(tick):
                return tick
            else:
                at = tick

    def _wall_tick(self, wall: int) -> int:
        """The next tick of the clock on the wall, as if its zone had no clock changes."""
        # A copy, for cronsim's iterator moves itself; parsing again would cost far more.
        sim = copy(self._sim)
        assert sim is not None, "@every schedules have no wall clock"
        sim.dt = _EPOCH + timedelta(seconds=wall)
        return (next(sim) - _EPOCH) // timedelta(seconds=1)

    def _local(self, second: int) -> datetime | None:
        if self._zone is None:
            return None
        return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=UTC).astimezone(self._zone)

    def _offset(self, second: int) -> int:
        local = self._local(second)
        offset = local.utcoffset() if local is not None else None
        return offset // timedelta(seconds=1) if offset is not None else 0

    def _comes_again(self, second: int) -> bool:
        """Whether this is the second pass of a wall-clock time that comes twice."""
        local = self._local(second)
        return local is not None and local.fold == 1

    def _change(self, low: int, high: int, offset: int) -> int:
        """The second in (low, high] at which the offset stops being `offset`."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
        return high


def parse_cron(text: str) -> CronSpec:
    """Parses `minute hour day-of-month month day-of-week`, a macro (`@daily`) or `@every 30m`.

    Before it may stand a time zone, `TZ=Europe/Paris` or `CRON_TZ=Europe/Paris`; without one it is UTC. If
    both days are restricted either may match, unless one starts with `*` (as in Debian's cron).

    Raises `CronError`.

    >>> parse_cron("TZ=Asia/Tokyo */15 9-17 * * MON-FRI").zone
    'Asia/Tokyo'
    """
    if not isinstance(text, str):
        raise CronError(f"a cron schedule is text, not {type(text).__name__}: write for example '0 9 * * *'")
    if len(text) > MAX_LENGTH:
        raise CronError(f"the cron schedule has {len(text)} characters: {MAX_LENGTH} is the most")
    zone, body = None, text.strip()
    prefixed = _ZONE_PREFIX.fullmatch(body)
    if prefixed:
        zone, body = _parse_zone(text, prefixed[1]), prefixed[2].strip()
    if body.startswith("@every"):
        return CronSpec(text, zone, None, _parse_every(text, body.removeprefix("@every")))
    if body.startswith("@"):
        if body.lower() not in _MACROS:
            known = ", ".join([*_MACROS, "@every 30m"])
            raise CronError(f"{body!r} in the cron schedule {text!r} is not known: use one of {known}")
        body = _MACROS[body.lower()]
    return CronSpec(text, zone, _parse_fields(text, body), 0)


def _parse_zone(text: str, name: str) -> ZoneInfo | None:
    if name in ("UTC", "Etc/UTC"):
        return ZoneInfo(name)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        near = [zone for zone in available_timezones() if zone.lower() == name.lower()]
        fix = f"write {near[0]}" if near else "use an IANA name such as Europe/Paris or UTC"
        raise CronError(f"time zone {name!r} in the cron schedule {text!r} is not known: {fix}") from None


def _parse_every(text: str, rest: str) -> int:
    if not rest.startswith((" ", "\t")):
        raise CronError(f"@every in the cron schedule {text!r} has no duration: write for example '@every 30m'")
    try:
        every = parse_protocol_duration(rest.strip())
    except DurationError as error:
        raise CronError(f"@every in the cron schedule {text!r}: {error}") from None
    if every < 1000:
        raise CronError(f"@every in the cron schedule {text!r} is under one second: 1s is the least")
    return every


def _parse_fields(text: str, body: str) -> CronSim:
    parts = body.upper().split()
    if len(parts) != 5:
        hint = "; seconds are not supported, use '@every 10s' for less than a minute" if len(parts) == 6 else ""
        raise CronError(f"the cron schedule {text!r} has {len(parts)} fields: it takes 5, {' '.join(_FIELDS)}{hint}")
    parts = [",".join(_term(term, at) for term in part.split(",")) for at, part in enumerate(parts)]
    for at, field in enumerate(_FIELDS):
        # Each field alone first: cronsim does not say which term it did not take.
        alone = ["*"] * 5
        alone[at] = parts[at]
        _check(
            alone,
            f"{field} {body.split()[at]!r} in the cron schedule {text!r} is not valid: "
            f"write {_ALLOWED[field]}, and ranges, lists and steps of these (1-5 1,5 */5)",
        )
    never = f"the cron schedule {text!r} never ticks: no {_FIELDS[3]} {parts[3]} has the {_FIELDS[2]} {parts[2]}"
    sim = _check(parts, never)
    try:
        next(copy(sim))
    except StopIteration:
        raise CronError(never) from None
    return sim


def _term(term: str, field: int) -> str:
    if term == "?" and field in (2, 4):
        return "*"
    if field == 4 and (found := _OPEN_STEP.fullmatch(term)):
        term = f"{found[1]}-{'SAT' if found[1] == 'SAT' else 6}/{found[2]}"
    if found := _ONE_WITH_STEP.fullmatch(term):
        return found[1]
    if field == 4 and (found := _TO_SUNDAY.fullmatch(term)):
        return f"{found[1]}-7{found[2] or ''}"
    return term


def _check(parts: list[str], message: str) -> CronSim:
    try:
        return CronSim(" ".join(parts), _FAR)
    except (CronSimError, ValueError, AssertionError):
        raise CronError(message) from None
