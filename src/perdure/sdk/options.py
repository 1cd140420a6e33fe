"""The options of `@app.function`: what users write becomes a `FunctionConfig`, or a list of all its faults.

Invariant: what passes here the engine accepts; a wrong expression, schedule or limit fails at import.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import TypeAlias, TypedDict, TypeVar

from perdure import expressions
from perdure.model.config import (
    BatchEvents,
    CancelOn,
    Concurrency,
    Cron,
    Debounce,
    EventTrigger,
    FunctionConfig,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)
from perdure.model.cron import CronError, parse_cron
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.model.limits import DEFAULT_RETRIES
from perdure.sdk.context import Context

T = TypeVar("T")
TriggerLike: TypeAlias = str | Trigger

MAX_ID = 128
_WILDCARD = re.compile(r"[^*]*|[^*]+[/.]\*", re.DOTALL)
_SLUG = re.compile(r"[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")


class FunctionOptions(TypedDict, total=False):
    """What `@app.function` takes besides the id; all optional."""

    trigger: TriggerLike | Sequence[TriggerLike]
    """An event name (or wildcard "shop/*"), `on(...)`, `Cron(...)`, or a list. Without it: invoked only."""
    name: str
    """The name shown to people; the id by default."""
    retries: int
    """Attempts after the first, of each step and of the handler: 0 to 20, 4 by default."""
    concurrency: int | Concurrency | Sequence[Concurrency] | None
    throttle: Throttle | None
    rate_limit: RateLimit | None
    debounce: Debounce | None
    batch_events: BatchEvents | None
    priority: str | Priority | None
    idempotency: str | None
    """An expression: events of the same value start one run in 24 hours."""
    singleton: Singleton | None
    cancel_on: CancelOn | Sequence[CancelOn] | None
    timeouts: Timeouts | None
    on_failure: Callable[[Context], object] | None
    """A handler for runs that failed for good; its `ctx.event.data` holds `error`, `event`, `run_id`."""


def check_slug(field: str, value: object) -> list[str]:
    """The faults of an app or function id."""
    if not isinstance(value, str) or len(value) > MAX_ID or not _SLUG.fullmatch(value):
        return [f"{field}: must be 1 to {MAX_ID} letters and digits, in words joined by - _ or ., got {value!r}"]
    return []


def configure(app_id: str, function_id: str, options: FunctionOptions, problems: list[str]) -> FunctionConfig:
    """The configuration that the options ask for; what is wrong with them is added to `problems`."""
    problems += _unknown(options)
    config = FunctionConfig(
        id=f"{app_id}-{function_id}",
        app_id=app_id,
        name=_one_of(options, "name", (str,), problems) or function_id,
        triggers=tuple(_triggers(options.get("trigger"), problems)),
        retries=_retries(options.get("retries", DEFAULT_RETRIES), problems),
        concurrency=tuple(_concurrency(options.get("concurrency"), problems)),
        throttle=_one_of(options, "throttle", (Throttle,), problems),
        rate_limit=_one_of(options, "rate_limit", (RateLimit,), problems),
        debounce=_one_of(options, "debounce", (Debounce,), problems),
        batch_events=_one_of(options, "batch_events", (BatchEvents,), problems),
        priority=_priority(options.get("priority"), problems),
        idempotency=_one_of(options, "idempotency", (str,), problems),
        singleton=_one_of(options, "singleton", (Singleton,), problems),
        cancel_on=tuple(_cancel_on(options.get("cancel_on"), problems)),
        timeouts=_one_of(options, "timeouts", (Timeouts,), problems),
    )
    problems += config.problems()
    problems += _texts(config)
    return config


def _unknown(options: FunctionOptions) -> Iterator[str]:
    known = FunctionOptions.__annotations__
    for option in options.keys() - known.keys():
        near = get_close_matches(option, known, n=1)
        yield f"{option}: is no option" + (f"; did you mean {near[0]}?" if near else "")


def _texts(config: FunctionConfig) -> Iterator[str]:
    """The faults of what is written in languages of its own: expressions, paths, schedules."""
    for field, source, variables in config.expressions():
        try:
            expressions.compile(source, variables=variables)
        except expressions.ExpressionError as error:
            yield f"{field}: {error}"
    for index, rule in enumerate(config.cancel_on):
        if rule.match:
            try:
                expressions.match_expression(rule.match)
            except expressions.ExpressionError as error:
                yield f"cancel_on[{index}].match: {error}"
    for index, trigger in enumerate(config.triggers):
        if isinstance(trigger, Cron):
            try:
                parse_cron(trigger.cron)
            except CronError as error:
                yield f"triggers[{index}].cron: {error}"
        elif not _WILDCARD.fullmatch(trigger.event):
            yield f"triggers[{index}].event: * stands only at the end, after / or ., got {trigger.event!r}"


def _several(value: Json) -> Sequence[object]:
    """One value or several; `object`, for what users write is checked here, not believed."""
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _triggers(value: object, problems: list[str]) -> Iterator[Trigger]:
    for index, item in enumerate(_several(value)):
        if isinstance(item, EventTrigger | Cron):
            yield item
        elif isinstance(item, str):
            try:
                yield EventTrigger(item)
            except ConfigError as error:
                problems += [f"triggers[{index}].{problem}" for problem in error.problems]
        else:
            problems.append(f"triggers[{index}]: must be an event name, on(...) or Cron(...), got {item!r}")


def _retries(value: object, problems: list[str]) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    problems.append(f"retries: must be a whole number, got {value!r}")
    return DEFAULT_RETRIES


def _concurrency(value: object, problems: list[str]) -> Iterator[Concurrency]:
    if isinstance(value, int):
        try:
            yield Concurrency(value)
        except ConfigError as error:
            problems += [f"concurrency.{problem}" for problem in error.problems]
        return
    for index, rule in enumerate(_several(value)):
        if isinstance(rule, Concurrency):
            yield rule
        else:
            problems.append(f"concurrency[{index}]: must be a number or Concurrency(...), got {rule!r}")


def _priority(value: object, problems: list[str]) -> Priority | None:
    if isinstance(value, str):
        return Priority(value)
    if value is None or isinstance(value, Priority):
        return value
    problems.append(f"priority: must be an expression or Priority(...), got {value!r}")
    return None


def _cancel_on(value: object, problems: list[str]) -> Iterator[CancelOn]:
    for index, rule in enumerate(_several(value)):
        if isinstance(rule, CancelOn):
            yield rule
        else:
            problems.append(f"cancel_on[{index}]: must be CancelOn(...), got {rule!r}")


def _one_of(options: FunctionOptions, field: str, kinds: tuple[type[T]], problems: list[str]) -> T | None:
    value: object = options.get(field)
    if value is None or isinstance(value, kinds):
        if value != "":
            return value
        problems.append(f"{field}: must not be empty")
        return None
    wanted = "a text" if kinds == (str,) else f"{kinds[0].__name__}(...)"
    problems.append(f"{field}: must be {wanted}, got {value!r}")
    return None
