"""Sub-agents: a task handed over by a tool call, carried out by another agent's loop.

Here the child's loop runs inside its parent's journal: its steps have the call's id before theirs, its chunks are told
as `tool-output` of the call, and its questions are asked under the call's id, so that whoever follows the parent can
answer them. A journal that starts a run of its own for the child need not use this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from perdure.agents.chunks import USER, Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.journal import Decision, Delegation, Journal, Question, StepScope
from perdure.agents.loop import run_loop
from perdure.agents.ports import Services
from perdure.agents.questions import lanes_of
from perdure.agents.recollection import recollection_of
from perdure.agents.state import RunInput
from perdure.model.json import Json
from perdure.sdk.function import Function


class NestedJournal:
    """A journal inside another one, for the run of a sub-agent."""

    def __init__(self, outer: Journal, delegation: Delegation, agent: DeclaredAgent) -> None:
        self.run_id = delegation.run_id
        self.lanes = lanes_of(outer)
        self._outer = outer
        self._delegation = delegation
        self._agent = agent
        self._open = 0

    def now(self) -> int:
        return self._outer.now()

    def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
        once: bool = False,
    ) -> Awaitable[Json]:
        return self._outer.step(self._inner(id), call, retries=retries, timeout=timeout, once=once)

    def push(self, said: Chunk) -> None:
        self._outer.push(forwarded(said, self._outer.run_id, self._delegation))

    async def drained(self) -> None:
        await self._outer.drained()

    async def ask(self, question: Question, announce: Callable[[], Chunk]) -> Decision | None:
        outer = msgspec.structs.replace(
            question, tool_call_id=self._delegation.tool_call_id, inner=question.place, round=0
        )
        alone = self._open == 0
        self._open += 1

        def announce_both() -> Chunk:
            inner = announce()
            self.push(inner)
            payload = {**inner.payload, "toolCallId": outer.tool_call_id if alone else outer.place}
            return Chunk({**inner, "runId": self._outer.run_id, "payload": payload})

        try:
            return await self._outer.ask(outer, announce_both)
        finally:
            self._open -= 1

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        return await self._outer.invoke(self._inner(id), function, data)

    async def delegate(self, delegation: Delegation) -> Json:
        return await nested(self, delegation, self._agent)

    def _inner(self, id: str) -> str:
        return f"{self._delegation.id}/{id}"


async def nested(journal: Journal, delegation: Delegation, parent: DeclaredAgent) -> Json:
    """Carries a delegation out inside the journal of the parent; gives the `RunResult` as JSON."""
    agent = parent.agents[delegation.key]
    request = RunInput.from_json(delegation.data)
    services = Services(memory=recollection_of(agent, request))
    result = await run_loop(agent, NestedJournal(journal, delegation, agent), request, services)
    return result.to_json()


def forwarded(said: Chunk, run_id: str, delegation: Delegation) -> Chunk:
    """A chunk of a sub-agent, as the parent's stream tells it."""
    payload = {"output": dict(said), "toolCallId": delegation.tool_call_id, "toolName": delegation.tool_name}
    return Chunk({"type": "tool-output", "runId": run_id, "from": USER, "payload": payload})
