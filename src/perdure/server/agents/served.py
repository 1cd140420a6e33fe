"""An agent as it is offered: what is asked of it is the same, whether its runs survive or not.

Invariant: a plain agent's run belongs to the request that began it, and ends with it unless it waits for a person; a
durable one's belongs to nobody.
"""

from __future__ import annotations

import copy
from typing import Final

import msgspec

from perdure.agents.agent import Agent
from perdure.agents.declared import DeclaredAgent
from perdure.agents.durable import DurableAgent
from perdure.agents.durable.engines import local_engine
from perdure.agents.errors import AgentError
from perdure.agents.memory import Memory
from perdure.agents.messages import Message
from perdure.agents.state import RunInput
from perdure.agents.storage import AgentStorage
from perdure.agents.stored.selected import Selected
from perdure.model.errors import NotFoundError
from perdure.model.json import Json
from perdure.sdk.app import App

KEPT: Final = 1000
"""How many suspended runs of an agent are remembered here; those of a plain agent are nowhere else."""


class Suspended(msgspec.Struct):
    """A run that waits for somebody, and what it was started with. `at` in ms."""

    run_id: str
    thread_id: str | None
    resource_id: str | None
    at: int
    given: list[Message] = []


class ServedAgent:
    """An agent that is offered. `run` is what carries out runs, `declared` what it is: None where it tells nothing.

    `selected` is the version that it is, None where its code alone counts.
    """

    def __init__(self, agent: Json, app: App) -> None:
        self.given = agent
        self.durable = isinstance(agent, DurableAgent)
        inner = agent.agent if isinstance(agent, DurableAgent) else agent
        self.declared: DeclaredAgent | None = inner if isinstance(inner, DeclaredAgent) else None
        self.run: Json = agent
        self.suspended: dict[str, Suspended] = {}
        self.app = app
        self.selected: Selected | None = None
        if isinstance(agent, Agent):
            self.run = self.declared = copy.copy(agent)
            if isinstance(agent.memory, Memory):
                self.run.memory = agent.memory.use(self.storage)

    @property
    def id(self) -> str:
        """The id that clients know it by."""
        id: str = self.run.id
        return id

    @property
    def name(self) -> str:
        """What people call it."""
        name: str = self.run.name
        return name

    @property
    def storage(self) -> AgentStorage:
        """Where what it knows is kept. Raises `AgentError` where nothing of this process keeps it."""
        if isinstance(self.given, DurableAgent):
            return self.given.engine.storage
        engine = local_engine(self.app)
        if engine is None:
            raise AgentError(f"agent {self.id!r}: nothing runs its app")
        return engine.storage

    @property
    def memory(self) -> Memory | None:
        """Its memory, on its storage."""
        found = None if self.declared is None else self.declared.memory
        return found.use(self.storage) if isinstance(found, Memory) else None

    async def begun_with(self, run_id: str) -> list[Message]:
        """The messages that a run was started with, as far as they are known."""
        known = self.suspended.get(run_id)
        if known is not None or not self.durable:
            return [] if known is None else known.given
        run = await self.storage.run(run_id)
        if run is None or run.engine_run_id is None:
            return []
        try:
            data: Json = await self.run.engine.given(run.engine_run_id)
            return RunInput.from_json(data["input"]).read()
        except (NotFoundError, KeyError, msgspec.ValidationError):
            # It is forgotten, or of another maker.
            return []

    async def asks(self, run_id: str) -> list[str]:
        """The tool calls about which a run asks; none where there is no such run."""
        try:
            found = self.run.open_questions(run_id)
            return [question.tool_call_id for question in (await found if self.durable else found)]
        except AgentError:
            return []

    def note(self, run: Suspended) -> None:
        """A run waits for somebody."""
        self.suspended[run.run_id] = run
        while len(self.suspended) > KEPT:
            del self.suspended[next(iter(self.suspended))]
