"""What v2 shows of a run and of a function. Members without a value are left out, and 64-bit numbers are text (F.3)."""

from __future__ import annotations

from perdure.expressions import match_expression
from perdure.model.config import CancelOn, Concurrency, Cron, Duration, FunctionConfig, Trigger, millis
from perdure.model.durations import format_duration
from perdure.model.json import Json, decode
from perdure.model.limits import DEFAULT_RETRIES
from perdure.model.records import Run, RunStatus
from perdure.server.identity import short_id
from perdure.server.times import rfc3339

STATUSES = {
    RunStatus.QUEUED: "QUEUED",
    RunStatus.RUNNING: "RUNNING",
    RunStatus.COMPLETED: "COMPLETED",
    RunStatus.FAILED: "FAILED",
    RunStatus.CANCELLED: "CANCELLED",
    RunStatus.SKIPPED: "SKIPPED",
}
_SCOPES = {"fn": "FUNCTION", "env": "ENVIRONMENT", "account": "ACCOUNT"}


def run_shape(run: Run, event_ids: list[str], name: str | None, *, output: bool) -> Json:
    """A run; `name` is its function's, while that is registered."""
    short = short_id(run.function_id, run.app_id)
    shown: dict[str, Json] = {
        "id": run.id,
        "status": STATUSES[RunStatus(run.status)],
        "function": {"id": short, "name": name or short},
        "app": {"id": run.app_id},
        **interval(run.created_at, run.started_at, run.ended_at),
        "trigger": _trigger(run, event_ids),
    }
    if output and run.output is not None:
        value = decode(run.output)
        if value is not None:
            shown["output"] = value
    return shown


def interval(queued_at: int, started_at: int | None, ended_at: int | None) -> dict[str, Json]:
    """The times of a run or span: what has not come is left out; the duration is that from start to end."""
    shown: dict[str, Json] = {"queuedAt": rfc3339(queued_at)}
    if started_at is not None:
        shown["startedAt"] = rfc3339(started_at)
    if ended_at is not None:
        shown["endedAt"] = rfc3339(ended_at)
        if started_at is not None:
            shown["durationMs"] = str(max(0, ended_at - started_at))
    return shown


def _trigger(run: Run, event_ids: list[str]) -> Json:
    shown: dict[str, Json] = {"eventIds": event_ids}
    if run.batch_id is not None:
        shown |= {"batchId": run.batch_id, "isBatch": True}
    if run.cron is not None:
        shown["cron"] = run.cron
    return shown


def function_shape(config: FunctionConfig, paused_at: int | None) -> Json:
    """A registered function; `pausedAt` is there while it is paused."""
    shown: dict[str, Json] = {
        "id": short_id(config.id, config.app_id),
        "slug": config.id,
        "name": config.name,
        "app": {"id": config.app_id},
        "triggers": [_function_trigger(trigger) for trigger in config.triggers],
        "configuration": _configuration(config),
    }
    return shown if paused_at is None else shown | {"pausedAt": rfc3339(paused_at)}


def _function_trigger(trigger: Trigger) -> Json:
    if isinstance(trigger, Cron):
        return {"type": "CRON", "value": trigger.cron}
    return _given({"type": "EVENT", "value": trigger.event, "if": trigger.expression})


def _configuration(config: FunctionConfig) -> dict[str, Json]:
    throttle, rate, debounce, batch = config.throttle, config.rate_limit, config.debounce, config.batch_events
    singleton, timeouts = config.singleton, config.timeouts
    shown: dict[str, Json] = {
        "retries": {"value": config.retries, "isDefault": config.retries == DEFAULT_RETRIES},
        "concurrency": [_concurrency(rule) for rule in config.concurrency],
        "cancellations": [
            _given({"event": rule.event, "condition": _condition(rule), "timeout": rule.until or _period(rule.timeout)})
            for rule in config.cancel_on
        ],
        "priority": config.priority.run if config.priority else None,
        "idempotency": config.idempotency,
    }
    if throttle:
        shown["throttle"] = {"limit": throttle.limit, "period": _period(throttle.period), "key": throttle.key}
        shown["throttle"]["burst"] = throttle.burst or None
    if rate:
        shown["rateLimit"] = {"limit": rate.limit, "period": _period(rate.period), "key": rate.key}
    if debounce:
        shown["debounce"] = {"period": _period(debounce.period), "key": debounce.key}
        shown["debounce"]["timeout"] = _period(debounce.timeout)
    if batch:
        shown["eventsBatch"] = {"maxSize": batch.max_size, "timeout": _period(batch.timeout), "key": batch.key}
        shown["eventsBatch"]["condition"] = batch.if_
    if singleton:
        shown["singleton"] = {"key": singleton.key, "mode": singleton.mode.upper()}
    if timeouts:
        shown["timeouts"] = {"start": _period(timeouts.start), "finish": _period(timeouts.finish)}
    return {key: _given(value) if isinstance(value, dict) else value for key, value in _given(shown).items() if value}


def _concurrency(rule: Concurrency) -> Json:
    limit = {"value": rule.limit, "isPlanLimit": False}
    return _given({"scope": _SCOPES[rule.scope], "key": rule.key, "limit": limit})


def _condition(rule: CancelOn) -> str | None:
    return match_expression(rule.match) if rule.match else rule.if_


def _period(value: Duration | None) -> str | None:
    return None if value is None else format_duration(millis(value) or 0)


def _given(shown: dict[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in shown.items() if value is not None}
