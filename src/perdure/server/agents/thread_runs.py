"""The runs of threads, whichever agents carry them out: begun by signals, followed, and aborted.

Fills the port of signals (`RunPort`) with plain agents, whose runs are in this process, and with durable ones. There is
one `ThreadRuns` for each store of agents.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol, cast

from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.durable import AgentRuns, DurableAgent
from perdure.agents.errors import RunNotFoundError
from perdure.agents.messages import Message
from perdure.agents.options import RunKeywords
from perdure.agents.results import AgentRun
from perdure.agents.signals import Signals
from perdure.agents.signals.signal import parse_signal, signal_message
from perdure.agents.starting import prepare_start
from perdure.agents.storage import AgentStorage
from perdure.model.json import Json
from perdure.server.agents.plain_runs import PlainRun, PlainRuns
from perdure.server.envelope import ApiError


class Served(Protocol):
    """What is needed of an agent that is offered."""

    run: Json


class ThreadRuns:
    """Signals, and the runs that they begin. `served` finds an agent by its id; `note` hears what plain runs say."""

    def __init__(
        self, storage: AgentStorage, served: Callable[[str], Served], note: Callable[[PlainRun, Chunk], None]
    ) -> None:
        self.storage = PlainRuns(storage, note, self._pass_on)
        self.signals = Signals(self.storage, self)
        self._served = served

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
        """See `RunPort`."""
        agent = self._served(agent_id).run
        if isinstance(agent, DurableAgent):
            named = {"run_id": run_id, "thread_id": thread_id, "resource_id": resource_id}
            await AgentRuns(agent, ids=self.storage.ids).start(agent_id, signals, **named, options=options)
        elif self.storage.plain(run_id) is None:
            now = self.storage.now()
            parsed = [parse_signal(body, ids=self.storage.ids, now=now) for body in signals]
            messages = [signal_message(signal, thread_id, resource_id) for signal in parsed]
            given: dict[str, Json] = {_snake(name): value for name, value in options.items()}
            given["run_id"] = run_id
            given["memory"] = {**(given.get("memory") or {}), "thread": thread_id, "resource": resource_id}
            self.begin_later(plain(agent), messages, given)

    async def begin(self, agent: Agent, messages: Json, options: dict[str, Json]) -> AgentRun:
        """Begins a plain run when it is its turn. Raises as `Agent.stream`."""
        return await self.storage.begin(agent, messages, options, self._given(agent, messages, options))

    def begin_later(self, agent: Agent, messages: Json, options: dict[str, Json]) -> str:
        """Puts a plain run down, which begins when it is its turn; its id. Raises as `Agent.stream`."""
        return self.storage.begin_later(agent, messages, options, self._given(agent, messages, options))

    def _given(self, agent: Agent, messages: Json, options: dict[str, Json]) -> list[Message]:
        run_id = options.setdefault("run_id", self.storage.ids())
        keywords = cast(RunKeywords, options)
        return prepare_start(agent, messages, keywords, new_id=run_id, now=self.storage.now()).request.read()

    async def follow(self, run_id: str, offset: int = 0) -> AsyncGenerator[Chunk]:
        """See `RunPort`."""
        found = self.storage.plain(run_id)
        if found is not None:
            await found.begun.wait()
            chunks = found.agent.follow_run(run_id, offset)
        else:
            chunks = (await self._of(run_id)).follow_run(run_id, offset)
        try:
            async for said in chunks:
                yield said
        finally:
            await chunks.aclose()

    async def abort(self, run_id: str, reason: str | None = None) -> bool:
        """See `RunPort`."""
        found = self.storage.plain(run_id)
        if found is not None:
            return await self.storage.abort(found)
        return await (await self._of(run_id)).abort(run_id, reason)

    async def _of(self, run_id: str) -> DurableAgent:
        run = await self.storage.run(run_id)
        agent = None if run is None else self._served(run.agent_id).run
        if not isinstance(agent, DurableAgent):
            raise RunNotFoundError(f"there is no run {run_id!r}")
        return agent

    async def _pass_on(self, run_id: str) -> None:
        await self.signals.pass_on(run_id)


def plain(agent: Json) -> Agent:
    """An agent that is carried out here. Raises `ApiError` for one of another maker: it hears no signals."""
    if not isinstance(agent, Agent):
        raise ApiError(501, "this agent takes no signals: make it durable (create_durable_agent)")
    return agent


def _snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
