"""Sub-agents: a task handed over by a tool call, carried out by another agent's loop.

The child is a run with an id of its own, `<parent>.<tool call>`, and its loop runs inside its parent's journal: its
steps have the call's id before theirs, its chunks are told as `tool-output` of the call, and its questions are asked
under the call's id, so that whoever follows the parent can answer them. So one log and one set of questions are exact
for both, and a child cannot outlive its parent. Where `children` keeps them, child runs are listed as such.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, runtime_checkable

import msgspec

from perdure.agents.chunks import Chunk, forwarded
from perdure.agents.declared import DeclaredAgent
from perdure.agents.journal import Decision, Delegation, Journal, Question, StepScope
from perdure.agents.loop import run_loop
from perdure.agents.ports import Services
from perdure.agents.questions import lanes_of
from perdure.agents.recollection import recollection_of
from perdure.agents.state import RunInput
from perdure.model.json import Json
from perdure.sdk.function import Function


class ChildRuns(Protocol):
    """Who keeps which child runs there are. Both calls come inside steps, and may come again."""

    async def begun(self, delegation: Delegation, agent: DeclaredAgent, parent_run_id: str) -> None:
        """A sub-agent begins with its task."""
        ...

    async def over(self, run_id: str, reason: str) -> None:
        """It has ended, and why."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A journal whose child runs somebody keeps."""

    @property
    def children(self) -> ChildRuns | None: ...


def children_of(journal: Journal) -> ChildRuns | None:
    """Who keeps the child runs of a journal; None where nobody does."""
    return journal.children if isinstance(journal, Keeping) else None


class NestedJournal:
    """A journal inside another one, for the run of a sub-agent."""

    def __init__(self, outer: Journal, delegation: Delegation, agent: DeclaredAgent) -> None:
        self.run_id = delegation.run_id
        self.lanes = lanes_of(outer)
        self.children = children_of(outer)
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
        kept = call if self.children is None else partial(self._kept, self.children, id, call)
        return self._outer.step(self._inner(id), kept, retries=retries, timeout=timeout, once=once)

    async def _kept(
        self, children: ChildRuns, id: str, call: Callable[[StepScope], Awaitable[Json]], scope: StepScope
    ) -> Json:
        """A step of the child: its first one puts the run down, its last one says that it is over."""
        if id == "llm:0":
            await children.begun(self._delegation, self._agent, self._outer.run_id)
        recorded = await call(scope)
        if id == "finish" or (id.startswith("llm:") and recorded.get("done")):
            await children.over(self.run_id, recorded.get("reason") or "other")
        return recorded

    def push(self, said: Chunk) -> None:
        task = self._delegation
        self._outer.push(forwarded(said, self._outer.run_id, task.tool_call_id, task.tool_name))

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
