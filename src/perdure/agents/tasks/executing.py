"""Carrying out one background task, over a journal of its own: durably as a run of `agent-tasks`, or in this process.

Its steps are `begin`, those of the tool call (`tool:<id>`, and so on as in a run), and `end`. What the tool says is
told as `background-task-output`; a tool that suspends makes the task `suspended` until it is resumed.

Invariants: a task that is settled (cancelled, say) is not carried out, and stays as it is; it is put into the thread
only once its row says how it ended.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from perdure.agents.background import told
from perdure.agents.background.port import Work
from perdure.agents.calls import ToolTurn
from perdure.agents.carrying import Outcome
from perdure.agents.chunks import Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.dispatch.keeping import keep
from perdure.agents.journal import Decision, Delegation, Journal, Question, StepScope
from perdure.agents.messages import ToolInvocation
from perdure.agents.options import Closures
from perdure.agents.ports import Services
from perdure.agents.questions import Lanes
from perdure.agents.run import Run
from perdure.agents.said import told_error
from perdure.agents.state import RunInput, Turn
from perdure.agents.storage import Task
from perdure.agents.subagents import delegated
from perdure.agents.within import WithinJournal
from perdure.engine.agents.records import SETTLED, TaskStatus
from perdure.model.errors import StepError
from perdure.model.json import Json

_RETRIES: Final = 4
_SPOKEN: Final = ("tool-output", "data-")


class TaskBook(Protocol):
    """Where it is noted how tasks stand."""

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
        """Notes how a task stands, and tells whoever waits for it; one that is settled stays as it is."""
        ...


async def execute(work: Work, agent: DeclaredAgent, journal: Journal, book: TaskBook) -> dict[str, Json]:
    """Carries a task out; its status."""
    return await _Execution(work, agent, journal, book).carry_out()


class _Execution:
    def __init__(self, work: Work, agent: DeclaredAgent, journal: Journal, book: TaskBook) -> None:
        self._work = work
        self._agent = _for_task(agent, work)
        self._journal = journal
        self._book = book

    async def carry_out(self) -> dict[str, Json]:
        """The whole task."""
        work, journal = self._work, self._journal
        begun: dict[str, Json] = await journal.step("begin", self._begin, retries=_RETRIES)
        if begun["status"] in SETTLED:
            return begun
        inside = _TaskJournal(work, journal, self._book, self._agent)
        request = RunInput.from_json(work.input)
        run = Run(self._agent, inside, request, Services(closures=Closures()))
        call = ToolInvocation("call", work.tool_call_id, work.tool_name, work.args)
        try:
            outcome = await ToolTurn(run, Turn(0)).outcome(call)
        except StepError as error:
            outcome = {"error": told_error(error)}

        async def end(_: StepScope) -> Json:
            return await self._end(outcome)

        ended: dict[str, Json] = await journal.step("end", end, retries=_RETRIES)
        return ended

    async def _begin(self, _: StepScope) -> Json:
        task = await self._book.note(self._work.task_id, "running")
        if task.status not in SETTLED:
            self._journal.push(told.running(task))
        return {"status": task.status}

    async def _end(self, outcome: Outcome) -> Json:
        task_id = self._work.task_id
        if "result" in outcome:
            task = await self._book.note(task_id, "completed", result=outcome["result"])
        else:
            error = outcome.get("error") or {"name": "ToolDeclinedError", "message": outcome.get("denied", "declined")}
            status: TaskStatus = "timed_out" if error.get("name") == "TimeoutError" else "failed"
            task = await self._book.note(task_id, status, error=error)
        await keep(self._agent, task, self._work.message_id)
        self._journal.push(told.ended(task))
        return {"status": task.status}


class _TaskJournal(WithinJournal):
    """The journal of a task's tool call: what the tool says becomes output of the task, its questions suspend it."""

    def __init__(self, work: Work, outer: Journal, book: TaskBook, agent: DeclaredAgent) -> None:
        super().__init__(outer)
        self._work = work
        self._book = book
        self._agent = agent
        self._task = Task(
            work.task_id, work.input["runId"], work.agent_id, work.tool_name, work.tool_call_id, work.args
        )

    @property
    def lanes(self) -> Lanes | None:
        return None

    def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
        once: bool = False,
    ) -> Awaitable[Json]:
        async def counted(scope: StepScope) -> Json:
            if scope.attempt:
                await self._book.note(self._work.task_id, "running", retry_count=scope.attempt)
            return await call(scope)

        return self.outer.step(id, counted, retries=retries, timeout=timeout, once=once)

    def push(self, said: Chunk) -> None:
        # How the call ends is told of the task; only what the tool itself says is passed on.
        if said.type.startswith(_SPOKEN):
            self.outer.push(told.output(self._task, said))

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        place, work = f"{question.tool_call_id}@{question.round}", self._work

        async def suspend(_: StepScope) -> Json:
            return (await self._book.note(work.task_id, "suspended", suspend_payload=_shown(question))).suspended_at

        async def resume(_: StepScope) -> Json:
            self.outer.push(told.resumed(await self._book.note(work.task_id, "running")))
            return None

        at: int | None = await self.outer.step(f"suspend:{place}", suspend, retries=_RETRIES)
        task = msgspec.structs.replace(self._task, suspended_at=at)

        async def tell() -> Chunk:
            return told.suspended(task, _shown(question))

        decision = await self.outer.ask(question, tell)
        await self.outer.step(f"resume:{place}", resume, retries=_RETRIES)
        return decision

    async def delegate(self, delegation: Delegation) -> Json:
        return await delegated(self, delegation, self._agent)


def _shown(question: Question) -> Json:
    if question.kind == "suspension":
        return question.payload
    return {"approval": True, "toolName": question.tool_name, "args": question.args}


def _for_task(agent: DeclaredAgent, work: Work) -> DeclaredAgent:
    """The agent with the tool of the task as the task's time and retries want it, and no approval of its own."""
    found = agent.tools.get(work.tool_name)
    if found is None:
        return agent
    changed = copy.copy(found)
    changed.timeout = work.timeout
    changed.retries = work.retries if found.on_crash == "retry" else 0
    made = copy.copy(agent)
    made.tools = {**agent.tools, work.tool_name: changed}
    return made
