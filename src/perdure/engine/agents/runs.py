"""Runs of agents, as their callers know them: which run of the engine does the work, for whom, and how it stands.

The id that a caller gives is an idempotency key: the same id with the same input is the same run, with another input
it is refused. Invariant: a run that is over asks nobody, takes no signals, and stays over.
"""

from __future__ import annotations

from typing import Final

from perdure.engine.agents.mutations import (
    CloseApprovals,
    DeleteAgentRun,
    DeleteRunApprovals,
    DeleteRunBegun,
    DeleteRunInbox,
    DeleteRunTasks,
    PutBegun,
    put_agent_run,
)
from perdure.engine.agents.records import OVER, AgentRunRow, AgentRunStatus
from perdure.engine.turn import Decision, Read
from perdure.model.json import encode

TAKEN: Final = "taken"
"""The answer where the id is that of a run with another input."""


def run_by_id(run_id: str) -> Decision[AgentRunRow | None]:
    rows = yield Read("agent_run_by_id", (run_id,))
    return AgentRunRow(*rows[0]) if rows else None


def run_by_engine(engine_run_id: str) -> Decision[AgentRunRow | None]:
    rows = yield Read("agent_runs_by_engine", (engine_run_id,))
    return AgentRunRow(*rows[0]) if rows else None


def children(run_id: str) -> Decision[list[AgentRunRow]]:
    """The runs below a run, in the order of their beginning: those of sub-agents, and of background tasks."""
    rows = yield Read("agent_runs_by_parent", (run_id,))
    return [AgentRunRow(*row) for row in rows]


def put(row: AgentRunRow) -> Decision[tuple[AgentRunRow, bool] | str]:
    """The run with this id, and whether it is new; `TAKEN` when there is one of another agent or input."""
    known = yield from run_by_id(row.run_id)
    if known is None:
        yield put_agent_run(row)
        return row, True
    if (known.agent_id, known.input_hash) != (row.agent_id, row.input_hash):
        return TAKEN
    return known, False


def bind(run_id: str, engine_run_id: str, now: int) -> Decision[AgentRunRow | None]:
    """Notes which run of the engine does the work; the first one stays."""
    row = yield from run_by_id(run_id)
    if row is not None and row.engine_run_id is None:
        row.engine_run_id, row.updated_at = engine_run_id, now
        yield put_agent_run(row)
    return row


def set_status(
    run_id: str, status: AgentRunStatus, now: int, finish_reason: str | None, expires_at: int | None
) -> Decision[AgentRunRow | None]:
    """Notes how a run stands. One that is over stays so, and what it still asked is asked no more."""
    row = yield from run_by_id(run_id)
    if row is None or row.status in OVER:
        return row
    if status == row.status and finish_reason == row.finish_reason:
        return row
    row.status, row.finish_reason, row.updated_at = status, finish_reason, now
    if status in OVER:
        row.ended_at, row.expires_at, row.inbox_closed = now, expires_at, 1
        yield CloseApprovals("aborted", now, run_id)
    yield put_agent_run(row)
    return row


def list_runs(
    statuses: list[str] | None,
    agent_id: str | None,
    thread_id: str | None,
    resource_id: str | None,
    span: tuple[int | None, int | None],
    limit: int,
    offset: int,
) -> Decision[tuple[list[AgentRunRow], int]]:
    """A page of runs, newest first, and how many there are in all."""
    chosen = (None if statuses is None else encode(statuses).decode(), agent_id, thread_id, resource_id, *span)
    rows = yield Read("list_agent_runs", (*chosen, limit, offset))
    total = yield Read("count_agent_runs", chosen)
    return [AgentRunRow(*row) for row in rows], total[0][0]


def active(thread_id: str, resource_id: str | None) -> Decision[AgentRunRow | None]:
    """The run of a thread that takes signals: the one that began first of those that run, else one that waits."""
    rows = yield Read("active_agent_runs", (thread_id, resource_id))
    found = [row for row in (AgentRunRow(*row) for row in rows) if not row.inbox_closed]
    running = [row for row in found if row.status == "running"]
    return running[0] if running else found[-1] if found else None


def since(thread_id: str, resource_id: str | None, at: int, limit: int) -> Decision[list[AgentRunRow]]:
    """The runs of a thread that were put at or after a time, in that order."""
    rows = yield Read("agent_runs_since", (thread_id, resource_id, at, limit))
    return [AgentRunRow(*row) for row in rows]


def unfinished(thread_id: str, resource_id: str | None) -> Decision[list[AgentRunRow]]:
    """All runs of a thread that are not over, in the order in which they were put."""
    rows = yield Read("active_agent_runs", (thread_id, resource_id))
    return [AgentRunRow(*row) for row in rows]


def delete(run_ids: list[str]) -> Decision[int]:
    """Forgets runs with what they asked, what they were told, and their tasks; how many there were."""
    found = 0
    for run_id in run_ids:
        found += (yield from run_by_id(run_id)) is not None
        yield from delete([child.run_id for child in (yield from children(run_id))])
        yield DeleteAgentRun(run_id)
        yield DeleteRunApprovals(run_id)
        yield DeleteRunInbox(run_id)
        yield DeleteRunTasks(run_id)
        yield DeleteRunBegun(run_id)
    return found


def expired(now: int, cursor: str, limit: int) -> Decision[list[str]]:
    """A page of the runs whose time is over."""
    rows = yield Read("expired_agent_runs", (cursor, now, limit))
    return [row[0] for row in rows]


def begin_step(run_id: str, step_id: str) -> Decision[int]:
    """Notes that a step begins; how often it had begun before."""
    rows = yield Read("begun_by_id", (run_id, step_id))
    before: int = rows[0][2] if rows else 0
    yield PutBegun(run_id, step_id, before + 1)
    return before
