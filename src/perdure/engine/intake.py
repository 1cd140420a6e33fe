"""What comes from outside of runs: events, direct invocations, signals, cancellations, registrations."""

from __future__ import annotations

import msgspec

from perdure.engine import reads, views
from perdure.engine.catalogue import CompiledFunction, compile_function
from perdure.engine.finish import cancel_run
from perdure.engine.mutations import DeleteJob, PutEvent, UnblockFunction, put_function
from perdure.engine.schedule import Refused, accept, close_window, consider, settle
from perdure.engine.ticks import cron_job_id, first_tick, stale_cron_jobs
from perdure.engine.turn import Backlog, Decision, Turn
from perdure.engine.waits import send_signal
from perdure.expressions import EvaluationError, Expression
from perdure.model.config import FunctionConfig, decode_config, encode_config
from perdure.model.event import StoredEvent
from perdure.model.json import Json, encode
from perdure.model.records import FunctionRow, Run, RunStatus


class Invoked(msgspec.Struct):
    """What came of a direct invocation: its event, and its run, or why no run began now (`refused`).

    Repeated within 24h, both are those of the first one, and `refused` says "duplicate".
    """

    event_id: str
    run_id: str | None = None
    refused: Refused | None = None


def ingest(turn: Turn, events: list[StoredEvent], *, seeded: bool = False) -> Decision[list[list[str]]]:
    """Accepts events; returns the ids of the runs that each started.

    `seeded` events carry ids made from the sender's seed (A.4): one that is there already is a repeated request
    and changes nothing.
    """
    started: list[list[str]] = []
    for stored in events:
        if seeded and (yield from reads.event_by_id(stored.internal_id)) is not None:
            started.append([])
        else:
            started.append((yield from accept(turn, stored)))
    yield from settle(turn)
    return started


def invoke(turn: Turn, function_id: str, stored: StoredEvent) -> Decision[Invoked | None]:
    """Starts one function directly; None when it is not registered."""
    function = turn.catalogue.get(function_id)
    if function is None:
        return None
    if function.paused:
        return Invoked(stored.internal_id, refused=Refused("function_paused", f"function {function_id} is paused"))
    body = encode(stored.event.to_json())
    yield PutEvent(stored.internal_id, stored.event.name, stored.received_at, int(stored.internal), body)
    outcome = yield from consider(turn, function, stored)
    yield from settle(turn)
    if isinstance(outcome, str):
        return Invoked(stored.internal_id, outcome)
    if outcome.event_id is None:
        return Invoked(stored.internal_id, refused=outcome)
    runs = yield from views.runs_of_event(outcome.event_id)
    run_id = next((run.id for run in runs if run.function_id == function_id), None)
    return Invoked(outcome.event_id, run_id, outcome)


def signal(turn: Turn, name: str, data: Json) -> Decision[str | None]:
    """Delivers a signal; returns the run that got it."""
    run_id = yield from send_signal(turn, name, data)
    yield from settle(turn)
    return run_id


def cancel(turn: Turn, run_id: str) -> Decision[RunStatus | None]:
    """Cancels one run; returns the status it had before."""
    status = yield from cancel_run(turn, run_id)
    yield from settle(turn)
    return status


def cancel_many(
    turn: Turn,
    function_id: str,
    *,
    started_after: int | None,
    started_before: int | None,
    condition: Expression | None,
    after_id: str = "",
    limit: int = 500,
) -> Decision[tuple[int, str | None]]:
    """Cancels a page of a function's runs; returns how many, and where the next page begins (None at the end)."""
    runs = yield from reads.active_runs(function_id, after_id, limit)
    cancelled = 0
    for run in runs:
        if (yield from _selected(turn, run, started_after, started_before, condition)):
            yield from cancel_run(turn, run.id)
            cancelled += 1
    yield from settle(turn)
    return cancelled, runs[-1].id if len(runs) == limit else None


def _selected(
    turn: Turn, run: Run, started_after: int | None, started_before: int | None, condition: Expression | None
) -> Decision[bool]:
    if started_after is not None and run.created_at < started_after:
        return False
    if started_before is not None and run.created_at > started_before:
        return False
    if condition is None:
        return True
    events = yield from reads.run_events(run)
    try:
        return bool(events) and condition.truthy({"event": events[0].to_json()}, now=turn.now)
    except EvaluationError:
        return False


def register(turn: Turn, app_id: str, configs: list[FunctionConfig]) -> Decision[list[CompiledFunction]]:
    """Registers an app's functions and archives those it no longer has; returns all functions in force.

    Runs of a changed function go on with the new code. Those that are blocked compete again with `unblock`, once the
    functions that this returns are in force: before that, the old limits would block them again.
    """
    rows = {row.id: row for row in (yield from reads.functions())}
    others = [function for function in turn.catalogue.functions.values() if function.app_id != app_id]
    registered: list[CompiledFunction] = []
    for config in configs:
        row = rows.get(config.id)
        stored = encode_config(config)
        if row is None or row.config != stored or row.archived_at is not None:
            version = row.version + 1 if row else 1
            created_at = row.created_at if row else turn.now
            paused_at = row.paused_at if row else None
            row = FunctionRow(config.id, app_id, config.name, version, stored, created_at, None, paused_at)
            yield put_function(row)
        function = compile_function(config, row.version, row.paused_at is not None)
        registered.append(function)
        yield from _arm_crons(turn, function)
    yield from _archive(turn, app_id, list(rows.values()), {config.id for config in configs})
    return others + registered


def unblock(turn: Turn, configs: list[FunctionConfig]) -> Decision[None]:
    """Lets the blocked runs of functions compete again: what they waited for may have come."""
    for config in configs:
        yield UnblockFunction(config.id)
    turn.effects.append(Backlog())


def _archive(turn: Turn, app_id: str, rows: list[FunctionRow], current: set[str]) -> Decision[None]:
    """Takes functions out of force. What they collected becomes runs, which wait for their code like all others."""
    for row in rows:
        if row.app_id == app_id and row.id not in current and row.archived_at is None:
            row.archived_at = turn.now
            yield put_function(row)
            for job in (yield from reads.cron_jobs(row.id)):
                yield DeleteJob(job.id)
            function = turn.catalogue.get(row.id)
            if function is not None:
                for job in (yield from reads.windows(row.id)):
                    yield DeleteJob(job.id)
                    yield from close_window(turn, job, function)


def in_force(row: FunctionRow) -> CompiledFunction:
    """A stored function, compiled."""
    return compile_function(decode_config(row.config), row.version, row.paused_at is not None)


def _arm_crons(turn: Turn, function: CompiledFunction) -> Decision[None]:
    for job_id in (yield from stale_cron_jobs(function)):
        yield DeleteJob(job_id)
    for trigger in function.crons:
        if (yield from reads.job_by_id(cron_job_id(function.id, trigger.spec.text))) is None:
            yield first_tick(turn, function, trigger)
