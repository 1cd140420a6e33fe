"""Events: the shape, the rules of part A of the protocol, and the names of internal events.

An event has two ids: the internal one (a ULID, unique, the key in the store) and the user's (`id`, for
idempotency; the internal id where the user gave none). `parse_event` is the only door for events from outside:
each broken rule gets its own message, which the HTTP envelope carries verbatim.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from perdure.model.json import Json
from perdure.model.limits import MAX_EVENT_NAME, MAX_TS, MIN_TS
from perdure.model.sessions import SessionsError, resolve_sessions

INTERNAL_PREFIX = "inngest/"
FUNCTION_FINISHED = "inngest/function.finished"
FUNCTION_FAILED = "inngest/function.failed"
FUNCTION_CANCELLED = "inngest/function.cancelled"
FUNCTION_INVOKED = "inngest/function.invoked"
SCHEDULED_TIMER = "inngest/scheduled.timer"
DEFERRED_SCHEDULE = "inngest/deferred.schedule"


class EventError(ValueError):
    """An event is malformed. `index` is its place in the request (0 for a single event)."""

    def __init__(self, reason: str, index: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.index = index


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """What a handler sees as `ctx.event`: `name`, `data`, the user's `id`, `ts` in ms, and `user`, `v`, `meta`."""

    name: str
    data: dict[str, Json]
    id: str = ""
    ts: int = 0
    user: dict[str, Json] | None = None
    v: str | None = None
    meta: dict[str, Json] | None = None

    def to_json(self) -> dict[str, Json]:
        """The event as plain JSON, as expressions and the wire see it."""
        body: dict[str, Json] = {"data": self.data, "id": self.id, "name": self.name, "ts": self.ts}
        if self.user is not None:
            body["user"] = self.user
        if self.v is not None:
            body["v"] = self.v
        if self.meta is not None:
            body["meta"] = self.meta
        return body


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An accepted event under its internal id."""

    internal_id: str
    event: Event
    received_at: int
    internal: bool = False


def parse_event(body: Json, *, now: int, internal_id: str, index: int = 0, internal: bool = False) -> StoredEvent:
    """Checks one event of a request and completes it: `data` {} and `ts` now where absent.

    `internal` admits names under `inngest/` and the `_inngest` key of `data`, which come only from the engine.
    Raises `EventError`.

    >>> parse_event({"name": "shop/paid"}, now=5, internal_id="01").event.ts
    5
    """
    if not isinstance(body, dict):
        raise EventError(f"event must be a JSON object, got {_kind(body)}", index)
    name = body.get("name")
    if name is None or name == "":
        raise EventError("event name is empty", index)
    if not isinstance(name, str):
        raise EventError(f"event name must be a string, got {_kind(name)}", index)
    if len(name) > MAX_EVENT_NAME:
        raise EventError(f"event name is longer than {MAX_EVENT_NAME} characters", index)
    if not internal and name.lower().startswith(INTERNAL_PREFIX):
        raise EventError(f"event name is reserved for internal use: {name}", index)
    data = _object(body, "data", index) or {}
    if not internal and "_inngest" in data:
        data = {key: value for key, value in data.items() if key != "_inngest"}
    event = Event(
        name=name,
        data=data,
        id=_text(body, "id", index) or internal_id,
        ts=_timestamp(body.get("ts"), now, index),
        user=_object(body, "user", index),
        v=_text(body, "v", index),
        meta=_meta(body, index),
    )
    return StoredEvent(internal_id=internal_id, event=event, received_at=now, internal=internal)


@lru_cache(maxsize=4096)
def candidate_names(name: str) -> tuple[str, ...]:
    """The trigger names that match an event name: itself and its wildcards, cut at each `/` and `.` (A.6).

    >>> candidate_names("app/user.created")
    ('app/user.created', 'app/*', 'app/user.*')
    """
    names = [name]
    for position, char in enumerate(name):
        if char == "/":
            names.append(name[:position] + "/*")
        elif char == ".":
            names.append(name[:position] + ".*")
    return tuple(names)


def _kind(value: Json) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _object(body: Mapping[str, Json], key: str, index: int) -> dict[str, Json] | None:
    value = body.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise EventError(f"event {key} must be an object, got {_kind(value)}", index)


def _text(body: Mapping[str, Json], key: str, index: int) -> str | None:
    value = body.get(key)
    if value is None or isinstance(value, str):
        return value
    raise EventError(f"event {key} must be a string, got {_kind(value)}", index)


def _timestamp(value: Json, now: int, index: int) -> int:
    if value is None or value == 0:
        return now
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise EventError(f"event ts must be a whole number of milliseconds, got {_kind(value)}", index)
    if value < MIN_TS:
        raise EventError("timestamp is before Jan 1, 1980", index)
    if value > MAX_TS:
        raise EventError("timestamp is after Jan 1, 2100", index)
    return int(value)


def _meta(body: Mapping[str, Json], index: int) -> dict[str, Json] | None:
    try:
        return resolve_sessions(_object(body, "meta", index))
    except SessionsError as error:
        raise EventError(f"event {error}", index) from error
