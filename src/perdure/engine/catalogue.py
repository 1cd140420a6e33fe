"""The functions of a server, compiled once: expressions to closures, durations to ms, crons to schedules.

`compile_function` is the last gate for configurations that came over the wire: it raises `ConfigError` naming
function and field. `Catalogue` finds the functions that an event name starts.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure import expressions
from perdure.expressions import Expression, ExpressionError
from perdure.model.config import Concurrency, Cron, EventTrigger, FunctionConfig, millis
from perdure.model.cron import CronError, CronSpec, parse_cron
from perdure.model.durations import parse_instant
from perdure.model.errors import ConfigError
from perdure.model.event import candidate_names


class CronTrigger:
    """A compiled cron trigger."""

    __slots__ = ("jitter", "missed", "spec")

    def __init__(self, trigger: Cron) -> None:
        self.spec: CronSpec = parse_cron(trigger.cron)
        self.jitter = millis(trigger.jitter) or 0
        self.missed = trigger.missed


class CancelRule:
    """A compiled cancel_on rule."""

    __slots__ = ("_timeout", "_until", "event", "expression")

    def __init__(self, event: str, source: str | None, timeout: int | None, until: int | None = None) -> None:
        self.event = event
        self.expression = expressions.compile(source) if source else None
        self._timeout = timeout
        self._until = until

    def span(self, now: int) -> int | None:
        """How long it holds for a run that begins now (ms): None for ever, and nothing below 1."""
        return self._timeout if self._until is None else self._until - now


class CompiledFunction:
    """A function ready for scheduling. `plain`: its runs have no slots, and no timers or pauses of their own."""

    def __init__(self, config: FunctionConfig, version: int = 1, paused: bool = False) -> None:
        self.config = config
        self.id = config.id
        self.app_id = config.app_id
        self.version = version
        self.paused = paused
        self.events: list[tuple[str, Expression | None]] = [
            (trigger.event, _compiled(trigger.expression))
            for trigger in config.triggers
            if isinstance(trigger, EventTrigger)
        ]
        self.crons = [CronTrigger(trigger) for trigger in config.triggers if isinstance(trigger, Cron)]
        self.concurrency: list[tuple[Concurrency, Expression | None]] = [
            (rule, _compiled(rule.key)) for rule in config.concurrency
        ]
        throttle, rate, debounce, batch = (
            config.throttle,
            config.rate_limit,
            config.debounce,
            config.batch_events,
        )
        self.throttle_key = _compiled(throttle.key) if throttle else None
        self.throttle_period = (millis(throttle.period) or 0) if throttle else 0
        self.rate_key = _compiled(rate.key) if rate else None
        self.rate_period = (millis(rate.period) or 0) if rate else 0
        self.debounce_key = _compiled(debounce.key) if debounce else None
        self.debounce_period = (millis(debounce.period) or 0) if debounce else 0
        self.debounce_timeout = millis(debounce.timeout) if debounce else None
        self.batch_key = _compiled(batch.key) if batch else None
        self.batch_if = _compiled(batch.if_) if batch else None
        self.batch_timeout = (millis(batch.timeout) or 0) if batch else 0
        self.priority = _compiled(config.priority.run) if config.priority else None
        self.idempotency = _compiled(config.idempotency)
        self.singleton_key = _compiled(config.singleton.key) if config.singleton else None
        self.cancels = [
            CancelRule(
                rule.event,
                expressions.match_expression(rule.match) if rule.match else rule.if_,
                millis(rule.timeout),
                None if rule.until is None else parse_instant(rule.until),
            )
            for rule in config.cancel_on
        ]
        self.start_timeout = millis(config.timeouts.start) if config.timeouts else None
        self.finish_timeout = millis(config.timeouts.finish) if config.timeouts else None
        self.counts_steps = any(rule.limit and rule.hold == "step" for rule in config.concurrency)
        self.max_attempts = config.retries + 1
        limited = any(rule.limit for rule in config.concurrency)
        self.plain = not (limited or self.cancels or config.singleton or config.throttle or config.timeouts)


def compile_function(config: FunctionConfig, version: int = 1, paused: bool = False) -> CompiledFunction:
    """Compiles a configuration; raises `ConfigError` listing every fault."""
    problems = config.problems()
    for field, source, variables in config.expressions():
        try:
            expressions.compile(source, variables=variables)
        except ExpressionError as error:
            problems.append(f"{field}: {error}")
    for index, trigger in enumerate(config.triggers):
        if isinstance(trigger, Cron):
            try:
                parse_cron(trigger.cron)
            except CronError as error:
                problems.append(f"triggers[{index}].cron: {error}")
    if problems:
        raise ConfigError(f"function {config.id!r}", problems)
    return CompiledFunction(config, version, paused)


def _compiled(source: str | None) -> Expression | None:
    return expressions.compile(source) if source else None


class Catalogue:
    """The functions known to a node, by id and by the event names that start them."""

    def __init__(self, functions: Iterable[CompiledFunction] = ()) -> None:
        self.functions: dict[str, CompiledFunction] = {}
        self._by_event: dict[str, list[tuple[CompiledFunction, Expression | None]]] = {}
        for function in functions:
            self.put(function)

    def get(self, function_id: str) -> CompiledFunction | None:
        return self.functions.get(function_id)

    def put(self, function: CompiledFunction) -> None:
        self.remove(function.id)
        self.functions[function.id] = function
        for name, expression in function.events:
            self._by_event.setdefault(name, []).append((function, expression))

    def remove(self, function_id: str) -> None:
        function = self.functions.pop(function_id, None)
        for name, _ in function.events if function else ():
            kept = [entry for entry in self._by_event.get(name, ()) if entry[0] is not function]
            if kept:
                self._by_event[name] = kept
            else:
                self._by_event.pop(name, None)

    def triggered_by(self, event_name: str) -> dict[str, tuple[CompiledFunction, list[Expression | None]]]:
        """The functions with a trigger for the name, each once, with the conditions of which one must hold."""
        found: dict[str, tuple[CompiledFunction, list[Expression | None]]] = {}
        for name in candidate_names(event_name):
            for function, expression in self._by_event.get(name, ()):
                found.setdefault(function.id, (function, []))[1].append(expression)
        return found
