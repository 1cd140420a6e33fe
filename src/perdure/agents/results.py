"""What a caller of a run holds: its chunks as they come, and what they add up to.

`RunOutput` is made over any async iterator of chunks that ends with its segment: of a run in this process, or of the
log of a durable one. It reads as far ahead as somebody wants, so several may iterate and await at once.

Invariants: the source is read once, whoever asks; a callback is called once for each event; whoever awaits a property
is told of everything that stands, and of nothing that was taken back.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Final, Generic, TypeVar

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.fold import Fold, StepFold
from perdure.agents.messages import FilePart, Message, ReasoningPart, SourcePart, Usage
from perdure.agents.options import Callback, Callbacks
from perdure.agents.schemas import Shape
from perdure.model.json import Json

T = TypeVar("T")
_NO_OBJECT: Final = object()
"""What no object is equal to."""
_AHEAD: Final = 64
_ALL: Final = 1 << 62


class RunStep(msgspec.Struct):
    """One step of a run: a model call and the tools that it called."""

    number: int
    text: str
    reasoning_text: str
    finish_reason: str | None
    usage: Usage
    tool_calls: list[Chunk]
    tool_results: list[Chunk]
    message: Message


class Result(msgspec.Struct):
    """A run, or a segment of one, that has been read to its end.

    `finish_reason` is `stop`, `length`, `tool-calls` (the caller's tools), `max-steps`, `content-filter`, `error`,
    `tripwire`, `abort`, `suspended` or `other`. `text` is the last step's. `cost` is in USD, None where no price is
    known. `suspend_payload` is the first of the open questions, which are in `questions`. `scores` are what the agent's
    scorers gave: `{scorer, score, reason}`, or `{scorer, error}`.
    """

    run_id: str
    text: str
    finish_reason: str
    usage: Usage
    steps: list[RunStep]
    object: Json = None
    used_fallback: bool = False
    cost: float | None = None
    reasoning_text: str = ""
    tool_calls: list[Chunk] = []
    tool_results: list[Chunk] = []
    sources: list[dict[str, Json]] = []
    files: list[FilePart] = []
    messages: list[Message] = []
    warnings: list[Json] = []
    error: dict[str, Json] | None = None
    tripwire: dict[str, Json] | None = None
    suspend_payload: dict[str, Json] | None = None
    questions: list[dict[str, Json]] = []
    scores: list[dict[str, Json]] = []
    thread_id: str | None = None
    resource_id: str | None = None


class Later(Generic[T]):
    """Something of a run that is known once it has been read: awaited, as often as wanted."""

    def __init__(self, make: Callable[[], Coroutine[Json, Json, T]]) -> None:
        self._make = make

    def __await__(self) -> Generator[Json, Json, T]:
        return self._make().__await__()


class RunOutput:
    """What a run says, and what it comes to.

    >>> async def show(run: AgentRun) -> int:
    ...     async for piece in run.output.text_stream:
    ...         print(piece, end="")
    ...     return (await run.output.usage).total_tokens
    """

    def __init__(
        self,
        chunks: AsyncIterator[Chunk],
        *,
        run_id: str,
        thread_id: str | None = None,
        resource_id: str | None = None,
        callbacks: Callbacks | None = None,
        shape: Shape | None = None,
        before: Iterable[Chunk] = (),
    ) -> None:
        self.run_id = run_id
        self.thread_id = thread_id
        self.resource_id = resource_id
        self._source = chunks
        self._callbacks = callbacks or Callbacks()
        self._shape = shape
        self._chunks: list[Chunk] = []
        self._fold = Fold()
        self.before = list(before)
        """What earlier segments of the run had said."""
        for item in self.before:
            # What an earlier segment said counts, but nobody hears of it again.
            self._fold.take(item)
        self._wanted = 0
        self._over = False
        self._failure: BaseException | None = None
        self._more = asyncio.Event()
        self._wish = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        if self._callbacks.any():
            # Callbacks are called as the run goes on, whether anybody reads or not.
            self._want(_ALL)

    @property
    def full_stream(self) -> AsyncGenerator[Chunk]:
        """All chunks, from the first that this reader was given."""
        return self._iterate()

    @property
    def text_stream(self) -> AsyncGenerator[str]:
        """The pieces of text as they come. What a failed attempt had said is not taken back here."""
        return self._texts()

    @property
    def object_stream(self) -> AsyncGenerator[Json]:
        """The object as it grows."""
        return self._objects()

    def result(self) -> Later[Result]:
        """Everything, at the end."""
        return Later(self._result)

    @property
    def text(self) -> Later[str]:
        """The text of the last step."""
        return self._later(lambda result: result.text)

    @property
    def object(self) -> Later[Json]:
        """The object, where structured output was asked for; of the type that was given, if one was."""
        return self._later(lambda result: result.object)

    @property
    def usage(self) -> Later[Usage]:
        """Tokens of all steps."""
        return self._later(lambda result: result.usage)

    @property
    def cost(self) -> Later[float | None]:
        """USD of all steps."""
        return self._later(lambda result: result.cost)

    @property
    def finish_reason(self) -> Later[str]:
        """Why it ended."""
        return self._later(lambda result: result.finish_reason)

    @property
    def reasoning_text(self) -> Later[str]:
        """What the model thought."""
        return self._later(lambda result: result.reasoning_text)

    @property
    def tool_calls(self) -> Later[list[Chunk]]:
        """The `tool-call` chunks of all steps."""
        return self._later(lambda result: result.tool_calls)

    @property
    def tool_results(self) -> Later[list[Chunk]]:
        """The `tool-result` chunks of all steps."""
        return self._later(lambda result: result.tool_results)

    @property
    def steps(self) -> Later[list[RunStep]]:
        """The steps."""
        return self._later(lambda result: result.steps)

    @property
    def messages(self) -> Later[list[Message]]:
        """The messages that the run has made."""
        return self._later(lambda result: result.messages)

    @property
    def suspend_payload(self) -> Later[dict[str, Json] | None]:
        """The first open question, where the run is suspended."""
        return self._later(lambda result: result.suspend_payload)

    @property
    def error(self) -> Later[dict[str, Json] | None]:
        """What failed: `{name, message, code}`."""
        return self._later(lambda result: result.error)

    @property
    def tripwire(self) -> Later[dict[str, Json] | None]:
        """Which processor stopped the run, and why."""
        return self._later(lambda result: result.tripwire)

    async def close(self) -> None:
        """Lets go of the source. The run goes on, and so do other readers; what was read so far is kept."""
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait([self._pump])
        await _closed(self._source)
        self._over = True
        self._more.set()

    def _later(self, pick: Callable[[Result], T]) -> Later[T]:
        async def make() -> T:
            return pick(await self._result())

        return Later(make)

    async def _iterate(self) -> AsyncGenerator[Chunk]:
        place = 0
        while await self._has(place):
            yield self._chunks[place]
            place += 1

    async def _texts(self) -> AsyncGenerator[str]:
        async for item in self._iterate():
            if item.type == "text-delta":
                yield item.payload["text"]

    async def _objects(self) -> AsyncGenerator[Json]:
        last: Json = _NO_OBJECT
        async for item in self._iterate():
            if item.type in ("object", "object-result") and item["object"] != last:
                last = item["object"]
                yield last

    async def _has(self, place: int) -> bool:
        """Whether there is a chunk at a place, waiting for it."""
        while place >= len(self._chunks):
            if self._over:
                if self._failure is not None:
                    raise self._failure
                return False
            self._want(place + _AHEAD)
            self._more.clear()
            await self._more.wait()
        return True

    async def _result(self) -> Result:
        self._want(_ALL)
        while not self._over:
            self._more.clear()
            await self._more.wait()
        if self._failure is not None:
            raise self._failure
        return result_of(self._fold, self.run_id, self.thread_id, self.resource_id, self._shape)

    def _want(self, count: int) -> None:
        self._wanted = max(self._wanted, count)
        self._wish.set()
        if self._pump is None and not self._over:
            # In a task of its own: whoever stops waiting must not tear down what others read.
            self._pump = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            async for item in self._source:
                self._fold.take(item)
                self._chunks.append(item)
                await self._call_back(item)
                self._more.set()
                while len(self._chunks) >= self._wanted:
                    self._wish.clear()
                    await self._wish.wait()
            await self._call_at_end()
        except Exception as error:
            # Whoever reads is told; nobody awaits this task.
            self._failure = error
        finally:
            self._over = True
            self._more.set()

    async def _call_back(self, item: Chunk) -> None:
        callbacks = self._callbacks
        await _call(callbacks.on_chunk, item)
        if item.type == "step-finish" and callbacks.on_step_finish is not None:
            await _call(callbacks.on_step_finish, _step(self._fold.step, self.run_id))
        elif item.type == "error":
            await _call(callbacks.on_error, item.payload.get("error"))
        elif item.type == "suspended":
            await _call(callbacks.on_suspended, item.payload)

    async def _call_at_end(self) -> None:
        callbacks, reason = self._callbacks, self._fold.finish_reason
        wanted = {"abort": callbacks.on_abort, "suspended": None, "error": None}.get(reason or "", callbacks.on_finish)
        if wanted is not None:
            await _call(wanted, result_of(self._fold, self.run_id, self.thread_id, self.resource_id, self._shape))


class AgentRun:
    """A run as `stream` gives it. `cleanup` and `close` let go of this reader only; `abort` ends the run."""

    def __init__(self, output: RunOutput, abort: Callable[[], Awaitable[bool]]) -> None:
        self.output = output
        self.run_id = output.run_id
        self.thread_id = output.thread_id
        self.resource_id = output.resource_id
        self._abort = abort

    @property
    def full_stream(self) -> AsyncGenerator[Chunk]:
        """All chunks."""
        return self.output.full_stream

    async def abort(self) -> bool:
        """Ends the run; whether there was something to end."""
        return await self._abort()

    async def close(self) -> None:
        """Lets go of this reader."""
        await self.output.close()

    cleanup = close


def result_of(
    fold: Fold, run_id: str, thread_id: str | None, resource_id: str | None, shape: Shape | None = None
) -> Result:
    """What chunks add up to."""
    steps = [_step(step, run_id) for step in fold.steps]
    parts = [part for step in steps for part in step.message.parts]
    suspended = fold.finish_reason == "suspended"
    questions = [question.payload for question in fold.open_questions.values()] if suspended else []
    usage = fold.usage if fold.ended else sum((step.usage for step in steps), Usage())
    found = fold.object
    return Result(
        run_id=run_id,
        text=fold.text,
        finish_reason=fold.finish_reason or "other",
        usage=usage,
        steps=steps,
        object=shape.read(found) if shape is not None and found is not None else found,
        used_fallback=fold.used_fallback,
        cost=fold.cost,
        reasoning_text="".join(part.text for part in parts if isinstance(part, ReasoningPart)),
        tool_calls=[item for step in steps for item in step.tool_calls],
        tool_results=[item for step in steps for item in step.tool_results],
        sources=[part.source for part in parts if isinstance(part, SourcePart)],
        files=[part for part in parts if isinstance(part, FilePart)],
        messages=fold.messages(run_id),
        warnings=[*fold.warnings, *(warning for step in fold.steps for warning in step.warnings)],
        error=fold.error,
        tripwire=fold.tripwire,
        suspend_payload=questions[0] if questions else None,
        questions=questions,
        scores=fold.scores,
        thread_id=thread_id,
        resource_id=resource_id,
    )


def _step(step: StepFold, run_id: str) -> RunStep:
    return RunStep(
        step.number,
        step.text,
        step.reasoning_text,
        step.finish_reason,
        step.usage,
        list(step.tool_calls),
        list(step.tool_results),
        step.message(run_id),
    )


async def _call(callback: Callback | None, value: Json) -> None:
    if callback is not None:
        found = callback(value)
        if inspect.isawaitable(found):
            await found


async def _closed(source: AsyncIterator[Chunk]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
