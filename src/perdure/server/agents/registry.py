"""Which agents are offered, and what is asked of one: the same, whether its runs survive or not.

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
from perdure.agents.storage import AgentStorage
from perdure.model.json import Json
from perdure.sdk.app import App
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError

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
    """An agent that is offered. `run` is what carries out runs, `declared` what it is: None where it tells nothing."""

    def __init__(self, agent: Json, app: App) -> None:
        self.given = agent
        self.durable = isinstance(agent, DurableAgent)
        inner = agent.agent if isinstance(agent, DurableAgent) else agent
        self.declared: DeclaredAgent | None = inner if isinstance(inner, DeclaredAgent) else None
        self.run: Json = agent
        self.suspended: dict[str, Suspended] = {}
        self._app = app
        if isinstance(agent, Agent) and isinstance(agent.memory, Memory):
            self.run = self.declared = copy.copy(agent)
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
        engine = local_engine(self._app)
        if engine is None:
            raise AgentError(f"agent {self.id!r}: nothing runs its app")
        return engine.storage

    @property
    def memory(self) -> Memory | None:
        """Its memory, on its storage."""
        found = None if self.declared is None else self.declared.memory
        return found.use(self.storage) if isinstance(found, Memory) else None

    def note(self, run: Suspended) -> None:
        """A run waits for somebody."""
        self.suspended[run.run_id] = run
        while len(self.suspended) > KEPT:
            del self.suspended[next(iter(self.suspended))]


class Agents:
    """The agents of a node, as they are at the moment."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._served: dict[str, ServedAgent] = {}

    def all(self) -> list[ServedAgent]:
        """All that are offered, in the order in which they were made."""
        offered = self.backend.agents
        self._served = {id: self._known(id, *pair) for id, pair in offered.items()}
        return list(self._served.values())

    def one(self, id: str) -> ServedAgent:
        """The agent with this id. Raises `ApiError` (404)."""
        found = self.backend.agents.get(id)
        if found is None:
            raise ApiError(404, f"Agent with id {id} not found")
        served = self._served[id] = self._known(id, *found)
        return served

    def _known(self, id: str, agent: Json, app: App) -> ServedAgent:
        known = self._served.get(id)
        return known if known is not None and known.given is agent else ServedAgent(agent, app)
