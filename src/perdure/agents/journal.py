"""The journal: the port between an agent's loop and what makes it durable.

The loop (`loop.py`) does everything that must not be repeated, and everything that waits, through a `Journal`. In a
durable run each of its calls is a step of a perdure function; in a plain one (`Agent.generate`) it is carried out in
this process and forgotten. So there is one loop, and it does not know which it is in.

Invariants: what `step` gives is plain JSON and the same at every replay; between two calls of the journal the loop
only computes; chunks said inside a step count once the step is recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import msgspec

from perdure.agents.chunks import Chunk
from perdure.model.json import Json
from perdure.sdk.function import Function


class Question(msgspec.Struct):
    """What a run waits for: a person's approval of a tool call, or what a tool suspended for.

    `args_hash` binds the decision to the arguments that were shown. `timeout` is in ms; None waits a year.
    """

    tool_call_id: str
    tool_name: str
    args: Json
    kind: Literal["approval", "suspension"]
    args_hash: str
    payload: Json = None
    resume_schema: Json = None
    timeout: int | None = None


class Decision(msgspec.Struct):
    """How a question was answered. `args` replace the call's where the tool allows it; `data` came with `resume`."""

    approved: bool
    reason: str | None = None
    data: Json = None
    args: Json = None
    by: str | None = None


class StepScope(msgspec.Struct):
    """What the callable of a step is told: its id, and which attempt this is, counted from 0."""

    id: str
    attempt: int


class Journal(Protocol):
    """Where the work of one run is recorded. Step ids are fixed: see `loop.py`."""

    @property
    def run_id(self) -> str:
        """The run's id as its caller knows it."""
        ...

    def now(self) -> int:
        """The time in ms. Not recorded: for what is shown, never for what is decided."""
        ...

    def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
    ) -> Awaitable[Json]:
        """Does something once. The callable gives plain JSON. Raises `StepError` when no attempt is left."""
        ...

    def push(self, said: Chunk) -> None:
        """Says a chunk: on behalf of the step that executes, or of the run where none does."""
        ...

    async def drained(self) -> None:
        """Waits while readers and the log are far behind; returns at once otherwise."""
        ...

    async def ask(self, question: Question, announce: Callable[[], Chunk]) -> Decision | None:
        """Puts a question and waits for its decision; None once its time is up.

        `announce` makes the chunk that tells of it, said only after the question is stored and the run waits for it.
        """
        ...

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        """Runs another function as a child run. Raises `StepError` when it fails."""
        ...
