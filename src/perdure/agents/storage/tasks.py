"""Background tasks: calls of tools that go on beside their runs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.agents.errors import RunNotFoundError
from perdure.agents.storage.base import Base, page_of, slice_of
from perdure.agents.storage.shapes import Page, Task, outcome_bytes, task_of, task_row
from perdure.engine.agents import tasks
from perdure.engine.agents.records import TaskStatus
from perdure.engine.agents.tasks import TaskOrder
from perdure.model.json import Json


class Tasks(Base):
    """The part of the storage that knows how background tasks stand."""

    async def put_task(self, task: Task) -> Task:
        """The task with this id: the given one, unless it is there already."""
        row = task_row(msgspec.structs.replace(task, created_at=task.created_at or self.now()))
        put = task_of(await self._decide(lambda: tasks.put(row)))
        self._tell_of(put)
        return put

    async def task(self, task_id: str) -> Task | None:
        """A task by its id."""
        row = await self._view(lambda: tasks.task_by_id(task_id))
        return None if row is None else task_of(row)

    async def set_task(
        self,
        task_id: str,
        status: TaskStatus,
        *,
        result: Json = None,
        error: Json = None,
        suspend_payload: Json = None,
        retry_count: int | None = None,
    ) -> Task:
        """Notes how a task stands; one that is settled stays as it is. Raises `RunNotFoundError`."""
        now, outcome = self.now(), outcome_bytes(result, error, suspend_payload)
        row = await self._decide(lambda: tasks.set_status(task_id, status, now, outcome, retry_count))
        if row is None:
            raise RunNotFoundError(f"there is no background task {task_id!r}")
        task = task_of(row)
        self._tell_of(task)
        return task

    async def tasks(
        self,
        *,
        run_id: str | None = None,
        agent_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        tool_name: str | None = None,
        statuses: Sequence[TaskStatus] | None = None,
        order_by: TaskOrder = "createdAt",
        descending: bool = False,
        page: int = 0,
        per_page: int | None = 100,
    ) -> Page[Task]:
        """A page of tasks."""
        limit, offset = slice_of(page, per_page)
        chosen = (run_id, agent_id, thread_id, resource_id, tool_name)
        names: list[str] | None = None if statuses is None else list(statuses)
        rows, total = await self._view(lambda: tasks.list_tasks(chosen, names, order_by, descending, limit, offset))
        return page_of([task_of(row) for row in rows], total, page, per_page)

    async def delete_task(self, task_id: str) -> bool:
        """Forgets a task; whether there was one."""
        return await self._decide(lambda: tasks.delete(task_id))

    def _tell_of(self, task: Task) -> None:
        self.tell(f"run:{task.run_id}", task.thread_id and f"thread:{task.thread_id}", f"task:{task.id}")
