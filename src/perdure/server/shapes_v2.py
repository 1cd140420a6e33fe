"""What v2 shows of a run. Members without a value are left out, and 64-bit numbers are text (F.3)."""

from __future__ import annotations

from perdure.model.json import Json, decode
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
