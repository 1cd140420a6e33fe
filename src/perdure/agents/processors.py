"""Processors: code that sees what goes into a run, and what comes out of it, and may change or stop it.

A processor is an object with any of the methods of `Processor`; what it has not is left out. They run in the order in
which the agent has them, inside the run's steps, so what they return is recorded.

Invariant: a processor that stops a run raises `Tripwire` (by `ctx.abort`), never anything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn, TypeAlias, TypeVar

from perdure.agents.chunks import Chunk
from perdure.agents.messages import Message, Part
from perdure.model.errors import NonRetriableError
from perdure.model.json import Json

T = TypeVar("T")
Later: TypeAlias = T | Awaitable[T | None] | None
"""What a processor gives: a value, None for no change, or either from a coroutine function."""

PHASES: Final = (
    "process_input",
    "process_input_step",
    "process_output_stream",
    "process_output_step",
    "process_output_result",
)


class Tripwire(NonRetriableError):
    """A processor stops the run; with `retry` the model is asked again, and told the reason."""

    def __init__(self, reason: str, processor_id: str, retry: bool = False, metadata: Json = None) -> None:
        self.reason = reason
        self.processor_id = processor_id
        self.retry = retry
        self.metadata = metadata
        super().__init__(reason)

    def to_json(self) -> dict[str, Json]:
        """As chunks and results tell it."""
        plain: dict[str, Json] = {"reason": self.reason, "processorId": self.processor_id}
        if self.retry:
            plain["retry"] = True
        if self.metadata is not None:
            plain["metadata"] = self.metadata
        return plain


class ProcessorContext:
    """What a processor is told of the run; `retries` counts how often it was asked again because of a tripwire."""

    def __init__(
        self, processor_id: str, run_id: str, step: int, request_context: dict[str, Json], retries: int
    ) -> None:
        self.processor_id = processor_id
        self.run_id = run_id
        self.step = step
        self.request_context = request_context
        self.retries = retries

    def abort(self, reason: str, *, retry: bool = False, metadata: Json = None) -> NoReturn:
        """Stops the run, or with `retry` (in `process_output_step`) asks the model again."""
        raise Tripwire(reason, self.processor_id, retry, metadata)


class Processor:
    """What a processor may do. Each method may be a plain one or a coroutine function; None changes nothing.

    >>> class NoCards(Processor):
    ...     def process_input(self, messages, ctx):
    ...         if any("4111" in message.text for message in messages):
    ...             ctx.abort("a card number was given")
    """

    id: str = ""

    def process_input(self, messages: list[Message], ctx: ProcessorContext) -> Later[list[Message]]:
        """The input of the run, once, before the first model call."""
        return None

    def process_input_step(self, messages: list[Message], ctx: ProcessorContext) -> Later[list[Message]]:
        """What the model is about to be told, before each call; the change is for this call only."""
        return None

    def process_output_stream(self, chunk: Chunk, ctx: ProcessorContext) -> Chunk | None:
        """A chunk of the model on its way to the reader; None lets it through, an empty one drops it."""
        return None

    def process_output_step(self, parts: list[Part], ctx: ProcessorContext) -> Later[list[Part]]:
        """What the model answered in one call, before tools are called."""
        return None

    def process_output_result(self, messages: list[Message], ctx: ProcessorContext) -> Later[list[Message]]:
        """The messages that the run has made, at its end."""
        return None


class Pipeline:
    """The processors of an agent, by phase: only those that have something to do in it."""

    def __init__(self, processors: Sequence[Json]) -> None:
        self._by_phase = {phase: [item for item in processors if _has(item, phase)] for phase in PHASES}

    def has(self, phase: str) -> bool:
        """Whether a processor does something in the phase."""
        return bool(self._by_phase[phase])

    async def run(self, phase: str, value: Json, context: Callable[[str], ProcessorContext]) -> Json:
        """The value after all processors of a phase. Raises `Tripwire`."""
        for item in self._by_phase[phase]:
            changed = getattr(item, phase)(value, context(_id_of(item)))
            if inspect.isawaitable(changed):
                changed = await changed
            if changed is not None:
                value = changed
        return value

    def say(self, said: Chunk, context: Callable[[str], ProcessorContext]) -> Chunk | None:
        """A chunk after `process_output_stream`, which is a plain method; None where it was dropped."""
        for item in self._by_phase["process_output_stream"]:
            changed: Chunk | None = item.process_output_stream(said, context(_id_of(item)))
            if changed is not None:
                said = changed
            if not said:
                return None
        return said


def _has(item: Json, phase: str) -> bool:
    method = getattr(type(item), phase, None) or getattr(item, phase, None)
    return method is not None and method is not getattr(Processor, phase)


def _id_of(item: Json) -> str:
    return getattr(item, "id", "") or type(item).__name__
