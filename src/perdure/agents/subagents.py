"""Sub-agents: a task handed over by a tool call, carried out by another agent's loop.

The child is a run with an id of its own, `<parent>.<tool call>`. Its chunks are told as `tool-output` of the call, and
its questions are asked under the call's id, so that whoever follows the parent can answer them. The children of a
durable run are runs of the engine (`durable/children.py`); those of a run of this process are carried out here, inside
their parent's journal, where their steps have the call's id before theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from perdure.agents.chunks import Chunk, forwarded
from perdure.agents.declared import DeclaredAgent
from perdure.agents.journal import INSIDE, ChildRuns, Decision, Delegation, Journal, Question, StepScope, children_of
from perdure.agents.loop import run_loop
from perdure.agents.ports import Services
from perdure.agents.recollection import recollection_of
from perdure.agents.state import RunInput
from perdure.agents.within import WithinJournal
from perdure.model.json import Json
from perdure.sdk.function import Function


class NestedJournal(WithinJournal):
    """A journal inside another one, for the run of a sub-agent. `asked`: whether it has asked anything."""

    def __init__(self, outer: Journal, delegation: Delegation, agent: DeclaredAgent) -> None:
        super().__init__(outer)
        self.asked = False
        self._delegation = delegation
        self._agent = agent
        self._open = 0

    @property
    def run_id(self) -> str:
        return self._delegation.run_id

    @property
    def children(self) -> ChildRuns | None:
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
        return self.outer.step(self._inner(id), call, retries=retries, timeout=timeout, once=once)

    def push(self, said: Chunk) -> None:
        task = self._delegation
        self.outer.push(forwarded(said, self.outer.run_id, task.tool_call_id, task.tool_name))

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        outer = msgspec.structs.replace(
            question, tool_call_id=self._delegation.tool_call_id, inner=question.place, round=0
        )
        alone = self._open == 0
        self._open += 1
        self.asked = True

        async def announce_both() -> Chunk:
            inner = await announce()
            self.push(inner)
            await self._delegation.keep()
            payload = {**inner.payload, "toolCallId": outer.tool_call_id if alone else outer.place}
            return Chunk({**inner, "runId": self.outer.run_id, "payload": payload})

        try:
            return await self.outer.ask(outer, announce_both)
        finally:
            self._open -= 1

    async def open_questions(self) -> dict[str, Question]:
        above = f"{self._delegation.tool_call_id}{INSIDE}"
        found = await self.outer.open_questions()
        return {place[len(above) :]: question for place, question in found.items() if place.startswith(above)}

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        return await self.outer.invoke(self._inner(id), function, data)

    async def delegate(self, delegation: Delegation) -> Json:
        return await nested(self, delegation, self._agent)

    def _inner(self, id: str) -> str:
        return f"{self._delegation.id}/{id}"


async def delegated(journal: Journal, delegation: Delegation, parent: DeclaredAgent) -> Json:
    """Carries a delegation out, by a run of its own where the journal has such; gives the `RunResult` as JSON."""
    children = children_of(journal)
    if children is not None:
        return await children.carry_out(journal, delegation)
    return await nested(journal, delegation, parent)


async def nested(journal: Journal, delegation: Delegation, parent: DeclaredAgent) -> Json:
    """Carries a delegation out inside the journal of the parent; gives the `RunResult` as JSON."""
    agent = parent.agents[delegation.key]
    request = RunInput.from_json(delegation.data)
    services = Services(memory=recollection_of(agent, request))
    inside = NestedJournal(journal, delegation, agent)
    result = (await run_loop(agent, inside, request, services)).to_json()
    return {**result, "answered": True} if inside.asked else result
