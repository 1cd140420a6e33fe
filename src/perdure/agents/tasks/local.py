"""Background tasks of this process: for runs of `Agent` itself, which end with their process as the tasks do.

At most 10 go on at once, and 5 of one agent; the others wait their turn. What they came to is kept for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import msgspec

from perdure.agents.background import told
from perdure.agents.background.config import AGENT_LIMIT, GLOBAL_LIMIT
from perdure.agents.background.port import Work
from perdure.agents.bare import BareJournal
from perdure.agents.chunks import Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.dispatch.keeping import keep
from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.journal import Decision
from perdure.agents.storage import Task
from perdure.agents.tasks.executing import execute
from perdure.engine.agents.records import SETTLED, TaskStatus
from perdure.model.json import Json

KEPT: Final = 1000
_Slots: TypeAlias = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
_SLOTS: _Slots = WeakKeyDictionary()


class _Place:
    """One task, and what goes on for it."""

    def __init__(self, task: Task, work: Work, journal: BareJournal) -> None:
        self.task = task
        self.work = work
        self.journal = journal
        self.going: asyncio.Task[None] | None = None


class LocalTasks:
    """The tasks of one agent in this process. `journal` makes the journal in which one is carried out."""

    def __init__(self, agent: DeclaredAgent, now: Callable[[], int], journal: Callable[[str], BareJournal]) -> None:
        self._agent = agent
        self._now = now
        self._journal = journal
        self._places: dict[str, _Place] = {}
        self._slots: _Slots = WeakKeyDictionary()
        self._changes: set[asyncio.Event] = set()

    # What the loop needs: `BackgroundTasks`.

    async def begin(self, task: Task, work: Work) -> None:
        if task.id in self._places:
            return
        self._forget()
        place = self._places[task.id] = _Place(task, work, self._journal(task.id))
        # That a task is suspended is said by a chunk of its own; with another lane its journal never says so.
        place.journal.lanes.fork(2)
        place.going = asyncio.ensure_future(self._carry_out(place))
        self._tell()

    async def settled(self, task_id: str, label: str, timeout: int) -> bool:
        try:
            async with asyncio.timeout(timeout / 1000):
                async for _ in self._changed():
                    status = self._place(task_id).task.status
                    if status in SETTLED or status == "suspended":
                        return status in SETTLED
        except TimeoutError:
            pass
        return False

    async def task(self, task_id: str) -> Task | None:
        place = self._places.get(task_id)
        return None if place is None else place.task

    async def outputs(self, task_id: str) -> list[Chunk]:
        chunks = self._place(task_id).journal.log.chunks
        return [Chunk(said) for said in standing(chunks) if said.type == "background-task-output"]

    # How they stand: `TaskBook`.

    async def note(
        self,
        task_id: str,
        status: TaskStatus,
        *,
        result: Json = None,
        error: Json = None,
        suspend_payload: Json = None,
        retry_count: int | None = None,
    ) -> Task:
        place = self._place(task_id)
        if place.task.status not in SETTLED:
            place.task = noted(place.task, status, self._now(), result, error, suspend_payload, retry_count)
            self._tell()
        return place.task

    # What callers ask.

    def all(self) -> list[Task]:
        """All tasks that are known, oldest first."""
        return [place.task for place in self._places.values()]

    async def cancel(self, task_id: str) -> bool:
        """Ends a task; whether there was something to end."""
        place = self._place(task_id)
        if place.task.status in SETTLED:
            return False
        await self.note(task_id, "cancelled", error=CANCELLED)
        if place.going is not None and not place.going.done():
            place.going.cancel()
            await asyncio.wait([place.going])
        await keep(self._agent, place.task, place.work.message_id)
        return True

    async def cancel_of_run(self, run_id: str) -> None:
        """Ends the tasks of a run."""
        for place in list(self._places.values()):
            if place.task.run_id == run_id:
                await self.cancel(place.task.id)

    def resume(self, task_id: str, data: Json) -> None:
        """Goes on with a task that is suspended. Raises `GoneError`, `ConflictError`."""
        place = self._place(task_id)
        if place.task.status in SETTLED:
            raise GoneError(f"the background task {task_id!r} is {place.task.status}")
        asked = [question for question, waiting in place.journal.questions.values() if not waiting.done()]
        if not asked:
            raise ConflictError(f"the background task {task_id!r} waits for nothing")
        place.journal.decide(asked[0], decision(asked[0].kind, data))

    async def follow(self, task_id: str) -> AsyncGenerator[Chunk]:
        """What a task says, to its end."""
        place = self._place(task_id)
        async for said in place.journal.log.follow():
            if said.type.startswith(told.KIND):
                yield said

    async def changed(self) -> AsyncGenerator[None]:
        """Says at once, and whenever something changes, that it is worth looking."""
        async for _ in self._changed():
            yield

    async def _carry_out(self, place: _Place) -> None:
        loop = asyncio.get_running_loop()
        log = place.journal.log
        try:
            of_agent = self._slots.setdefault(loop, asyncio.Semaphore(AGENT_LIMIT))
            async with of_agent, _SLOTS.setdefault(loop, asyncio.Semaphore(GLOBAL_LIMIT)):
                await execute(place.work, self._agent, place.journal, self)
        except asyncio.CancelledError:
            # By its caller, or because the process ends.
            log.append(told.ended(await self.note(place.task.id, "cancelled", error=CANCELLED)))
        except Exception as error:
            # A defect, or a storage that fails: whoever waits must not hang because of it.
            await self.note(place.task.id, "failed", error={"name": type(error).__name__, "message": str(error)})
            log.append(told.ended(place.task))
        finally:
            log.close()
            self._tell()

    async def _changed(self) -> AsyncGenerator[None]:
        event = asyncio.Event()
        self._changes.add(event)
        try:
            while True:
                event.clear()
                yield
                await event.wait()
        finally:
            self._changes.discard(event)

    def _tell(self) -> None:
        for event in self._changes:
            event.set()

    def _place(self, task_id: str) -> _Place:
        place = self._places.get(task_id)
        if place is None:
            raise RunNotFoundError(f"there is no background task {task_id!r}")
        return place

    def _forget(self) -> None:
        over = [task_id for task_id, place in self._places.items() if place.task.status in SETTLED]
        for task_id in over[: max(len(self._places) - KEPT + 1, 0)]:
            del self._places[task_id]


CANCELLED: Final[dict[str, Json]] = {"name": "TaskCancelledError", "message": "the background task was cancelled"}


def decision(kind: str, data: Json) -> Decision:
    """What resume data decide."""
    fields = data if isinstance(data, dict) else {}
    if isinstance(data, bool):
        return Decision(data)
    if kind == "approval" or fields.get("approved") is False:
        return Decision(bool(fields.get("approved")), fields.get("reason"), by=fields.get("by"))
    return Decision(True, data=data)


def noted(
    task: Task,
    status: TaskStatus,
    now: int,
    result: Json,
    error: Json,
    suspend_payload: Json,
    retry_count: int | None,
) -> Task:
    """A task as it stands now."""
    return msgspec.structs.replace(
        task,
        status=status,
        result=result if result is not None else task.result,
        error=error if error is not None else task.error,
        suspend_payload=suspend_payload if suspend_payload is not None else task.suspend_payload,
        retry_count=task.retry_count if retry_count is None else retry_count,
        started_at=now if status == "running" and task.started_at is None else task.started_at,
        suspended_at=now if status == "suspended" else task.suspended_at,
        completed_at=now if status in SETTLED else task.completed_at,
    )


def standing(chunks: list[Chunk]) -> list[Chunk]:
    """The chunks of a log without what was taken back."""
    kept: list[Chunk] = []
    for said in chunks:
        if said.type == "step-rollback":
            kept = [item for item in kept if item.index < said.payload["fromIndex"]]
        else:
            kept.append(said)
    return kept
