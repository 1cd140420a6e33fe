"""The journal: the port between an agent's loop and what makes it durable.

The loop (`loop.py`) does everything that must not be repeated, and everything that waits, through a `Journal`. In a
durable run each of its calls is a step of a perdure function; in a plain one (`Agent.generate`) it is carried out in
this process and forgotten. So there is one loop, and it does not know which it is in.

Invariants: what `step` gives is plain JSON and the same at every replay; between two calls of the journal the loop
only computes; chunks said inside a step count once the step is recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec

from perdure.agents.chunks import Chunk
from perdure.model.json import Json
from perdure.sdk.function import Function

INSIDE: Final = ">"
"""Stands between a call and a call inside it, in the paths of sub-agents' calls."""


class Question(msgspec.Struct):
    """What a run waits for: a person's approval of a tool call, or what a tool suspended for.

    `args_hash` binds the decision to the arguments that were shown. `timeout` is in ms; None waits a year. `round`
    counts the questions of one call from 0: it may need approval, and then suspend, more than once. `inner` is the
    place of a sub-agent's own question, asked under the call by which the sub-agent was given its task. `edit_args`:
    whoever approves may change the arguments.
    """

    tool_call_id: str
    tool_name: str
    args: Json
    kind: Literal["approval", "suspension"]
    args_hash: str
    payload: Json = None
    resume_schema: Json = None
    timeout: int | None = None
    round: int = 0
    inner: str = ""
    edit_args: bool = False

    @property
    def place(self) -> str:
        """Under which id the question stands: that of its call, whose question inside it is, and which one in turn.

        >>> Question("c1", "pay", {}, "suspension", "", round=1).place
        'c1@1'
        """
        return (
            self.tool_call_id + (f"{INSIDE}{self.inner}" if self.inner else "") + (f"@{self.round}" * bool(self.round))
        )


def call_of(place: str) -> str:
    """The tool call whose question stands at a place.

    >>> call_of("c1>h2@1")
    'c1'
    """
    outer = place.partition(INSIDE)[0]
    call, mark, turn = outer.rpartition("@")
    return call if mark and turn.isdecimal() else outer


def path_of(place: str) -> str:
    """The path of the call whose question stands at a place.

    >>> path_of("c1>h2@1")
    'c1>h2'
    """
    path, mark, turn = place.rpartition("@")
    return path if mark and turn.isdecimal() else place


def shown_ids(places: Iterable[str]) -> dict[str, str]:
    """By which id each of these open questions is told of: its call's, unless another one is about the same call.

    >>> shown_ids(["c1@1", "c2>h1", "c2>h2"])
    {'c1@1': 'c1', 'c2>h1': 'c2>h1', 'c2>h2': 'c2>h2'}
    """
    calls = {place: call_of(place) for place in places}
    several = {call for call, count in Counter(calls.values()).items() if count > 1}
    return {place: place if call in several else call for place, call in calls.items()}


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


class Delegation(msgspec.Struct):
    """A task for a sub-agent: the tool call that hands it over, and the input of the run that carries it out.

    `id` is the step's, `key` names the sub-agent in its parent, `data` is the child's `RunInput` as JSON.
    `keep` keeps the conversation of the run above with the questions that are open, inside a step.
    """

    id: str
    tool_call_id: str
    tool_name: str
    key: str
    args: Json
    run_id: str
    data: dict[str, Json]
    keep: Callable[[], Awaitable[None]]


class ChildRuns(Protocol):
    """Carries out what is handed over to sub-agents, by runs of their own."""

    async def carry_out(self, journal: Journal, delegation: Delegation) -> Json:
        """Lets a sub-agent carry out a task, and tells of it in a journal; its result as JSON."""
        ...


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
        once: bool = False,
    ) -> Awaitable[Json]:
        """Does something once. The callable gives plain JSON. Raises `StepError` when no attempt is left.

        `retries` are attempts after the first, `timeout` is in ms. With `once`, `StepScope.attempt` counts every
        attempt that began, those that died with their process too; otherwise only those that failed.
        """
        ...

    def push(self, said: Chunk) -> None:
        """Says a chunk: on behalf of the step that executes, or of the run where none does."""
        ...

    async def drained(self) -> None:
        """Waits while readers and the log are far behind; returns at once otherwise."""
        ...

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        """Puts a question and waits for its decision; None once its time is up.

        `announce` makes the chunk that tells of it, said only after the question is stored and the run waits for it.
        """
        ...

    async def open_questions(self) -> dict[str, Question]:
        """What the run waits for, by place. Inside a step."""
        ...

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        """Runs another function as a child run. Raises `StepError` when it fails."""
        ...

    async def delegate(self, delegation: Delegation) -> Json:
        """Lets a sub-agent carry out a task, its chunks told as `tool-output`; gives its result as JSON.

        Raises `StepError` when it fails.
        """
        ...


@runtime_checkable
class _Keeping(Protocol):
    """A journal whose sub-agents have runs of their own."""

    @property
    def children(self) -> ChildRuns | None: ...


def children_of(journal: Journal) -> ChildRuns | None:
    """Who carries out the sub-agents of a journal; None where they are carried out inside of it."""
    return journal.children if isinstance(journal, _Keeping) else None
