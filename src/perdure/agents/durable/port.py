"""The runs of durable agents as signals need them: begun, followed and aborted by the ids of agents and runs."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

from perdure.agents.chunks import Chunk
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.reader import ChunkReader
from perdure.agents.durable.reading import begun
from perdure.agents.durable.run import Prepared
from perdure.agents.errors import RunNotFoundError
from perdure.agents.signals.signal import parse_signal, signal_message
from perdure.agents.storage import AgentRun
from perdure.model.json import Json

_PATIENCE: Final = 60.0
"""How long (seconds) a run is waited for that is put down and has not begun."""


class Runs(Protocol):
    """What is needed of a durable agent."""

    @property
    def id(self) -> str: ...

    @property
    def engine(self) -> Engine: ...

    async def prepare(self, messages: Json, **options: Json) -> Prepared: ...

    async def begin(self, prepared: Prepared) -> AgentRun: ...

    async def abort(self, run_id: str, reason: str | None = None) -> bool: ...


class AgentRuns:
    """The runs of some durable agents; all on one engine. Fills `perdure.agents.signals.RunPort`."""

    def __init__(self, *agents: Runs, ids: Callable[[], str]) -> None:
        self._agents = {agent.id: agent for agent in agents}
        self._ids = ids

    def agent(self, agent_id: str) -> Runs:
        """An agent by its id. Raises `RunNotFoundError`."""
        found = self._agents.get(agent_id)
        if found is None:
            raise RunNotFoundError(f"there is no durable agent {agent_id!r}; there are {', '.join(self._agents)}")
        return found

    async def start(
        self,
        agent_id: str,
        signals: list[dict[str, Json]],
        *,
        run_id: str,
        thread_id: str,
        resource_id: str,
        options: dict[str, Json],
    ) -> None:
        """Begins a run whose input is these signals; the same run once, however often it is asked for."""
        agent = self.agent(agent_id)
        now = agent.engine.now()
        parsed = [parse_signal(body, ids=self._ids, now=now) for body in signals]
        messages = [signal_message(signal, thread_id, resource_id) for signal in parsed]
        given = {_snake(name): value for name, value in options.items()}
        given["memory"] = {**(given.get("memory") or {}), "thread": thread_id, "resource": resource_id}
        prepared = await agent.prepare(messages, **{**given, "run_id": run_id})
        await agent.begin(prepared)

    async def follow(self, run_id: str, offset: int = 0) -> AsyncGenerator[Chunk]:
        """What a run says from a place on, over suspensions, until it is over."""
        agent, run = await self._known(run_id)
        engine_run_id = await begun(agent.engine, run, _PATIENCE)
        reader = ChunkReader(agent.engine, run_id, engine_run_id, after=offset, keep_open=True)
        try:
            async for said in reader:
                yield said
        finally:
            await reader.aclose()

    async def abort(self, run_id: str, reason: str | None = None) -> bool:
        """Aborts a run; False where it is over already."""
        agent, _ = await self._known(run_id)
        return await agent.abort(run_id, reason)

    async def _known(self, run_id: str) -> tuple[Runs, AgentRun]:
        for agent in self._agents.values():
            run = await agent.engine.storage.run(run_id)
            if run is not None:
                return self.agent(run.agent_id), run
        raise RunNotFoundError(f"there is no run {run_id!r}")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
