"""What a server offers to agents, as plain data: tools, resources and prompts, and how each is carried out.

Nothing here knows the protocol. A tool answers JSON; one that fails raises `ToolError`, whose text is for the agent to
act upon.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from perdure.model.json import Json


class ToolError(Exception):
    """A tool that failed; the text says what the agent can do about it."""


class NoResourceError(Exception):
    """A resource that there is not."""


class InputNeeded(Exception):
    """What was asked for cannot go on without input: requests by key, and what to be given again with the answers.

    A client that cannot be asked is told so.
    """

    def __init__(self, inputs: Mapping[str, Json], state: Json = None) -> None:
        super().__init__(", ".join(inputs))
        self.inputs = inputs
        self.state = state


async def _unheard(progress: float, total: float | None, message: str) -> None:
    return None


async def _unread(level: str, data: Json) -> None:
    return None


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the headers of the request, with names in lower case (none over standard input), and what it can do.

    `responses` and `state` are what came back for `InputNeeded`. `report` tells progress to whoever wants to hear it,
    `log` a line of a log (`debug` to `emergency`).
    """

    headers: Mapping[str, str] = {}
    capabilities: Mapping[str, Json] = {}
    responses: Mapping[str, Json] = {}
    state: Json = None
    report: Callable[[float, float | None, str], Awaitable[None]] = _unheard
    log: Callable[[str, Json], Awaitable[None]] = _unread

    @property
    def can_be_asked(self) -> bool:
        """Whether there is a person behind it who fills in forms."""
        return "elicitation" in self.capabilities


class Answer(msgspec.Struct, frozen=True):
    """What a tool gives: JSON, or text alone, or blocks of content as the protocol has them. A failed one says so."""

    value: Json = None
    text: str | None = None
    failed: bool = False
    content: Sequence[Json] = ()


class NoTaskError(Exception):
    """A task that there is not."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that takes its time: `id` is told to the client, which comes again with it.

    `inputs` are the requests for input that are open, by key. A task that is over has an `answer`, or, where the call
    itself was wrong, an `error`.
    """

    id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    created: str
    updated: str
    message: str = ""
    inputs: Mapping[str, Json] = {}
    answer: Answer | None = None
    error: str = ""


class Tasks(Protocol):
    """What keeps tasks. Each method raises `NoTaskError`."""

    async def get(self, task_id: str) -> Task:
        """Where a task stands."""
        ...

    async def update(self, task_id: str, responses: Mapping[str, Json]) -> None:
        """Gives input that was asked for; unknown keys are ignored."""
        ...

    async def cancel(self, task_id: str) -> None:
        """Cancels a task; harmless when it is over."""
        ...


Call: TypeAlias = Callable[[dict[str, Json], Caller], Awaitable[Answer]]
Start: TypeAlias = Callable[[dict[str, Json], Caller], Awaitable[str]]
"""Begins what a tool does, and gives the id of its task once that is durable."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool. `hints` are the annotations of the protocol (`readOnlyHint`, ...); `toolset` groups it with others.

    One with `start` becomes a task for clients that know tasks; one that `needs_task` is for them alone.
    """

    name: str
    description: str
    call: Call
    input_schema: dict[str, Json]
    output_schema: dict[str, Json] | None = None
    title: str = ""
    hints: Mapping[str, bool] = {}
    toolset: str = ""
    start: Start | None = None
    needs_task: bool = False

    @property
    def read_only(self) -> bool:
        """Whether it changes nothing."""
        return self.hints.get("readOnlyHint") is True


class Content(msgspec.Struct, frozen=True):
    """What a resource holds: text, or bytes."""

    media_type: str
    text: str | None = None
    data: bytes = b""


Read: TypeAlias = Callable[[dict[str, str], Caller], Awaitable[Content]]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource by its URI, or, with placeholders `{name}` in it, many; `read` gets their values."""

    uri: str
    name: str
    read: Read
    description: str = ""
    title: str = ""
    media_type: str = ""

    @property
    def is_template(self) -> bool:
        """Whether it stands for many."""
        return "{" in self.uri


class PromptArgument(msgspec.Struct, frozen=True):
    """An argument of a prompt."""

    name: str
    description: str = ""
    required: bool = True


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt; `render` gives its messages as role and text, or role and block of content."""

    name: str
    render: Callable[[dict[str, str], Caller], Awaitable[list[tuple[str, Json]]]]
    description: str = ""
    title: str = ""
    arguments: Sequence[PromptArgument] = ()


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """An Agent Skill: its files by their paths, `SKILL.md` among them, and the front matter of that."""

    name: str
    front: Mapping[str, Json]
    files: Mapping[str, bytes]


class Offering(msgspec.Struct, frozen=True, kw_only=True):
    """All that a server offers."""

    name: str
    version: str
    instructions: str = ""
    tools: Sequence[Tool] = ()
    resources: Sequence[Resource] = ()
    prompts: Sequence[Prompt] = ()
    tasks: Tasks | None = None
    skills: Sequence[Skill] = ()
    complete: Callable[[str, str], Awaitable[list[str]]] | None = None
    """Values of an argument, by its name, that begin with a text."""
    changes: Callable[[], Json] = lambda: None
    """What the list of tools depends on: what this gives is another when the list is."""
    ending: Callable[[], bool] = lambda: False
    """Whether the server is about to stop: streams end then."""
    ttl: int = 60_000
    """How long lists may be kept by those who ask for them (ms)."""


def chosen(offering: Offering, toolsets: frozenset[str], read_only: bool) -> Offering:
    """What is left of an offering: these toolsets alone (all, if there are none), and no changes if `read_only`."""
    tools = [
        each
        for each in offering.tools
        if (not toolsets or each.toolset in toolsets) and (each.read_only or not read_only)
    ]
    # Tasks can be cancelled: they are for those who may start some.
    tasks = offering.tasks if any(each.start for each in tools) else None
    return msgspec.structs.replace(offering, tools=tools, tasks=tasks)
