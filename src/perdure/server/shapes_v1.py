"""What v1 shows of an event, a run, a job and a function: records in, plain JSON out."""

from __future__ import annotations

import sqlite3
import sys
from importlib.metadata import version

import msgspec

from perdure.engine.cluster import Cluster
from perdure.engine.views import Health
from perdure.model.config import EventTrigger, FunctionConfig, decode_config
from perdure.model.json import Json, decode
from perdure.model.records import Cancellation, EventRow, FunctionRow, Job, JobState, Run, RunStatus
from perdure.server.identity import NO_ID, uuid_of
from perdure.server.times import optional_rfc3339, rfc3339

STATUS_WORDS = {
    RunStatus.QUEUED: "Scheduled",
    RunStatus.RUNNING: "Running",
    RunStatus.COMPLETED: "Completed",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
    RunStatus.SKIPPED: "Skipped",
}
_NEVER = "0001-01-01T00:00:00Z"


def event(row: EventRow) -> Json:
    body = decode(row.body)
    shown = {
        "internal_id": row.internal_id,
        "account_id": NO_ID,
        "environment_id": NO_ID,
        "source": "",
        "source_id": None,
        "received_at": rfc3339(row.received_at),
        "id": body.get("id") or row.internal_id,
        "name": row.name,
        "data": body["data"],
        "ts": body["ts"],
    }
    shown.update({key: body[key] for key in ("user", "v", "meta") if key in body})
    return shown


def run(row: Run, environment_id: str) -> Json:
    shown = {
        "run_id": row.id,
        # The time at which it was queued, as the protocol has it.
        "run_started_at": rfc3339(row.created_at),
        "function_id": uuid_of(row.function_id),
        "function_version": row.function_version,
        "environment_id": environment_id,
        "event_id": row.event_id,
        "status": STATUS_WORDS[RunStatus(row.status)],
        "ended_at": optional_rfc3339(row.ended_at),
        "output": None if row.output is None else decode(row.output),
    }
    for key, value in (
        ("batch_id", row.batch_id),
        ("original_run_id", row.original_run_id),
        ("cron", row.cron),
    ):
        if value is not None:
            shown[key] = value
    return shown


def job(position: int, row: Job) -> Json:
    return {
        "JobID": row.id,
        "at": rfc3339(row.due_at),
        "position": position,
        "kind": row.kind,
        "attempt": row.attempt,
        "Raw": {
            "id": row.id,
            "at": row.due_at,
            "state": JobState(row.state).name.lower(),
            "run_id": row.run_id,
            "function_id": row.function_id,
            "blocked_on": row.blocked_on,
            "node": row.node,
        },
    }


def function(row: FunctionRow) -> Json:
    shown = {
        "internal_id": uuid_of(row.id),
        "env_id": NO_ID,
        "app_id": uuid_of(row.app_id),
        "id": row.id,
        "name": row.name,
        "config": _config(row, decode_config(row.config)),
        "created_at": rfc3339(row.created_at),
        "archived_at": _NEVER if row.archived_at is None else rfc3339(row.archived_at),
    }
    if row.paused_at is not None:
        shown["paused_at"] = rfc3339(row.paused_at)
    return shown


def _config(row: FunctionRow, config: FunctionConfig) -> Json:
    options = msgspec.to_builtins(config)
    for known in ("id", "app_id", "name", "triggers", "retries"):
        options.pop(known, None)
    return {
        "id": uuid_of(row.id),
        "fv": row.version,
        "name": row.name,
        "slug": row.id,
        "app": config.app_id,
        "triggers": [_trigger(trigger) for trigger in config.triggers],
        "steps": [{"id": "step", "name": "step", "retries": config.retries}],
        **options,
    }


def _trigger(trigger: Json) -> Json:
    if isinstance(trigger, EventTrigger):
        shown = {"event": trigger.event}
        return shown | {"expression": trigger.expression} if trigger.expression else shown
    return {"cron": trigger.cron}


def cancellation(row: Cancellation, environment_id: str) -> Json:
    return {
        "id": row.id,
        "environment_id": environment_id,
        "function_id": row.function_id,
        "function_internal_id": uuid_of(row.function_id),
        "started_after": optional_rfc3339(row.started_after),
        "started_before": rfc3339(row.started_before),
        "if": row.condition,
        "created_at": rfc3339(row.created_at),
        "cancelled": row.cancelled,
    }


def health(found: Health, load: tuple[int, int], functions: int, now: int) -> Json:
    """What `perdure doctor` asks of a running server."""
    return {
        "perdure": version("perdure"),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "runs": {str(status): found.runs.get(status, 0) for status in RunStatus},
        "jobs": {state.name.lower(): found.jobs.get(state, 0) for state in JobState},
        "resident": {"active": load[0], "parked": load[1]},
        "functions": functions,
        "orphans": [{"run_id": run_id, "function_id": slug} for run_id, slug in found.orphans],
        "leaked_slots": [{"key": key, "owner": owner} for key, owner in found.leaked_slots],
        "unregistered": found.unregistered,
        "paused": found.paused,
        "agents": {
            "threads": found.agents.threads,
            "pending_approvals": found.agents.pending_approvals,
            "stranded_approvals": [{"run_id": run_id, "tool_call_id": call} for run_id, call in found.agents.stranded],
        },
        "cluster": cluster(found.cluster, now),
    }


def cluster(found: Cluster, now: int) -> Json:
    """The nodes, and what waits for them; times as ms until `now`."""
    queues = [
        {
            "function_id": queue.function_id,
            "ready": queue.ready,
            "leased": queue.leased,
            "blocked": queue.blocked,
            "oldest_ready_ms": None if queue.oldest_ready is None else max(0, now - queue.oldest_ready),
        }
        for queue in found.queues
    ]
    return {
        "nodes": [{"id": node.id, "alive": node.alive_until > now, "leases": node.leases} for node in found.nodes],
        "lag_ms": found.lag(now),
        "abandoned": found.abandoned(now),
        "set_aside": found.set_aside,
        "queues": queues,
    }
