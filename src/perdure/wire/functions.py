"""The function object of a registration (part B.5), read into a configuration.

Reading says of every field what is wrong with it, in the words of the object (`debounce.period: ...`). Where SDKs rely
on a server that takes more than the documentation allows, it is taken, made to fit, and noted as a warning.
What only the whole function shows, and whether its expressions and schedules can be understood, is for the engine to
say (`compile_function`); `spelled` puts its words into those of the object.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, TypeVar
from urllib.parse import urlsplit

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
from perdure.model.durations import DurationError, InstantError, parse_duration, parse_instant
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.model.limits import DEFAULT_RETRIES, MAX_RETRIES
from perdure.wire.fields import Fields, shown

T = TypeVar("T")

_DEFAULT_BATCH_TIMEOUT: Final = "60s"
_SCHEMES: Final = ("http", "https", "ws", "wss")
_SPELLINGS: Final = {
    "batch_events": "batchEvents",
    "cancel_on": "cancel",
    "if_": "if",
    "max_size": "maxSize",
    "rate_limit": "rateLimit",
}
_MODEL_WORD = re.compile(r"\b(?:" + "|".join(_SPELLINGS) + r")(?!\w)")


class UnknownModeError(ConfigError):
    """A mode of a singleton that does not exist: the protocol has an error of its own for it."""

    def __init__(self, mode: Json) -> None:
        self.mode = mode
        super().__init__("singleton", [f'singleton.mode: must be "skip" or "cancel", got {shown(mode)}'])


def spelled(problem: str) -> str:
    """What is wrong with a configuration, with the names that its fields have in the protocol.

    >>> spelled("batch_events.if_: is not an expression")
    'batchEvents.if: is not an expression'
    """
    return _MODEL_WORD.sub(lambda word: _SPELLINGS[word[0]], problem)


def read_function(app_id: str, value: Json, warnings: list[str]) -> FunctionConfig:
    """A function object as a configuration; what was made to fit is added to `warnings`.

    Raises `ConfigError` with everything that is wrong, each as "field: what and how".
    """
    if not isinstance(value, dict):
        raise ConfigError("function", [f"must be an object, got {shown(value)}"])
    return _Reader(app_id, Fields(value), warnings).read()


class _Reader:
    """Reads one function object, going on after a fault so that all are told at once."""

    def __init__(self, app_id: str, fields: Fields, warnings: list[str]) -> None:
        self._app_id = app_id
        self._fields = fields
        self._warnings = warnings
        self._problems: list[str] = []
        self._id = ""

    def read(self) -> FunctionConfig:
        self._id = self._required("id")
        retries, url = self._step()
        idempotency = self._part("", lambda: self._fields.text("idempotency"))
        rate_limit = self._policy("rateLimit", _rate_limit)
        if idempotency and rate_limit:
            self._warn("idempotency: is a rate limit of 1 in 24h, and replaces the rateLimit that is given beside it")
        config = FunctionConfig(
            id=self._id,
            app_id=self._app_id,
            name=self._required("name"),
            triggers=tuple(self._each("triggers", _trigger)),
            retries=retries,
            concurrency=tuple(self._concurrency()),
            throttle=self._policy("throttle", self._throttle),
            rate_limit=None if idempotency else rate_limit,
            debounce=self._policy("debounce", _debounce),
            batch_events=self._policy("batchEvents", self._batch),
            priority=self._policy("priority", _priority),
            idempotency=idempotency,
            singleton=self._policy("singleton", _singleton),
            cancel_on=tuple(self._each("cancel", self._cancel)),
            timeouts=self._policy("timeouts", self._timeouts),
            url=url,
        )
        if self._problems:
            raise ConfigError("function", self._problems)
        return config

    def _warn(self, text: str) -> None:
        self._warnings.append(f"function {self._id}: {text}")

    def _part(self, where: str, read: Callable[[], T]) -> T | None:
        """Reads a part of the object; what is wrong with it is said under its name."""
        try:
            return read()
        except UnknownModeError:
            raise
        except ConfigError as error:
            self._problems += [f"{where}{spelled(problem)}" for problem in error.problems]
            return None

    def _required(self, name: str) -> str:
        value = self._fields.get(name)
        if isinstance(value, str):
            return value
        got = "none" if value is None else shown(value)
        self._problems.append(f"{name}: must be a text that is not empty, got {got}")
        return ""

    def _policy(self, name: str, build: Callable[[Fields], T | None]) -> T | None:
        fields = self._part("", lambda: self._fields.object(name))
        return None if fields is None else self._part(f"{name}.", lambda: build(fields))

    def _each(self, name: str, build: Callable[[Fields], T]) -> list[T]:
        values = self._part("", lambda: self._fields.items(name)) or []
        return self._objects(name, values, build)

    def _objects(self, name: str, values: list[Json], build: Callable[[Fields], T]) -> list[T]:
        found: list[T] = []
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                self._problems.append(f"{name}[{index}]: must be an object, got {shown(value)}")
                continue
            fields = Fields(value)
            built = self._part(f"{name}[{index}].", lambda fields=fields: build(fields))  # type: ignore[misc]
            if built is not None:
                found.append(built)
        return found

    def _step(self) -> tuple[int, str]:
        """The retries of the one step that a function object has, and where it is called."""
        steps = self._part("", lambda: self._fields.object("steps")) and self._fields.get("steps")
        if not isinstance(steps, dict) or len(steps) != 1:
            self._problems.append('steps: must be an object with exactly one step, such as {"step": {...}}')
            return DEFAULT_RETRIES, ""
        ((name, step),) = steps.items()
        where = f"steps.{name}."
        if not isinstance(step, dict):
            self._problems.append(f"steps.{name}: must be an object, got {shown(step)}")
            return DEFAULT_RETRIES, ""
        fields = Fields(step)
        retries = self._part(where, lambda: self._retries(fields))
        return DEFAULT_RETRIES if retries is None else retries, self._part(where, lambda: _url(fields)) or ""

    def _retries(self, step: Fields) -> int:
        given = step.get("retries")
        attempts = Fields(given).whole("attempts") if isinstance(given, dict) else step.whole("retries")
        if attempts is None:
            return DEFAULT_RETRIES
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 0:
            raise ConfigError("retries", [f"retries.attempts: must be a whole number, got {shown(attempts)}"])
        if attempts > MAX_RETRIES:
            self._warn(f"retries: {attempts} are more than the {MAX_RETRIES} that are allowed, and are taken for those")
        return min(attempts, MAX_RETRIES)

    def _concurrency(self) -> list[Concurrency]:
        given = self._fields.whole("concurrency")
        if given is None:
            return []
        if isinstance(given, int) and not isinstance(given, bool):
            given = [{"limit": given}]
        if isinstance(given, dict) and "limit" not in {key.lower() for key in given}:
            # Of runs first: the one list that the model has keeps both apart by what they hold.
            runs, steps = Fields(given).get("fn") or [], Fields(given).get("step") or []
            if isinstance(runs, list) and len(runs) > 1:
                self._problems.append(f"concurrency.fn: at most 1 is allowed, got {len(runs)}")
            return self._rules("concurrency.fn", runs, _of_runs) + self._rules("concurrency.step", steps, _of_steps)
        return self._rules("concurrency", given, _of_steps)

    def _rules(self, name: str, given: Json, build: Callable[[Fields], Concurrency]) -> list[Concurrency]:
        if isinstance(given, dict):
            given = [given]
        if isinstance(given, list):
            return self._objects(name, given, build)
        self._problems.append(f"{name}: must be a number, an object or a list of objects, got {shown(given)}")
        return []

    def _throttle(self, fields: Fields) -> Throttle:
        limit = fields.whole("limit")
        if limit == 0 and not isinstance(limit, bool):
            self._warn("throttle.limit: 0 is taken for 1, the least that lets anything through")
            limit = 1
        return Throttle(limit, _period(fields), fields.whole("burst") or 0, fields.text("key"))

    def _batch(self, fields: Fields) -> BatchEvents:
        timeout = fields.text("timeout")
        if timeout is None:
            self._warn(f"batchEvents.timeout: is missing, and taken for {_DEFAULT_BATCH_TIMEOUT}")
            timeout = _DEFAULT_BATCH_TIMEOUT
        return BatchEvents(fields.whole("maxSize"), timeout, fields.text("key"), fields.text("if"))

    def _cancel(self, fields: Fields) -> CancelOn:
        timeout, until = fields.text("timeout"), None
        if timeout is not None and _is_instant(timeout):
            timeout, until = None, timeout
        return CancelOn(fields.get("event"), fields.text("if"), fields.text("match"), timeout, until)

    def _timeouts(self, fields: Fields) -> Timeouts | None:
        found: dict[str, str | None] = {}
        for name in ("start", "finish"):
            value = fields.get(name)
            try:
                Timeouts(value)
            except ConfigError:
                self._warn(f"timeouts.{name}: {shown(value)} is not a duration such as 10s, and is left out")
                value = None
            found[name] = value
        return Timeouts(**found) if any(found.values()) else None


def _period(fields: Fields) -> Json:
    """A period that must be there; the model says so where it is not."""
    return fields.text("period")


def _trigger(fields: Fields) -> Trigger:
    if fields.get("event") is not None:
        return EventTrigger(fields.get("event"), fields.text("expression"))
    cron = fields.text("cron")
    if cron is None:
        raise ConfigError("trigger", ['event: an event name, or "cron" with a schedule, is required'])
    missed = fields.get("missed")
    return Cron(cron, fields.text("jitter")) if missed is None else Cron(cron, fields.text("jitter"), missed)


def _of_steps(fields: Fields) -> Concurrency:
    hold: Literal["step", "active"] = "active" if fields.get("hold") == "active" else "step"
    return Concurrency(fields.whole("limit"), fields.text("key"), fields.get("scope") or "fn", hold)


def _of_runs(fields: Fields) -> Concurrency:
    return Concurrency(fields.whole("limit"), fields.text("key"), fields.get("scope") or "fn", hold="run")


def _rate_limit(fields: Fields) -> RateLimit:
    return RateLimit(fields.whole("limit"), _period(fields), fields.text("key"))


def _debounce(fields: Fields) -> Debounce:
    return Debounce(_period(fields), fields.text("timeout"), fields.text("key"))


def _priority(fields: Fields) -> Priority | None:
    run = fields.text("run")
    return None if run is None else Priority(run)


def _singleton(fields: Fields) -> Singleton:
    mode: Json = fields.get("mode")
    if mode not in (None, "skip", "cancel"):
        raise UnknownModeError(mode)
    return Singleton(fields.text("key"), "cancel" if mode == "cancel" else "skip")


def _url(step: Fields) -> str:
    runtime = step.object("runtime") or Fields({})
    url = runtime.text("url")
    if url is None:
        raise ConfigError("runtime", ["runtime.url: is required: where the function is called"])
    kind = runtime.get("type") or "http"
    if kind not in ("http", "ws"):
        raise ConfigError("runtime", [f'runtime.type: must be "http" or "ws", got {shown(kind)}'])
    # The URL alone says how: SDKs give the failure handlers of their workers the type "http".
    if not is_url(url, _SCHEMES):
        raise ConfigError("runtime", [f"runtime.url: must be an absolute http or ws URL, got {shown(url)}"])
    return url


def is_url(text: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    """Whether a text is an absolute URL of one of the schemes.

    >>> is_url("http://127.0.0.1:3000/api/inngest"), is_url("file:///etc/passwd"), is_url("http://[::1")
    (True, False, False)
    """
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_instant(text: str) -> bool:
    try:
        parse_duration(text)
    except DurationError:
        try:
            parse_instant(text)
        except InstantError:
            return False
        return True
    return False
