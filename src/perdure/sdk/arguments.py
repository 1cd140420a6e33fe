"""Checks of what handlers pass to steps, done when the step is called, before anything is recorded.

Every fault names the step and the argument. It cannot be mended by trying again, so it ends the run at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias

from perdure import expressions
from perdure.model import json, values
from perdure.model.config import Duration
from perdure.model.durations import DurationError, InstantError, parse_duration, parse_instant
from perdure.model.errors import NonRetriableError
from perdure.model.event import Event, EventError, parse_event
from perdure.model.json import Json
from perdure.model.limits import DAY, MAX_EVENT_BYTES, MAX_EVENTS_PER_REQUEST, MAX_WAIT

EventLike: TypeAlias = Event | Mapping[str, Json]
"""An event to send: an `Event`, or an object with `name` and optional `data`, `id`, `ts`, `user`, `v`."""

_WAIT_VARIABLES = frozenset({"event", "async", "vars"})


class StepArgumentError(NonRetriableError, ValueError):
    """A step was called with an argument that cannot work."""

    def __init__(self, step_id: object, field: str, reason: object) -> None:
        super().__init__(f"step {step_id!r}: {field}: {reason}")


def check_id(step_id: object) -> None:
    if not isinstance(step_id, str) or not step_id:
        raise StepArgumentError(step_id, "id", "must be a text that is not empty")


def duration(step_id: str, field: str, value: Duration, most: int = MAX_WAIT) -> int:
    """A duration argument in ms, not negative, at most 366 days."""
    try:
        millis = parse_duration(value)
    except DurationError as error:
        raise StepArgumentError(step_id, field, error) from None
    if millis < 0:
        raise StepArgumentError(step_id, field, f"must not be negative, got {value!r}")
    if millis > most:
        raise StepArgumentError(step_id, field, f"must be at most {most // DAY} days, got {value!r}")
    return millis


def instant(step_id: str, field: str, value: datetime | str | int, now: int) -> int:
    """A point in time in ms since the epoch, at most 366 days from now."""
    try:
        millis = parse_instant(value)
    except InstantError as error:
        raise StepArgumentError(step_id, field, error) from None
    if millis - now > MAX_WAIT:
        raise StepArgumentError(step_id, field, f"must be at most {MAX_WAIT // DAY} days from now, got {value}")
    return millis


def text(step_id: str, field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise StepArgumentError(step_id, field, f"must be a text that is not empty, got {value!r}")
    return value


def condition(step_id: str, match: str | None, if_: str | None) -> str | None:
    """The expression of a wait, from either form."""
    if match is not None and if_ is not None:
        raise StepArgumentError(step_id, "match", "give either if_ or match, not both")
    try:
        if match is not None:
            return _match(match)
        if if_ is not None:
            _compile(if_)
    except expressions.ExpressionError as error:
        raise StepArgumentError(step_id, "if_" if match is None else "match", error) from None
    return if_


@lru_cache(maxsize=1024)
def _match(path: str) -> str:
    return expressions.match_expression(path)


@lru_cache(maxsize=1024)
def _compile(source: str) -> None:
    expressions.compile(source, variables=_WAIT_VARIABLES)


def plain(value: object, where: str) -> Json:
    """A value of user code as plain JSON. Raises `UnserializableError`."""
    return json.decode(values.encode(value, where=where))


def json_object(step_id: str, field: str, value: object) -> dict[str, Json]:
    body = plain(value, f"step {step_id!r}: {field}")
    if not isinstance(body, dict):
        raise StepArgumentError(step_id, field, f"must be an object, got {type(value).__name__}")
    return body


def plain_event(event: object, where: str, index: int = 0) -> Json:
    """An event as plain JSON; the sender checks its shape. Raises `UnserializableError`, `EventError` for its size."""
    data = values.encode(event.to_json() if isinstance(event, Event) else event, where=where)
    if len(data) > MAX_EVENT_BYTES:
        reason = f"event has {len(data)} bytes, and at most {MAX_EVENT_BYTES} are allowed: send a reference"
        raise EventError(reason, index)
    return json.decode(data)


def event_list(events: EventLike | Sequence[EventLike]) -> list[EventLike]:
    """One event or several, as a list."""
    return [events] if isinstance(events, Event | Mapping) or not isinstance(events, Sequence) else list(events)


def events_to_send(step_id: str, events: EventLike | Sequence[EventLike], now: int) -> list[dict[str, Json]]:
    """The events of `step.send_event`, checked by the rules for events from outside."""
    found = event_list(events)
    if len(found) > MAX_EVENTS_PER_REQUEST:
        raise StepArgumentError(step_id, "events", f"at most {MAX_EVENTS_PER_REQUEST} can be sent, got {len(found)}")
    bodies: list[dict[str, Json]] = []
    for index, event in enumerate(found):
        try:
            body = plain_event(event, f"step {step_id!r}: events[{index}]", index)
            parse_event(body, now=now, internal_id="", index=index)
        except EventError as error:
            raise StepArgumentError(step_id, f"events[{index}]", error) from None
        bodies.append(body)
    return bodies
