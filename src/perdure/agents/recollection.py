"""The memory of one run: an agent's `Memory`, bound to the thread and the resource that the run belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from perdure.agents.declared import DeclaredAgent
from perdure.agents.messages import Message
from perdure.agents.ports import Recalled, Recollection
from perdure.agents.state import RunInput
from perdure.model.json import Json


def recollection_of(agent: DeclaredAgent, request: RunInput) -> Recollection | None:
    """The memory of a run; None where the agent has none, or the run names no thread."""
    if agent.memory is None or request.options.memory is None:
        return None
    scope = agent.memory.scope(request.options.memory)
    return None if scope is None else _Bound(agent.memory, scope)


class _Bound:
    """A memory and the scope of a run in it."""

    def __init__(self, memory: Json, scope: Json) -> None:
        self._memory = memory
        self._scope = scope

    @property
    def needs_finish(self) -> bool:
        found: bool = self._memory.needs_finish(self._scope)
        return found

    async def load(self, input: list[Message], *, exclude: Collection[str], until: Json) -> Recalled:
        found: Recalled = await self._memory.load(self._scope, input, exclude=exclude, until=until)
        return found

    async def save(self, messages: list[Message]) -> None:
        await self._memory.save(self._scope, messages)

    async def finish(self, messages: list[Message], ask: Callable[[str, str, Json], Awaitable[str]]) -> None:
        await self._memory.finish(self._scope, messages)
        prompt = await self._memory.title_prompt(self._scope, messages)
        if prompt is not None:
            await self._memory.set_title(self._scope, await ask(prompt.system, prompt.user, prompt.model))
