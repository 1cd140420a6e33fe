"""The runs of plain agents in threads: which go on in this process, in which order, and what is sent to them.

`PlainRuns` is the storage of a node with these runs in it: whoever sends signals or follows a thread finds them beside
the durable ones. Invariants: the runs of a thread begin one after the other, each once the one before it has ended, or
waits for a person; a signal that a run has accepted is seen to: by the run, or, once it is over, by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Final

import msgspec

from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.errors import ConflictError
from perdure.agents.inbox import RunInbox
from perdure.agents.messages import Message
from perdure.agents.results import AgentRun as Reader
from perdure.agents.state import RunInput
from perdure.agents.storage import AgentRun, AgentStorage
from perdure.engine.agents.records import OVER, AgentRunStatus
from perdure.model.json import Json

KEPT: Final = 1000
"""How many runs that are over are remembered, for those who follow their threads."""
_ENDS: Final[dict[str, AgentRunStatus]] = {"abort": "aborted", "error": "failed"}


class PlainRun:
    """One run: where it stands, what was sent to it, and whom it lets begin. `agent` carries it out."""

    def __init__(self, run: AgentRun, agent: Agent, before: PlainRun | None, given: list[Message]) -> None:
        self.run = run
        self.agent = agent
        self.given = given
        """The messages that it was started with."""
        self.before = before
        self.passed = asyncio.Event()
        """It has ended, or waits: the next run of the thread may begin."""
        self.begun = asyncio.Event()
        self.queued: list[tuple[str, dict[str, Json]]] = []
        self.claimed: dict[str, list[dict[str, Json]]] = {}
        self.heard: set[str] = set()
        self.work: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.run.status in OVER

    def take(self, step_id: str) -> list[dict[str, Json]]:
        """What is queued, for a step; the same again where the step asks again."""
        taken = self.claimed.setdefault(step_id, [])
        taken += [body for _, body in self.queued]
        self.queued.clear()
        return taken


class PlainRuns(AgentStorage):
    """The storage of a node and the runs of its plain agents. `note` is told of every chunk, `pass_on` of every end."""

    def __init__(
        self,
        storage: AgentStorage,
        note: Callable[[PlainRun, Chunk], None],
        pass_on: Callable[[str], Awaitable[object]],
    ) -> None:
        super().__init__(storage.store, now=storage.now, ids=storage.ids)
        self._note = note
        self._pass_on = pass_on
        self._here: dict[str, PlainRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # Beginning.

    async def begin(self, agent: Agent, messages: Json, options: dict[str, Json], given: list[Message]) -> Reader:
        """Begins a run once it is its turn, and gives it. Raises `ConflictError`, and as `Agent.stream`."""
        found = self._put(agent, options, given)
        return await self._begun(found, messages, options)

    def begin_later(self, agent: Agent, messages: Json, options: dict[str, Json], given: list[Message]) -> str:
        """Puts a run down, which begins when it is its turn; its id. What is wrong must be known before."""
        found = self._put(agent, options, given)
        found.work = self._spawn(self._unread(found, messages, options))
        return found.run.run_id

    def _put(self, agent: Agent, options: dict[str, Json], given: list[Message]) -> PlainRun:
        memory: Json = options["memory"]
        thread: Json = memory["thread"]
        thread_id: str = thread["id"] if isinstance(thread, dict) else thread
        run_id: str = options.setdefault("run_id", self.ids())
        if run_id in self._here:
            raise ConflictError(f"run_id: there is a run {run_id!r} of this agent already")
        now = self.now()
        run = AgentRun(run_id, agent.id, "plain", run_id, thread_id, memory["resource"], created_at=now, updated_at=now)
        before = next((one for one in reversed(self._here.values()) if one.run.thread_id == thread_id), None)
        found = self._here[run_id] = PlainRun(run, agent, before, given)
        self._forget()
        self.tell(f"thread:{thread_id}")
        return found

    async def _begun(self, found: PlainRun, messages: Json, options: dict[str, Json]) -> Reader:
        try:
            await _turn(found)
            run: Reader = await found.agent.stream(messages, **options)
        except BaseException:
            del self._here[found.run.run_id]
            found.run.status = "aborted"
            found.passed.set()
            raise
        found.run.engine_run_id = found.run.run_id
        found.begun.set()
        found.work = self._spawn(self._following(found))
        self.tell(f"thread:{found.run.thread_id}")
        return run

    async def _unread(self, found: PlainRun, messages: Json, options: dict[str, Json]) -> None:
        # Whoever wants to hear it follows its thread.
        await (await self._begun(found, messages, options)).close()

    async def _following(self, found: PlainRun) -> None:
        run = found.run
        async for said in found.agent.follow_run(run.run_id):
            self._note(found, said)
            if said.type == "suspended":
                self._stands(found, "suspended")
            elif run.status == "suspended":
                self._stands(found, "running")
            elif said.type == "finish" and not said.payload.get("backgroundTaskPending"):
                reason: Json = (said.payload.get("stepResult") or {}).get("reason")
                run.inbox_closed = True
                self._stands(found, _ENDS.get(reason, "finished"))
        if found.queued:
            await self._pass_on(run.run_id)

    def _stands(self, found: PlainRun, status: AgentRunStatus) -> None:
        found.run.status, found.run.updated_at = status, self.now()
        if status != "running":
            found.passed.set()
        self.tell(f"thread:{found.run.thread_id}", f"run:{found.run.run_id}")

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self) -> None:
        over = [run_id for run_id, found in self._here.items() if found.over]
        for run_id in over[: max(len(over) - KEPT, 0)]:
            del self._here[run_id]

    # What is known of them.

    def plain(self, run_id: str) -> PlainRun | None:
        """A run of this process."""
        return self._here.get(run_id)

    def inbox(self, request: RunInput) -> RunInbox | None:
        """Where a run hears what is sent to it; None for one of no thread that is followed."""
        return RunInbox(self, request) if request.run_id in self._here else None

    async def abort(self, found: PlainRun) -> bool:
        """Ends a run, or takes it out of those that wait for their turn; whether there was something to end."""
        if found.begun.is_set():
            return await found.agent.abort_run(found.run.run_id)
        if found.work is None or found.over:
            return False
        found.work.cancel()
        await asyncio.wait([found.work])
        return True

    def _of(self, thread_id: str, resource_id: str | None) -> Iterable[PlainRun]:
        for found in self._here.values():
            if found.run.thread_id == thread_id and resource_id in (None, found.run.resource_id):
                yield found

    # The storage.

    async def run(self, run_id: str) -> AgentRun | None:
        found = self._here.get(run_id)
        return msgspec.structs.replace(found.run) if found is not None else await super().run(run_id)

    async def active_run(self, thread_id: str, resource_id: str | None = None) -> AgentRun | None:
        active = [one.run for one in self._of(thread_id, resource_id) if not one.over and not one.run.inbox_closed]
        running = [run for run in active if run.status == "running"]
        if running or not active:
            return running[0] if running else await super().active_run(thread_id, resource_id)
        return active[-1]

    async def unfinished_runs(self, thread_id: str, resource_id: str | None = None) -> list[AgentRun]:
        kept = await super().unfinished_runs(thread_id, resource_id)
        found = [*kept, *(one.run for one in self._of(thread_id, resource_id) if not one.over)]
        return sorted(found, key=lambda run: run.created_at)

    async def runs_since(self, thread_id: str, resource_id: str | None, at: int, limit: int = 100) -> list[AgentRun]:
        kept = await super().runs_since(thread_id, resource_id, at, limit)
        found = [*kept, *(one.run for one in self._of(thread_id, resource_id) if one.run.created_at >= at)]
        return sorted(found, key=lambda run: run.created_at)[:limit]

    async def put_signal(self, run_id: str, signal_id: str, signal: dict[str, Json]) -> bool:
        found = self._here.get(run_id)
        if found is None:
            return await super().put_signal(run_id, signal_id, signal)
        if found.over or found.run.inbox_closed:
            return False
        if signal_id not in found.heard:
            found.heard.add(signal_id)
            found.queued.append((signal_id, signal))
        return True

    async def claim_signals(self, run_id: str, step_id: str) -> list[dict[str, Json]]:
        found = self._here.get(run_id)
        if found is None:
            return await super().claim_signals(run_id, step_id)
        # A run that goes on takes more: it may have waited for its background tasks.
        found.run.inbox_closed = found.over
        return found.take(step_id)

    async def close_inbox(self, run_id: str, step_id: str) -> list[dict[str, Json]]:
        found = self._here.get(run_id)
        if found is None:
            return await super().close_inbox(run_id, step_id)
        if found.queued:
            return found.take(step_id)
        found.run.inbox_closed = True
        return []

    async def left_signals(self, run_id: str) -> list[dict[str, Json]]:
        found = self._here.get(run_id)
        return await super().left_signals(run_id) if found is None else [body for _, body in found.queued]


async def _turn(found: PlainRun) -> None:
    """Waits until the run before this one has ended, or waits for somebody."""
    if found.before is not None:
        await found.before.passed.wait()
        found.before = None
