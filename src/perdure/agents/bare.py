"""Runs of this process: the loop without an engine, for `Agent.generate` and `Agent.stream`.

The journal carries things out and forgets them; what is said stands in a log in memory, which any number of readers
follow. A run that waits for a person waits as long as its process lives. What should live longer is a durable run.

Invariants: a run always ends with `finish`, however it ends; a failed attempt's chunks are taken back by
`step-rollback` in the log, as in a durable run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Final

from perdure.agents import said
from perdure.agents.chunks import Chunk, chunk
from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.fold import Fold
from perdure.agents.journal import Decision, Delegation, Question, StepScope, shown_ids
from perdure.agents.messages import Usage
from perdure.agents.questions import Lanes
from perdure.agents.starting import Start
from perdure.agents.state import RunResult
from perdure.model.errors import NonRetriableError, RetryAfterError, StepError, describe
from perdure.model.event import Event
from perdure.model.json import Json
from perdure.sdk.context import Context
from perdure.sdk.function import Function

Sleep = Callable[[float], Awaitable[None]]
_SEGMENT_ENDS: Final = frozenset({"finish", "suspended", "network-execution-event-finish"})
_MAX_BACKOFF: Final = 10.0


class ChunkLog:
    """What a run has said, in order, and who waits for more. Chunks may come from threads."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()

    def append(self, item: Chunk) -> None:
        """Adds a chunk, and gives it its index."""
        item.index = len(self.chunks)
        self.chunks.append(item)
        self._tell()

    def close(self) -> None:
        """Nothing more will come."""
        self.closed = True
        self._tell()

    async def follow(self, start: int = 0) -> AsyncGenerator[Chunk]:
        """The chunks from `start` to the end of the segment: `finish`, or `suspended`."""
        place = start
        while True:
            while place < len(self.chunks):
                item = self.chunks[place]
                place += 1
                yield item
                if item.type in _SEGMENT_ENDS and not item.payload.get("backgroundTaskPending"):
                    return
            if self.closed:
                return
            self._more.clear()
            if place == len(self.chunks) and not self.closed:
                await self._more.wait()

    def _tell(self) -> None:
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._more.set()
        else:
            self._loop.call_soon_threadsafe(self._more.set)


class BareJournal:
    """Carries out steps in this process. `delegate` runs sub-agents, `sleep` waits for seconds."""

    def __init__(
        self,
        run_id: str,
        log: ChunkLog,
        now: Callable[[], int],
        *,
        delegate: Callable[[BareJournal, Delegation], Awaitable[Json]],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.run_id = run_id
        self.log = log
        self.now = now
        self.lanes = Lanes(run_id, self.push)
        self.questions: dict[str, tuple[Question, asyncio.Future[Decision | None]]] = {}
        self._delegate = delegate
        self._sleep = sleep

    async def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
        once: bool = False,
    ) -> Json:
        attempt = 0
        while True:
            start = len(self.log.chunks)
            try:
                async with asyncio.timeout(None if timeout is None else timeout / 1000):
                    return await call(StepScope(id, attempt))
            except Exception as error:
                # A step is the user's code, and may fail in any way.
                if len(self.log.chunks) > start:
                    self.push(chunk("step-rollback", self.run_id, stepId=id, fromIndex=start, attempt=attempt))
                if attempt >= (retries or 0) or isinstance(error, NonRetriableError):
                    raise StepError(id, describe(error)) from error
                await self._sleep(_pause(error, attempt, self.now()))
            attempt += 1

    def push(self, said: Chunk) -> None:
        self.log.append(said)

    async def drained(self) -> None:
        # Everything is kept in memory; giving way lets readers in between two chunks.
        await asyncio.sleep(0)

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        waiting: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        place = question.place
        self.questions[place] = (question, waiting)
        self.push(await announce())
        self.lanes.waits(question)
        try:
            async with asyncio.timeout(None if question.timeout is None else question.timeout / 1000):
                return await waiting
        except TimeoutError:
            return None
        finally:
            self.questions.pop(place, None)
            self.lanes.goes_on(question)

    async def open_questions(self) -> dict[str, Question]:
        return {place: question for place, (question, waiting) in self.questions.items() if not waiting.done()}

    def decide(self, question: Question, decision: Decision) -> None:
        """Answers a question. Raises `ConflictError` where it is answered."""
        found = self.questions.get(question.place)
        if found is None or found[1].done():
            raise ConflictError(f"the question about the tool call {question.tool_call_id!r} is answered already")
        found[1].set_result(decision)

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        event = Event(name="perdure/agent.invoked", data=data)
        context = Context(event, [event], f"{self.run_id}.{id}", function.id, 0, 1, _Heard())
        try:
            if function.is_async:
                return await _awaited(function.handler(context))
            return await asyncio.to_thread(function.handler, context)
        except Exception as error:
            # A workflow is the user's code, and may fail in any way; with steps, it needs an engine.
            raise StepError(id, describe(error)) from error

    async def delegate(self, delegation: Delegation) -> Json:
        return await self._delegate(self, delegation)


class BareRun:
    """One run of this process: its task, its log and its questions."""

    def __init__(
        self,
        journal: BareJournal,
        loop: Callable[[], Coroutine[Json, Json, RunResult]],
        start: Start | None = None,
        aborted: Callable[[list[Chunk]], Awaitable[None]] | None = None,
    ) -> None:
        self.run_id = journal.run_id
        self._aborted = aborted
        self.start = start
        self.log = journal.log
        self.journal = journal
        self.result: RunResult | None = None
        self._task = asyncio.ensure_future(self._drive(loop))

    @property
    def open_questions(self) -> list[Question]:
        """What the run waits for."""
        return [question for question, waiting in self.journal.questions.values() if not waiting.done()]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.log.closed

    def resume(self, tool_call_id: str | None, decide: Callable[[Question], Decision]) -> AsyncGenerator[Chunk]:
        """Answers the question about this call, or the only one; what the run says from then on.

        Raises `GoneError` where the run is over, `ConflictError` and `RunNotFoundError`.
        """
        if self.over:
            raise GoneError(f"run {self.run_id} is over")
        asked = [item for item in self.open_questions if tool_call_id in (None, item.tool_call_id, item.place)]
        asked = [item for item in asked if item.place == tool_call_id] or asked
        if not asked:
            what = "" if tool_call_id is None else f" about the tool call {tool_call_id!r}"
            raise RunNotFoundError(f"run {self.run_id} asks nothing{what}")
        if len(asked) > 1:
            ids = ", ".join(shown_ids(item.place for item in asked).values())
            raise ConflictError(f"run {self.run_id} waits for {len(asked)} decisions; name the tool call: {ids}")
        start = len(self.log.chunks)
        self.journal.decide(asked[0], decide(asked[0]))
        return self.log.follow(start)

    async def abort(self) -> bool:
        """Ends the run; whether there was something to end."""
        if self.over:
            return False
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._aborted is not None and self.result is None:
            await self._aborted(self.log.chunks)
        return True

    async def _drive(self, loop: Callable[[], Coroutine[Json, Json, RunResult]]) -> None:
        try:
            self.result = await loop()
        except asyncio.CancelledError:
            for item in abort_chunks(self.run_id, self.log.chunks):
                self.log.append(item)
        except Exception as error:
            # A defect: readers must not hang because of it.
            self.log.append(said.error(self.run_id, said.told_error(error)))
            self.log.append(_finish(self.run_id, "error", Usage(), ""))
        finally:
            self.log.close()


class EarlierRuns:
    """The other runs of a thread in this process."""

    def __init__(self, runs: Callable[[], Iterable[BareRun]], run_id: str, thread_id: str) -> None:
        self._runs = runs
        self._run_id = run_id
        self._thread_id = thread_id

    async def answered(self, tool_name: str, args: Json) -> None:
        """Closes what a tool had asked; a run that waits for nothing else is ended."""
        asked = [
            (question.args == args, run, question)
            for run in self._runs()
            if run.run_id != self._run_id and run.start is not None and run.start.request.thread_id == self._thread_id
            for question in run.open_questions
            if (question.kind, question.tool_name) == ("suspension", tool_name)
        ]
        for _, run, question in sorted(asked, key=lambda item: item[0])[-1:]:
            if len(run.open_questions) > 1:
                run.journal.decide(question, Decision(False, "Answered in a later message"))
            else:
                await run.abort()


def abort_chunks(run_id: str, chunks: list[Chunk]) -> list[Chunk]:
    """The end of a run that is aborted, with the tokens that are known by what it has said."""
    fold = Fold()
    for item in chunks:
        fold.take(item)
    usage = sum((step.usage for step in fold.steps), Usage())
    return [chunk("abort", run_id), _finish(run_id, "abort", usage, fold.text)]


def _finish(run_id: str, reason: str, usage: Usage, text: str) -> Chunk:
    return said.finish(run_id, f"{run_id}-end", reason=reason, text=text, usage=usage, cost=None, steps=0)


def _pause(error: Exception, attempt: int, now: int) -> float:
    if isinstance(error, RetryAfterError):
        return max(error.millis(now), 0) / 1000
    return min(float(2**attempt), _MAX_BACKOFF)


async def _awaited(found: Json) -> Json:
    return await found


class _Heard:
    """Of a handler that is called once, and never replayed."""

    def silent(self) -> bool:
        return False
