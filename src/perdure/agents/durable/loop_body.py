"""The body of a durable agent that is an `Agent`: its options checked and made data, its loop run over a journal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from perdure.agents.aborting import keep_partial
from perdure.agents.chunks import Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.driving import drive
from perdure.agents.durable.body import Request
from perdure.agents.durable.journal import DurableJournal
from perdure.agents.inbox import RunInbox
from perdure.agents.journal import Delegation, Journal
from perdure.agents.options import Closures, RunKeywords
from perdure.agents.ports import Services
from perdure.agents.recollection import recollection_of
from perdure.agents.starting import prepare_start
from perdure.agents.state import RunInput
from perdure.agents.storage import AgentStorage
from perdure.agents.subagents import nested
from perdure.model.json import Json

_TIMES: Final = frozenset({"startedAt", "createdAt"})
"""What two calls that say the same have different."""


class LoopBody:
    """An agent with its loop; `id` and `name` may be other than the agent's."""

    def __init__(self, agent: DeclaredAgent, id: str, name: str) -> None:
        self.id = id
        self.name = name
        self.version = agent.version
        self.wrapped = agent
        self.remembers = agent.memory is not None
        # The agent, and those below it, with their memories on the engine's storage.
        self._bound = agent
        self._storage: AgentStorage | None = None

    async def request(
        self, messages: Json, options: dict[str, Json], *, new_id: Callable[[], str], now: int, strict: bool
    ) -> Request:
        keywords = cast(RunKeywords, {name: value for name, value in options.items() if name != "network"})
        start = prepare_start(self.wrapped, messages, keywords, new_id=new_id(), now=now, durable=True, strict=strict)
        request = msgspec.structs.replace(start.request, agent_id=self.id, network=bool(options.get("network")))
        data = request.to_json()
        return Request(
            data,
            _said(data),
            request.run_id,
            request.thread_id,
            request.resource_id,
            start.callbacks,
            start.closures,
        )

    async def run(
        self, journal: Journal, data: dict[str, Json], storage: AgentStorage, closures: Closures
    ) -> dict[str, Json]:
        request = RunInput.from_json(data)
        agent = self.bound_to(storage)
        services = Services(
            memory=recollection_of(agent, request),
            inbox=None if request.thread_id is None else RunInbox(storage, request),
            closures=closures,
            tasks=journal.tasks if isinstance(journal, DurableJournal) else None,
            earlier=journal.earlier if isinstance(journal, DurableJournal) else None,
        )
        result = await drive(agent, journal, request, services)
        return result.to_json()

    def bound_to(self, storage: AgentStorage) -> DeclaredAgent:
        """The agent with its memory on a storage."""
        if self._storage is not storage:
            self._storage, self._bound = storage, _on(storage, self.wrapped, {})
        return self._bound

    async def delegate(self, journal: Journal, delegation: Delegation) -> Json:
        return await nested(journal, delegation, self._bound)

    async def keep_partial(self, data: dict[str, Json], said: Sequence[Chunk], storage: AgentStorage, now: int) -> None:
        await keep_partial(self.bound_to(storage), RunInput.from_json(data), said, now)

    def edits_args(self, tool_name: str) -> bool:
        found = self.wrapped.tools_named(tool_name)
        return bool(found) and all(tool.edit_args for tool in found)


def _on(storage: AgentStorage, agent: DeclaredAgent, made: dict[int, DeclaredAgent]) -> DeclaredAgent:
    """A copy of an agent on a storage; agents may have each other as sub-agents."""
    known = made.get(id(agent))
    if known is not None:
        return known
    bound = made[id(agent)] = copy.copy(agent)
    if agent.memory is not None:
        bound.memory = agent.memory.use(storage)
    bound.agents = {key: _on(storage, inner, made) for key, inner in agent.agents.items()}
    return bound


def _said(data: dict[str, Json]) -> Json:
    """What the caller said: the input without the times at which it was said."""
    messages = [{key: value for key, value in message.items() if key not in _TIMES} for message in data["messages"]]
    return {**{key: value for key, value in data.items() if key not in _TIMES}, "messages": messages}
