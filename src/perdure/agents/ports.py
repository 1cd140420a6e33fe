"""What the loop needs of others: a memory, an inbox of signals, and what only this process was given.

Each is a Protocol, filled by the memory and signals of this room, or by a test.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from perdure.agents.background.port import BackgroundTasks
from perdure.agents.chunks import Chunk
from perdure.agents.messages import Message
from perdure.agents.options import Closures
from perdure.agents.tools import Tool
from perdure.model.json import Json


class Recalled(Protocol):
    """What a memory knows of a thread: history, additions to the system prompt, tools, and up to where it looked."""

    @property
    def messages(self) -> list[Message]: ...
    @property
    def system(self) -> list[str]: ...
    @property
    def tools(self) -> list[Tool]: ...
    @property
    def until(self) -> Json: ...


class Recollection(Protocol):
    """The memory of one run: bound to its thread, resource and options."""

    async def load(self, input: list[Message], *, exclude: Collection[str], until: Json) -> Recalled:
        """What is known before this run. `exclude` are the run's own messages; `until` asks for the same history."""
        ...

    async def save(self, messages: list[Message]) -> None:
        """Keeps messages; saving the same ones again is harmless."""
        ...

    @property
    def needs_finish(self) -> bool:
        """Whether `finish` has anything to do."""
        ...

    async def finish(self, messages: list[Message], ask: Callable[[str, str, Json], Awaitable[str]]) -> None:
        """The work of the end, a title for instance.

        `ask` is given texts for system and user, and a model, or None for the agent's.
        """
        ...


class Arrived(msgspec.Struct):
    """Something that came into a run while it went on: its message, and the chunk that tells readers of it.

    A transient one is told to the model and not kept in the memory.
    """

    message: Message
    chunk: Chunk | None = None
    transient: bool = False


class Inbox(Protocol):
    """What was sent to a run and not taken in yet. Both calls give the same again under the same step id."""

    async def claim(self, step_id: str) -> list[Arrived]:
        """Takes in what is there."""
        ...

    async def close(self, step_id: str) -> list[Arrived]:
        """Closes the inbox if it is empty; otherwise takes in what is there, and it stays open."""
        ...


class Earlier(Protocol):
    """The earlier runs of the thread."""

    async def answered(self, tool_name: str, args: Json) -> None:
        """A tool that one of them had suspended is called again with its answer: closes what it asks. Inside a step."""
        ...


@dataclass
class Services:
    """What surrounds one execution of a run."""

    memory: Recollection | None = None
    inbox: Inbox | None = None
    closures: Closures = field(default_factory=Closures)
    tasks: BackgroundTasks | None = None
    earlier: Earlier | None = None
