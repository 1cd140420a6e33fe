"""What callers ask about the background tasks of an agent in this process; durable agents answer to the same names."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.errors import RunNotFoundError
from perdure.agents.storage import Page, Task
from perdure.agents.tasks.local import LocalTasks
from perdure.engine.agents.records import TaskStatus
from perdure.model.json import Json


class Filter(msgspec.Struct, frozen=True):
    """Which tasks are meant; None takes all."""

    run_id: str | None = None
    thread_id: str | None = None
    resource_id: str | None = None
    tool_name: str | None = None
    statuses: tuple[TaskStatus, ...] | None = None

    def takes(self, task: Task) -> bool:
        """Whether a task is one of them."""
        wanted = (self.run_id, self.thread_id, self.resource_id, self.tool_name)
        found = (task.run_id, task.thread_id, task.resource_id, task.tool_name)
        same = all(want is None or want == have for want, have in zip(wanted, found, strict=True))
        return same and (self.statuses is None or task.status in self.statuses)


class LocalBackground:
    """The background tasks of the agent's runs in this process."""

    @property
    @abstractmethod
    def _tasks(self) -> LocalTasks:
        """The tasks."""

    async def list_background_tasks(
        self,
        *,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        tool_name: str | None = None,
        statuses: Collection[TaskStatus] | None = None,
        descending: bool = False,
        page: int = 0,
        per_page: int | None = 100,
    ) -> Page[Task]:
        """The background tasks of this agent's runs, by the time at which they were made."""
        wanted = Filter(run_id, thread_id, resource_id, tool_name, None if statuses is None else tuple(statuses))
        found = [task for task in self._tasks.all() if wanted.takes(task)]
        if descending:
            found.reverse()
        size = len(found) if per_page is None else per_page
        start = page * size
        return Page(found[start : start + size], len(found), page, size, start + size < len(found))

    async def get_background_task(self, task_id: str) -> Task:
        """A background task. Raises `RunNotFoundError`."""
        task = await self._tasks.task(task_id)
        if task is None:
            raise RunNotFoundError(f"there is no background task {task_id!r}")
        return task

    async def cancel_background_task(self, task_id: str) -> bool:
        """Ends a background task; whether there was something to end. Raises `RunNotFoundError`."""
        return await self._tasks.cancel(task_id)

    async def resume_background_task(self, task_id: str, resume_data: Json) -> Task:
        """Goes on with a task whose tool has suspended.

        Raises `RunNotFoundError`, `ConflictError` where it waits for nothing, `GoneError` where it is over.
        """
        self._tasks.resume(task_id, resume_data)
        return await self.get_background_task(task_id)

    async def stream_background_task(self, task_id: str) -> AsyncGenerator[Chunk]:
        """What a task says, from its beginning to its end: `background-task-*` chunks."""
        await self.get_background_task(task_id)
        async with aclosing(self._tasks.follow(task_id)) as chunks:
            async for said in chunks:
                yield said

    def stream_background_tasks(
        self, *, run_id: str | None = None, thread_id: str | None = None, tool_name: str | None = None
    ) -> AsyncGenerator[Chunk]:
        """What all tasks say that there are and that come, as they say it. Close it to end it."""
        wanted = Filter(run_id, thread_id, None, tool_name)

        async def known() -> AsyncGenerator[list[str]]:
            async with aclosing(self._tasks.changed()) as changes:
                async for _ in changes:
                    yield [task.id for task in self._tasks.all() if wanted.takes(task)]

        return merged(known(), self.stream_background_task)


async def merged(
    known: AsyncGenerator[list[str]], follow: Callable[[str], AsyncIterator[Chunk]]
) -> AsyncGenerator[Chunk]:
    """The chunks of all tasks that become known, as they come."""
    heard: asyncio.Queue[Chunk | BaseException] = asyncio.Queue(1000)
    readers: dict[str, asyncio.Task[None]] = {}

    async def read(task_id: str) -> None:
        async for said in follow(task_id):
            await heard.put(said)

    async def watch() -> None:
        async with aclosing(known) as lists:
            async for task_ids in lists:
                for task_id in task_ids:
                    if task_id not in readers:
                        readers[task_id] = asyncio.ensure_future(told_of(read(task_id)))

    async def told_of(work: Json) -> None:
        try:
            await work
        except Exception as error:
            # Whoever reads is told; nobody awaits these tasks.
            await heard.put(error)

    watching = asyncio.ensure_future(told_of(watch()))
    try:
        while True:
            item = await heard.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        going = [watching, *readers.values()]
        for each in going:
            each.cancel()
        await asyncio.wait(going)
