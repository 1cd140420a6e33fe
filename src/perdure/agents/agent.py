"""Agents: what they are (`DeclaredAgent`), and how they are run in this process.

`generate` runs to the end and gives a `Result`; `stream` gives an `AgentRun` at once. A run that waits for a person is
kept in memory and goes on by `approve_tool_call`, `decline_tool_call` or `resume_stream`. For runs that survive their
process there are durable agents, made of these.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Unpack

from perdure.agents.aborting import keep_partial
from perdure.agents.bare import BareJournal, BareRun, ChunkLog, EarlierRuns
from perdure.agents.chunks import Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.driving import drive
from perdure.agents.errors import AgentError, ConflictError, RunNotFoundError
from perdure.agents.inputs import MessagesLike
from perdure.agents.journal import Decision, Delegation, Question
from perdure.agents.models import Models
from perdure.agents.options import Callbacks, Closures, OptionError, RunKeywords
from perdure.agents.ports import Inbox, Services
from perdure.agents.recollection import recollection_of
from perdure.agents.results import AgentRun, Result, RunOutput
from perdure.agents.schemas import Shape, ShapeError
from perdure.agents.starting import Start, prepare_start
from perdure.agents.state import RunInput
from perdure.agents.subagents import nested
from perdure.agents.tasks.asking import LocalBackground
from perdure.agents.tasks.local import LocalTasks
from perdure.agents.toolbox import ToolBox
from perdure.agents.tools import Tool
from perdure.model.json import Json

KEPT_RUNS: Final = 1000
"""How many runs of this process are kept, so that their questions can be answered and their answers asked for."""


class AgentFailedError(AgentError):
    """A run failed; `error` is what readers are told (`{name, message, code}`), `result` what there is of it."""

    def __init__(self, error: dict[str, Json], result: Result) -> None:
        self.error = error
        self.result = result
        super().__init__(f"{error.get('name')}: {error.get('message')}")


@dataclass(frozen=True)
class Surroundings:
    """Where plain runs get time (ms), ids, and pauses (s) from, and what is sent to them while they go on."""

    now: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    inbox: Callable[[RunInput], Inbox | None] = lambda _: None


class Agent(LocalBackground, DeclaredAgent):
    """An agent. Its declaration is described at `DeclaredAgent`, the options of a run at `RunOptions`.

    >>> agent = Agent("weather", model="openai/gpt-5.5", instructions="Be brief.")
    >>> async def ask() -> str:
    ...     result = await agent.generate("Does it rain in Oslo?")
    ...     return result.text
    """

    surroundings: Surroundings = Surroundings()

    async def generate(self, messages: MessagesLike, **options: Unpack[RunKeywords]) -> Result:
        """Runs to the end, or to where the run waits for a person (`finish_reason` is then `suspended`).

        Raises `AgentFailedError`, `OptionError` and `InputError`.
        """
        return await settled(await self.stream(messages, **options))

    async def stream(self, messages: MessagesLike, **options: Unpack[RunKeywords]) -> AgentRun:
        """Begins a run, and gives it while it goes on. Raises `OptionError` and `InputError`.

        >>> async def show(agent: Agent) -> None:
        ...     run = await agent.stream("Write a poem.")
        ...     async for chunk in run.full_stream:
        ...         print(chunk.type)
        """
        return await self._started(messages, options)

    async def _started(self, messages: MessagesLike, options: RunKeywords, *, network: bool = False) -> AgentRun:
        here = self.surroundings
        start = prepare_start(self, messages, options, new_id=here.new_id(), now=here.now())
        start.request.network = network
        if start.request.run_id in self._runs:
            raise ConflictError(f"run_id: there is a run {start.request.run_id!r} of this agent already")
        run = self._begin(start)
        return self._reader(run, run.log.follow(), start.callbacks)

    async def network(self, messages: MessagesLike, **options: Unpack[RunKeywords]) -> AgentRun:
        """Begins a run in which the agent chooses who carries the task out: its sub-agents, workflows and tools.

        One choice is made unless `max_steps` allows for more. Raises `OptionError` and `InputError`.
        """
        return await self._started(messages, options, network=True)

    async def resume_stream(
        self,
        resume_data: Json,
        *,
        run_id: str,
        tool_call_id: str | None = None,
        callbacks: Callbacks | None = None,
    ) -> AgentRun:
        """Goes on with a suspended run; `resume_data` is what its tool, or the question of approval, asked for.

        Without `tool_call_id` the only open question is meant. Raises `RunNotFoundError`, `GoneError`, `ConflictError`
        and `OptionError` for data that the tool does not take.
        """
        run = self._run(run_id)
        before = list(run.log.chunks)
        chunks = run.resume(tool_call_id, partial(decision_of, resume_data))
        return self._reader(run, chunks, callbacks or Callbacks(), before)

    async def resume_generate(self, resume_data: Json, *, run_id: str, tool_call_id: str | None = None) -> Result:
        """`resume_stream`, read to its end."""
        return await settled(await self.resume_stream(resume_data, run_id=run_id, tool_call_id=tool_call_id))

    async def approve_tool_call(
        self, run_id: str, tool_call_id: str | None = None, *, args: Json = None, by: str | None = None
    ) -> AgentRun:
        """Approves a tool call; `args` replace its arguments where the tool allows that."""
        return await self.resume_stream(
            {"approved": True, "args": args, "by": by}, run_id=run_id, tool_call_id=tool_call_id
        )

    async def decline_tool_call(
        self, run_id: str, tool_call_id: str | None = None, *, reason: str | None = None, by: str | None = None
    ) -> AgentRun:
        """Declines a tool call; the model is told the reason."""
        data = {"approved": False, "reason": reason, "by": by}
        return await self.resume_stream(data, run_id=run_id, tool_call_id=tool_call_id)

    async def approve_tool_call_generate(self, run_id: str, tool_call_id: str | None = None) -> Result:
        """`approve_tool_call`, read to its end."""
        return await settled(await self.approve_tool_call(run_id, tool_call_id))

    async def decline_tool_call_generate(
        self, run_id: str, tool_call_id: str | None = None, *, reason: str | None = None
    ) -> Result:
        """`decline_tool_call`, read to its end."""
        return await settled(await self.decline_tool_call(run_id, tool_call_id, reason=reason))

    async def abort_run(self, run_id: str) -> bool:
        """Ends a run of this process; whether there was something to end."""
        run = self._runs.get(run_id)
        return run is not None and await run.abort()

    async def follow_run(self, run_id: str, offset: int = 0) -> AsyncGenerator[Chunk]:
        """What a run of this process says from a place on, over its questions, until it is over.

        Raises `RunNotFoundError`.
        """
        run, place = self._run(run_id), offset
        while place < len(run.log.chunks) or not run.over:
            async for said in run.log.follow(place):
                place = said.index + 1
                yield said

    def open_questions(self, run_id: str) -> list[Question]:
        """What a suspended run waits for. Raises `RunNotFoundError`."""
        return self._run(run_id).open_questions

    async def list_tools(self, request_context: Mapping[str, Json] | None = None) -> dict[str, Tool]:
        """All tools that a run would have, those of toolsets, sub-agents and workflows included."""
        start = prepare_start(self, "", {"request_context": request_context}, new_id="listing", now=0)
        return await ToolBox(self, start.request.options, Closures()).all()

    def list_agents(self) -> dict[str, DeclaredAgent]:
        """The sub-agents, by key."""
        return dict(self.agents)

    def list_workflows(self) -> dict[str, Json]:
        """The workflows, by key."""
        return dict(self.workflows)

    def list_scorers(self) -> dict[str, Json]:
        """The scorers, by name."""
        return dict(self.scorers)

    def list_input_processors(self) -> list[Json]:
        """The processors of what goes in."""
        return list(self.input_processors)

    def list_output_processors(self) -> list[Json]:
        """The processors of what comes out."""
        return list(self.output_processors)

    def get_model(self) -> Models:
        """The models that answer."""
        return self.models

    def get_memory(self) -> Json:
        """The memory, None where there is none."""
        return self.memory

    def get_description(self) -> str:
        """What the agent is for."""
        return self.description

    def get_default_options(self) -> dict[str, Json]:
        """The options of a run that says nothing else."""
        return dict(self.default_options)

    @property
    def _runs(self) -> dict[str, BareRun]:
        found: dict[str, BareRun] = self.__dict__.setdefault("_kept_runs", {})
        return found

    def _begin(self, start: Start) -> BareRun:
        here = self.surroundings
        journal = BareJournal(
            start.request.run_id, ChunkLog(), here.now, delegate=partial(_delegated, self), sleep=here.sleep
        )
        memory = recollection_of(self, start.request)
        thread, run_id = start.request.thread_id, start.request.run_id
        earlier = None if thread is None else EarlierRuns(self._runs.values, run_id, thread)
        inbox = here.inbox(start.request)
        services = Services(memory=memory, inbox=inbox, closures=start.closures, tasks=self._tasks, earlier=earlier)

        async def aborted(said: list[Chunk]) -> None:
            await keep_partial(self, start.request, said, here.now())
            await self._tasks.cancel_of_run(run_id)

        run = BareRun(journal, lambda: drive(self, journal, start.request, services), start, aborted)
        self._runs[run.run_id] = run
        self._forget()
        return run

    @property
    def _tasks(self) -> LocalTasks:
        here = self.surroundings
        delegate = partial(_delegated, self)
        found: LocalTasks = self.__dict__.setdefault(
            "_kept_tasks",
            LocalTasks(
                self, here.now, lambda id: BareJournal(id, ChunkLog(), here.now, delegate=delegate, sleep=here.sleep)
            ),
        )
        return found

    def _forget(self) -> None:
        """Lets go of the oldest runs that are over; one that waits is kept as long as there is room for others."""
        over = [run_id for run_id, run in self._runs.items() if run.over]
        for run_id in over[: max(len(self._runs) - KEPT_RUNS, 0)]:
            del self._runs[run_id]

    def _run(self, run_id: str) -> BareRun:
        run = self._runs.get(run_id)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id!r} of agent {self.id!r} in this process")
        return run

    def _reader(
        self,
        run: BareRun,
        chunks: AsyncIterator[Chunk],
        callbacks: Callbacks,
        before: Sequence[Chunk] = (),
    ) -> AgentRun:
        start = run.start
        assert start is not None
        output = RunOutput(
            chunks,
            run_id=run.run_id,
            thread_id=start.request.thread_id,
            resource_id=start.request.resource_id,
            callbacks=callbacks,
            shape=start.closures.output_shape,
            before=before,
        )
        return AgentRun(output, run.abort)


def decision_of(data: Json, question: Question) -> Decision:
    """What resume data decide. Raises `OptionError` for what the question does not ask for."""
    fields = data if isinstance(data, dict) else {}
    if question.kind == "approval":
        if not isinstance(fields.get("approved"), bool):
            raise OptionError('resume_data: an approval is {"approved": true} or {"approved": false, "reason": ...}')
        if fields.get("args") is not None and not question.edit_args:
            raise OptionError(f"args: tool {question.tool_name!r} does not let its arguments be edited")
        return Decision(
            fields["approved"], fields.get("reason"), fields.get("data"), fields.get("args"), fields.get("by")
        )
    if question.resume_schema is not None:
        try:
            Shape(question.resume_schema).read(data)
        except ShapeError as error:
            raise OptionError(f"resume_data: {error}") from error
    elif fields.get("approved") is False:
        return Decision(False, fields.get("reason"), by=fields.get("by"))
    return Decision(True, data=data)


def share_runs(variant: Agent, agent: Agent) -> None:
    """Lets a variant of an agent know the agent's runs in this process, and the agent those of the variant."""
    variant.__dict__["_kept_runs"] = agent.__dict__.setdefault("_kept_runs", {})
    variant.__dict__.pop("_kept_tasks", None)


async def settled(run: AgentRun) -> Result:
    """A run read to its end. Raises `AgentFailedError`."""
    result = await run.output.result()
    if result.error is not None:
        raise AgentFailedError(result.error, result)
    return result


async def _delegated(agent: DeclaredAgent, journal: BareJournal, delegation: Delegation) -> Json:
    return await nested(journal, delegation, agent)
