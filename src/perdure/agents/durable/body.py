"""What a durable agent carries out: the port `Body`, and the body that is an `Agent` and its loop.

A body turns what a caller says into data that travels with the run, and carries the run out over a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.journal import Delegation, Journal
from perdure.agents.options import Callbacks, Closures
from perdure.agents.storage import AgentStorage
from perdure.model.json import Json


class Request(msgspec.Struct):
    """What a caller asked for, ready to travel: `data` is the input of the run as JSON.

    Two calls with the same `said` ask for the same. `callbacks` stay with the caller's reader, `closures` in this
    process.
    """

    data: dict[str, Json]
    said: Json
    run_id: str
    thread_id: str | None = None
    resource_id: str | None = None
    callbacks: Callbacks = msgspec.field(default_factory=Callbacks)
    closures: Closures = msgspec.field(default_factory=Closures)


class Body(Protocol):
    """The agent inside of a durable agent."""

    @property
    def id(self) -> str:
        """Its id: the function's is made of it."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def version(self) -> str:
        """Which version of it: a run goes on only with the one that it began with."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether a run sees what earlier runs of its thread have said, so that they must go one after the other."""
        ...

    @property
    def wrapped(self) -> object:
        """The agent itself, for what is asked of it beyond runs."""
        ...

    async def request(
        self, messages: Json, options: dict[str, Json], *, new_id: Callable[[], str], now: int, strict: bool
    ) -> Request:
        """What a caller asked for, checked. Raises `OptionError`."""
        ...

    async def run(
        self, journal: Journal, data: dict[str, Json], storage: AgentStorage, closures: Closures
    ) -> dict[str, Json]:
        """Carries a run out; its result, with `finishReason`."""
        ...

    async def delegate(self, journal: Journal, delegation: Delegation) -> Json:
        """Lets a sub-agent carry out a task of a run; its result."""
        ...

    async def keep_partial(self, data: dict[str, Json], said: Sequence[Chunk], storage: AgentStorage, now: int) -> None:
        """Keeps what a run that was aborted has come to in its thread; `said` is all that it has said."""
        ...

    def edits_args(self, tool_name: str) -> bool:
        """Whether whoever approves a call of a tool may change its arguments."""
        ...
