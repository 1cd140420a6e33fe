"""A journal inside another one: the base of those that tell what is carried out in them by other names.

Invariant: everything goes to the journal outside; whoever derives from this changes only what it says it changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from perdure.agents.chunks import Chunk
from perdure.agents.journal import ChildRuns, Decision, Delegation, Journal, Question, StepScope, children_of
from perdure.agents.questions import Lanes, lanes_of
from perdure.model.json import Json
from perdure.sdk.function import Function


class WithinJournal:
    """Passes everything on to `outer`."""

    def __init__(self, outer: Journal) -> None:
        self.outer = outer

    @property
    def run_id(self) -> str:
        return self.outer.run_id

    @property
    def lanes(self) -> Lanes | None:
        return lanes_of(self.outer)

    @property
    def children(self) -> ChildRuns | None:
        return children_of(self.outer)

    def now(self) -> int:
        return self.outer.now()

    def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
        once: bool = False,
    ) -> Awaitable[Json]:
        return self.outer.step(id, call, retries=retries, timeout=timeout, once=once)

    def push(self, said: Chunk) -> None:
        self.outer.push(said)

    async def drained(self) -> None:
        await self.outer.drained()

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        return await self.outer.ask(question, announce)

    async def open_questions(self) -> dict[str, Question]:
        return await self.outer.open_questions()

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        return await self.outer.invoke(id, function, data)

    async def delegate(self, delegation: Delegation) -> Json:
        return await self.outer.delegate(delegation)
