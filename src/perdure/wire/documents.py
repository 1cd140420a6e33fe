"""A configuration as the function object of a registration (part B.5): the inverse of `functions.read_function`.

What only perdure knows keeps its meaning where it can: rules that hold for whole runs become the `fn` rules of
`concurrency`, `match` becomes the condition that it stands for, and what is left (`missed`, the `hold` of rules for
active runs) goes along as an extension that other servers leave alone.
"""

from __future__ import annotations

from urllib.parse import quote

from perdure.expressions import match_expression
from perdure.model.config import CancelOn, Concurrency, Duration, EventTrigger, FunctionConfig, Trigger
from perdure.model.durations import format_duration, parse_duration
from perdure.model.json import Json


def call_url(url: str, function_id: str) -> str:
    """Where a function is called, of an app that is served at `url`.

    >>> call_url("http://127.0.0.1:8000/api/inngest", "shop-fulfil")
    'http://127.0.0.1:8000/api/inngest?fnId=shop-fulfil&stepId=step'
    """
    return f"{url}{'&' if '?' in url else '?'}fnId={quote(function_id, safe='')}&stepId=step"


def document_of(config: FunctionConfig, url: str | None = None) -> dict[str, Json]:
    """A configuration as a function object. `url` is where its app is served; None takes `config.url` as it is.

    Raises `ValueError` when there is neither.
    """
    called = config.url if url is None else call_url(url, config.id)
    if called is None:
        raise ValueError(f"function {config.id!r} has no URL: say where its app is served")
    runtime = {"type": "ws" if called.startswith(("ws:", "wss:")) else "http", "url": called}
    step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": config.retries}}
    throttle, rate, debounce = config.throttle, config.rate_limit, config.debounce
    batch, singleton, timeouts = config.batch_events, config.singleton, config.timeouts
    document = {
        "id": config.id,
        "name": config.name,
        "triggers": [_trigger_object(trigger) for trigger in config.triggers],
        "steps": {"step": step},
        "idempotency": config.idempotency,
        "concurrency": _concurrency_object(config.concurrency),
        "throttle": throttle
        and _given(limit=throttle.limit, period=_text(throttle.period), burst=throttle.burst or None, key=throttle.key),
        "rateLimit": rate and _given(limit=rate.limit, period=_text(rate.period), key=rate.key),
        "debounce": debounce
        and _given(period=_text(debounce.period), timeout=_text(debounce.timeout), key=debounce.key),
        "batchEvents": batch
        and _given(maxSize=batch.max_size, timeout=_text(batch.timeout), key=batch.key) | _given(**{"if": batch.if_}),
        "priority": config.priority and {"run": config.priority.run},
        "singleton": singleton and _given(key=singleton.key, mode=singleton.mode),
        "cancel": [_cancel_object(rule) for rule in config.cancel_on] or None,
        "timeouts": (timeouts and _given(start=_text(timeouts.start), finish=_text(timeouts.finish))) or None,
    }
    return _given(**document)


def _trigger_object(trigger: Trigger) -> dict[str, Json]:
    if isinstance(trigger, EventTrigger):
        return _given(event=trigger.event, expression=trigger.expression)
    missed = None if trigger.missed == "latest" else trigger.missed
    return _given(cron=trigger.cron, jitter=_text(trigger.jitter), missed=missed)


def _concurrency_object(rules: tuple[Concurrency, ...]) -> Json:
    of_runs = [_rule_object(rule) for rule in rules if rule.hold == "run"]
    # Those of runs that are active are rules of steps to servers that know no better: as strict, or stricter.
    of_steps = [_rule_object(rule) for rule in rules if rule.hold != "run"]
    if of_runs:
        return _given(fn=of_runs, step=of_steps or None)
    return of_steps or None


def _rule_object(rule: Concurrency) -> dict[str, Json]:
    hold = "active" if rule.hold == "active" else None
    return _given(limit=rule.limit, key=rule.key, scope=None if rule.scope == "fn" else rule.scope, hold=hold)


def _cancel_object(rule: CancelOn) -> dict[str, Json]:
    condition = match_expression(rule.match) if rule.match else rule.if_
    return _given(**{"event": rule.event, "if": condition, "timeout": rule.until or _text(rule.timeout)})


def _text(duration: Duration | None) -> str | None:
    return None if duration is None else format_duration(parse_duration(duration))


def _given(**members: Json) -> dict[str, Json]:
    return {name: value for name, value in members.items() if value is not None}
