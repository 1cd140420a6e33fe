"""What callers ask about the background tasks of a durable agent's runs, from whichever process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Final

from perdure.agents.background import told
from perdure.agents.chunks import Chunk
from perdure.agents.dispatch.keeping import keep
from perdure.agents.durable.base import DurableBase
from perdure.agents.durable.decisions import Resumed, decide
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.loop_body import LoopBody
from perdure.agents.durable.reader import ChunkReader
from perdure.agents.durable.tasks import EngineBook
from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.storage import AgentRun, Page, Task
from perdure.agents.tasks.asking import merged
from perdure.agents.tasks.local import CANCELLED
from perdure.engine.agents.records import SETTLED, TaskStatus
from perdure.engine.agents.tasks import TaskOrder
from perdure.model.errors import NotFoundError
from perdure.model.json import Json

_GLANCE: Final = 0.5
"""How often (seconds) one looks for tasks that another process has begun."""
UNSETTLED: Final[tuple[TaskStatus, ...]] = ("pending", "running", "suspended")
"""The statuses of a task that has not come to its end."""
_PAUSE: Final = 0.02
_PATIENCE: Final = 5.0
"""How long (seconds) a task that is about to ask may take to do so."""


class DurableBackground(DurableBase):
    """The background tasks of the agent's runs."""

    async def list_background_tasks(
        self,
        *,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        tool_name: str | None = None,
        statuses: Collection[TaskStatus] | None = None,
        order_by: TaskOrder = "createdAt",
        descending: bool = False,
        page: int = 0,
        per_page: int | None = 100,
    ) -> Page[Task]:
        """The background tasks of this agent's runs."""
        return await self.engine.storage.tasks(
            agent_id=self._body.id,
            run_id=run_id,
            thread_id=thread_id,
            resource_id=resource_id,
            tool_name=tool_name,
            statuses=None if statuses is None else list(statuses),
            order_by=order_by,
            descending=descending,
            page=page,
            per_page=per_page,
        )

    async def get_background_task(self, task_id: str) -> Task:
        """A background task. Raises `RunNotFoundError`."""
        task = await self.engine.storage.task(task_id)
        if task is None or task.agent_id != self._body.id:
            raise RunNotFoundError(f"agent {self._body.id!r} has no background task {task_id!r}")
        return task

    async def cancel_background_task(self, task_id: str) -> bool:
        """Ends a background task; whether there was something to end. Raises `RunNotFoundError`.

        Its run is told as of one that failed.
        """
        engine = self.engine
        before = await self.get_background_task(task_id)
        # Again for one that is cancelled: whoever cancelled it may not have come to tell of it.
        task = await EngineBook(engine).note(task_id, "cancelled", error=CANCELLED)
        if task.status != "cancelled":
            return False
        run = await engine.storage.run(task_id)
        if run is not None:
            if run.engine_run_id is not None:
                await _stopped(engine, run.engine_run_id)
            await engine.storage.set_run_status(task_id, "aborted", finish_reason="abort")
            if isinstance(self._body, LoopBody):
                await keep(self._body.bound_to(engine.storage), task, run.detail.get("messageId") or "")
        return before.status not in SETTLED

    async def _aborted(self, run: AgentRun) -> None:
        """What a run has begun ends with it."""
        await super()._aborted(run)
        for task in (await self.list_background_tasks(run_id=run.run_id, statuses=UNSETTLED, per_page=None)).items:
            await self.cancel_background_task(task.id)

    async def resume_background_task(self, task_id: str, resume_data: Json) -> Task:
        """Goes on with a task whose tool has suspended; `resume_data` is what it waits for.

        Raises `RunNotFoundError`, `ConflictError` where it waits for nothing, `GoneError` where it is over, and
        `InvalidOptionError` for data that the tool does not take.
        """
        task = await self.get_background_task(task_id)
        if task.status in SETTLED:
            raise GoneError(f"the background task {task_id!r} is {task.status}")
        if task.status != "suspended":
            raise ConflictError(f"the background task {task_id!r} is {task.status}, and waits for nothing")
        await decide(self.engine, self._body, await self._asking(task_id), {None: Resumed(resume_data)})
        return await self.get_background_task(task_id)

    async def stream_background_task(self, task_id: str) -> AsyncGenerator[Chunk]:
        """What a task says, from its beginning to its end: `background-task-*` chunks."""
        task = await self.get_background_task(task_id)
        run = await self._run_of(task_id)
        last = ""
        if run.engine_run_id is not None:
            reader = ChunkReader(self.engine, task_id, run.engine_run_id, keep_open=True)
            async with aclosing(reader) as chunks:
                async for said in chunks:
                    if said.type.startswith(told.KIND):
                        last = said.type
                        yield said
        task = await self.get_background_task(task_id)
        if task.status in SETTLED and (ended := told.ended(task)).type != last:
            # One that was cancelled, or failed outside of its steps, did not come to say it.
            yield ended

    def stream_background_tasks(
        self, *, run_id: str | None = None, thread_id: str | None = None, tool_name: str | None = None
    ) -> AsyncGenerator[Chunk]:
        """What all tasks say that there are and that come, as they say it. Close it to end it."""
        storage = self.engine.storage

        async def known() -> AsyncGenerator[list[str]]:
            topic = f"thread:{thread_id}" if run_id is None else f"run:{run_id}"
            with storage.watch(topic) as watch:
                while True:
                    page = await self.list_background_tasks(
                        run_id=run_id, thread_id=thread_id, tool_name=tool_name, per_page=None
                    )
                    yield [task.id for task in page.items]
                    await watch.changed(_GLANCE)

        return merged(known(), self.stream_background_task)

    async def _run_of(self, task_id: str) -> AgentRun:
        run = await self.engine.storage.run(task_id)
        if run is None:
            raise GoneError(f"the background task {task_id!r} was never begun, or is forgotten")
        return run

    async def _asking(self, task_id: str) -> AgentRun:
        """The run of a task, once its question can be answered: its row tells of it a moment before."""
        storage = self.engine.storage
        try:
            async with asyncio.timeout(_PATIENCE):
                while not (await storage.approvals(run_ids=[task_id], statuses=["pending"], per_page=1)).total:
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            raise ConflictError(f"the background task {task_id!r} does not wait for anything just now") from None
        return await self._run_of(task_id)


async def _stopped(engine: Engine, engine_run_id: str) -> None:
    try:
        await engine.cancel(engine_run_id)
    except NotFoundError:
        # Its run was forgotten before its row.
        return
