"""Function configuration: triggers and flow control, as users write it and as apps register it (protocol B.5).

The Structs keep values as given (a duration may be "10s", seconds or a timedelta) and check shapes and ranges
when made, so a wrong option fails at import. Expressions are text here; the expressions room checks them.
`problems()` checks what only the whole function shows (limits on counts, options that exclude each other).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from perdure.model.durations import DurationError, InstantError, parse_duration, parse_instant
from perdure.model.errors import ConfigError
from perdure.model.limits import (
    DAY,
    DEFAULT_RETRIES,
    HOUR,
    MAX_CANCELLATIONS,
    MAX_CONCURRENCY_RULES,
    MAX_EVENT_NAME,
    MAX_RETRIES,
    MAX_TRIGGERS,
    MINUTE,
    SECOND,
)

if TYPE_CHECKING:
    Duration: TypeAlias = str | int | float | timedelta
    """A duration: "1h30m", a number of seconds, or a timedelta."""
else:
    # msgspec decodes no union of text and timedelta; `_duration` turns a timedelta into seconds.
    Duration = str | int | float

Scope: TypeAlias = Literal["fn", "env", "account"]

_MAX_NUMBER = 1_000_000_000
"""Of runs and events. What is larger limits nothing, and would overflow the integers of a database."""


def _check(subject: str, problems: list[str]) -> None:
    if problems:
        raise ConfigError(subject, problems)


def _duration(
    owner: msgspec.Struct, name: str, low: int = 0, high: int | None = None, *, required: bool = False
) -> list[str]:
    """Checks a duration field; a timedelta becomes seconds, so that the configuration is plain data."""
    value: Duration | None = getattr(owner, name)
    if value is None:
        return [f'{name}: is required: a duration such as "1m"'] if required else []
    if isinstance(value, timedelta):
        value = value.total_seconds()
        msgspec.structs.force_setattr(owner, name, value)
    try:
        millis = parse_duration(value)
    except DurationError as error:
        return [f"{name}: {error}"]
    if millis < low:
        return [f"{name}: must be at least {low // SECOND}s, got {value!r}"]
    if high is not None and millis > high:
        most = f"{high // HOUR}h" if high >= HOUR else f"{high // MINUTE}m"
        return [f"{name}: must be at most {most}, got {value!r}"]
    return []


def _instant(owner: msgspec.Struct, name: str) -> list[str]:
    """Checks a field that is a point in time."""
    value: object = getattr(owner, name)
    if value is None:
        return []
    if not isinstance(value, str):
        return [f"{name}: must be a text such as 2026-11-22T10:00:00Z, got {value!r}"]
    try:
        parse_instant(value)
    except InstantError as error:
        return [f"{name}: {error}"]
    return []


def _text(owner: msgspec.Struct, *names: str) -> list[str]:
    """Checks optional fields that hold text: an empty one would be no rule at all, whatever was meant by it."""
    values = [(name, getattr(owner, name)) for name in names]
    return [
        f"{name}: must be a text that is not empty, got {value!r}"
        for name, value in values
        if value is not None and not (isinstance(value, str) and value)
    ]


def _event_name(value: object) -> list[str]:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_EVENT_NAME:
        return [f"event: must be a text of 1 to {MAX_EVENT_NAME} characters, got {value!r}"]
    return []


def _at_least(name: str, value: object, low: int) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        return [f"{name}: must be a whole number of at least {low}, got {value!r}"]
    if value > _MAX_NUMBER:
        return [f"{name}: must be at most {_MAX_NUMBER}"]
    return []


class EventTrigger(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="event"):
    """Starts the function on events of a name (or wildcard such as "shop/*") that satisfy `expression`."""

    event: str
    expression: str | None = None

    def __post_init__(self) -> None:
        _check("trigger", _event_name(self.event) + _text(self, "expression"))


class Cron(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="cron"):
    """Starts the function on a schedule: five fields, `@daily`, `@every 30m`, with an optional `TZ=Zone ` prefix.

    `missed` says what happens with ticks that passed while nothing ran: "latest" (default) runs once for the
    last of them, "skip" waits for the next tick, "all" runs each (at most 100). `jitter` spreads starts by up
    to that long.
    """

    cron: str
    jitter: Duration | None = None
    missed: Literal["latest", "skip", "all"] = "latest"

    def __post_init__(self) -> None:
        problems = _duration(self, "jitter", SECOND, 5 * MINUTE)
        if self.missed not in ("latest", "skip", "all"):
            problems.append(f'missed: must be "latest", "skip" or "all", got {self.missed!r}')
        _check("cron trigger", problems)


Trigger: TypeAlias = EventTrigger | Cron


def on(event: str, *, if_: str | None = None) -> EventTrigger:
    """An event trigger with a condition.

    >>> on("shop/paid", if_="event.data.total > 10").expression
    'event.data.total > 10'
    """
    return EventTrigger(event, if_)


class Concurrency(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most `limit` steps execute at a time, of all runs of the function, per value of `key` where given.

    Code between steps counts as one; a run that sleeps or waits holds nothing. `hold="run"` keeps one slot from
    start to end instead, and `hold="active"` one while the run executes anything, however many of its steps execute
    beside each other. `scope` "env" or "account" shares the limit among functions with the same key value, and
    needs a key.
    """

    limit: int
    key: str | None = None
    scope: Scope = "fn"
    hold: Literal["step", "run", "active"] = "step"

    def __post_init__(self) -> None:
        problems = _at_least("limit", self.limit, 0) + _text(self, "key")
        if self.scope not in ("fn", "env", "account"):
            problems.append(f'scope: must be "fn", "env" or "account", got {self.scope!r}')
        elif self.scope != "fn" and not self.key:
            problems.append(f'key: is required with scope "{self.scope}"')
        if self.hold not in ("step", "run", "active"):
            problems.append(f'hold: must be "step", "run" or "active", got {self.hold!r}')
        _check("concurrency", problems)


class Throttle(msgspec.Struct, frozen=True, omit_defaults=True):
    """Starts at most `limit` runs per `period`, evenly (GCRA); what exceeds it waits. `burst` adds to the first."""

    limit: int
    period: Duration
    burst: int = 0
    key: str | None = None

    def __post_init__(self) -> None:
        problems = _at_least("limit", self.limit, 1) + _at_least("burst", self.burst, 0) + _text(self, "key")
        _check("throttle", problems + _duration(self, "period", SECOND, required=True))


class RateLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Starts at most `limit` runs in any window of `period` (up to 24h); events beyond that start nothing."""

    limit: int
    period: Duration
    key: str | None = None

    def __post_init__(self) -> None:
        problems = _at_least("limit", self.limit, 1) + _text(self, "key")
        _check("rate_limit", problems + _duration(self, "period", SECOND, DAY, required=True))


class Debounce(msgspec.Struct, frozen=True, omit_defaults=True):
    """Waits until no event came for `period` (1s to 7d), at most `timeout` in all; starts with the last event."""

    period: Duration
    timeout: Duration | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        problems = _duration(self, "period", SECOND, 7 * DAY, required=True) + _text(self, "key")
        _check("debounce", problems + _duration(self, "timeout", SECOND))


class BatchEvents(msgspec.Struct, frozen=True, omit_defaults=True):
    """Collects events into one run: `max_size` of them, or what came within `timeout` (1s to 10m) of the first.

    Events for which `if_` is not true run alone, at once.
    """

    max_size: int
    timeout: Duration
    key: str | None = None
    if_: str | None = None

    def __post_init__(self) -> None:
        problems = _at_least("max_size", self.max_size, 2) + _text(self, "key", "if_")
        _check("batch_events", problems + _duration(self, "timeout", SECOND, 10 * MINUTE, required=True))


class Priority(msgspec.Struct, frozen=True, omit_defaults=True):
    """Runs start as if they had arrived `run` seconds earlier: an expression, clamped to +-43200."""

    run: str


class Singleton(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run at a time per `key`: a new event is skipped, or cancels the run that is there."""

    key: str | None = None
    mode: Literal["skip", "cancel"] = "skip"

    def __post_init__(self) -> None:
        problems = _text(self, "key")
        if self.mode not in ("skip", "cancel"):
            problems.append(f'mode: must be "skip" or "cancel", got {self.mode!r}')
        _check("singleton", problems)


class CancelOn(msgspec.Struct, frozen=True, omit_defaults=True):
    """Cancels a run when an event comes that satisfies `if_`, or whose `match` path equals the trigger's.

    `if_` sees the trigger event as `event` and the new one as `async`. The rule ends after `timeout`, or at `until`,
    an RFC 3339 time.
    """

    event: str
    if_: str | None = None
    match: str | None = None
    timeout: Duration | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        problems = _duration(self, "timeout") + _text(self, "if_", "match") + _instant(self, "until")
        problems += _event_name(self.event)
        if self.if_ and self.match:
            problems.append("match: give either if_ or match, not both")
        if self.timeout is not None and self.until is not None:
            problems.append("until: give either timeout or until, not both")
        _check("cancel_on", problems)


class Timeouts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Cancels a run that has not started within `start` of its creation, or not ended within `finish` of its start."""

    start: Duration | None = None
    finish: Duration | None = None

    def __post_init__(self) -> None:
        _check("timeouts", _duration(self, "start") + _duration(self, "finish"))


class FunctionConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function as registered. `id` is the slug `<app>-<function>`, unique in a server.

    `url` is where a function of an app on another server is called; functions in this process have none.
    """

    id: str
    app_id: str
    name: str
    triggers: tuple[Trigger, ...] = ()
    retries: int = DEFAULT_RETRIES
    concurrency: tuple[Concurrency, ...] = ()
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch_events: BatchEvents | None = None
    priority: Priority | None = None
    idempotency: str | None = None
    singleton: Singleton | None = None
    cancel_on: tuple[CancelOn, ...] = ()
    timeouts: Timeouts | None = None
    url: str | None = None

    def problems(self) -> list[str]:
        """What is wrong with the whole: counts and options that exclude each other."""
        found = _at_least("retries", self.retries, 0)
        if self.retries > MAX_RETRIES:
            found.append(f"retries: must be at most {MAX_RETRIES}, got {self.retries}")
        for field, most in (
            ("triggers", MAX_TRIGGERS),
            ("concurrency", MAX_CONCURRENCY_RULES),
            ("cancel_on", MAX_CANCELLATIONS),
        ):
            if len(getattr(self, field)) > most:
                found.append(f"{field}: at most {most} are allowed, got {len(getattr(self, field))}")
        if self.batch_events is not None:
            found += [
                f"batch_events: cannot be combined with {other}"
                for other in ("cancel_on", "debounce", "singleton", "priority")
                if getattr(self, other)
            ]
        if self.idempotency and self.rate_limit:
            found.append("idempotency: cannot be combined with rate_limit (it is a rate limit of 1 per 24h and key)")
        return found

    def expressions(self) -> Iterator[tuple[str, str, frozenset[str]]]:
        """Each expression of the function as (field, source, variables that it may use)."""
        event = frozenset({"event", "vars"})
        both = event | {"async"}
        for index, trigger in enumerate(self.triggers):
            if isinstance(trigger, EventTrigger) and trigger.expression:
                yield f"triggers[{index}].expression", trigger.expression, event
        for index, rule in enumerate(self.concurrency):
            if rule.key:
                yield f"concurrency[{index}].key", rule.key, event
        for field in ("throttle", "rate_limit", "debounce", "batch_events", "singleton"):
            policy = getattr(self, field)
            if policy is not None and policy.key:
                yield f"{field}.key", policy.key, event
        if self.batch_events is not None and self.batch_events.if_:
            yield "batch_events.if_", self.batch_events.if_, event
        if self.priority is not None:
            yield "priority.run", self.priority.run, event
        if self.idempotency:
            yield "idempotency", self.idempotency, event
        for index, cancel in enumerate(self.cancel_on):
            if cancel.if_:
                yield f"cancel_on[{index}].if_", cancel.if_, both


def millis(value: Duration | None) -> int | None:
    """A duration option in ms, None where it was not given."""
    return None if value is None else parse_duration(value)


def encode_config(config: FunctionConfig) -> bytes:
    """The configuration as JSON bytes, equal for equal configurations."""
    return msgspec.json.encode(config, order="deterministic")


def decode_config(data: bytes) -> FunctionConfig:
    """Inverse of `encode_config`."""
    return msgspec.json.decode(data, type=FunctionConfig)
