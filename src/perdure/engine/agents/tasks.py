"""Background tasks: calls of tools that go on beside the runs that made them, and how they stand.

Invariant: a task that is settled stays so, whoever reports later.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from perdure.engine.agents.mutations import DeleteTask, put_task
from perdure.engine.agents.records import SETTLED, TaskRow, TaskStatus
from perdure.engine.turn import Decision, Read
from perdure.model.json import encode

TaskOrder: TypeAlias = Literal["createdAt", "startedAt", "completedAt"]


def task_by_id(task_id: str) -> Decision[TaskRow | None]:
    rows = yield Read("task_by_id", (task_id,))
    return TaskRow(*rows[0]) if rows else None


def put(row: TaskRow) -> Decision[TaskRow]:
    """The task with this id: the given one, unless it is there already."""
    known = yield from task_by_id(row.id)
    if known is not None:
        return known
    yield put_task(row)
    return row


def set_status(
    task_id: str, status: TaskStatus, now: int, outcome: bytes | None, retry_count: int | None
) -> Decision[TaskRow | None]:
    """Notes how a task stands."""
    row = yield from task_by_id(task_id)
    if row is None or row.status in SETTLED:
        return row
    row.status = status
    row.outcome = outcome if outcome is not None else row.outcome
    row.retry_count = row.retry_count if retry_count is None else retry_count
    if status == "running" and row.started_at is None:
        row.started_at = now
    elif status == "suspended":
        row.suspended_at = now
    elif status in SETTLED:
        row.completed_at = now
    yield put_task(row)
    return row


def list_tasks(
    chosen: tuple[str | None, str | None, str | None, str | None, str | None],
    statuses: list[str] | None,
    order: TaskOrder,
    descending: bool,
    limit: int,
    offset: int,
) -> Decision[tuple[list[TaskRow], int]]:
    """A page of tasks, and how many there are in all. Chosen by run, agent, thread, resource and tool."""
    names = None if statuses is None else encode(statuses).decode()
    rows = yield Read("list_tasks", (*chosen, names, order, -1 if descending else 1, limit, offset))
    total = yield Read("count_tasks", (*chosen, names))
    return [TaskRow(*row) for row in rows], total[0][0]


def delete(task_id: str) -> Decision[bool]:
    """Forgets a task."""
    there = (yield from task_by_id(task_id)) is not None
    yield DeleteTask(task_id)
    return there
