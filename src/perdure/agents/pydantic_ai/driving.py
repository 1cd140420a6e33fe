"""One run of a pydantic-ai agent inside of a perdure run: where its units are recorded, and which comes next.

Invariants: what is counted here is counted in the order in which units are asked for, and so is the same in a replay; a
run inside of a step (a sub-agent in a tool) is part of that step, and records nothing of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol
from weakref import WeakKeyDictionary

from perdure.agents.chunks import Chunk
from perdure.agents.journal import StepScope
from perdure.agents.models.call import Answer
from perdure.model.errors import PerdureError
from perdure.model.json import Json
from perdure.sdk.execution import Execution, attempt_here, current, streaming
from perdure.sdk.step import step
from perdure.sdk.stream import stream


class Recorder(Protocol):
    """What is needed of a journal (`perdure.agents.journal`) to record units."""

    @property
    def run_id(self) -> str:
        """The run's id, as in its chunks."""
        ...

    def now(self) -> int:
        """The time in ms."""
        ...

    def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
    ) -> Awaitable[Json]:
        """Does something once."""
        ...

    def push(self, said: Chunk) -> None:
        """Says a chunk on behalf of the step that executes."""
        ...

    async def drained(self) -> None:
        """Waits while readers are far behind."""
        ...


class HandlerRecorder:
    """Records in the function whose handler runs the agent: units are its steps, chunks go to its stream."""

    def __init__(self, execution: Execution[Json]) -> None:
        self.run_id = execution.context.run_id
        self._host = execution.host

    def now(self) -> int:
        return self._host.now()

    def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
    ) -> Awaitable[Json]:
        seconds = None if timeout is None else timeout / 1000

        async def attempt() -> Json:
            return await call(StepScope(id, attempt_here()))

        return step.with_(retries=retries, timeout=seconds).run(id, attempt)

    def push(self, said: Chunk) -> None:
        stream.push(said)

    async def drained(self) -> None:
        found = streaming()
        if found is not None and found[0].full:
            await found[0].drained()


class Driving:
    """The state of one run of an agent. `prefix` sets its ids apart from those of other runs in the same function."""

    def __init__(self, recorder: Recorder, prefix: str = "") -> None:
        self.recorder = recorder
        self.prefix = prefix
        self.said_before: Callable[[int], list[Chunk]] = lambda turn: []
        """What is said at the head of a model call, before the model speaks."""
        self.busy = False
        """Whether a run of an agent uses it now; one that begins meanwhile has one of its own."""
        self.answers: list[Answer] = []
        """What the model answered, in order, as it is recorded."""
        self._counts: Counter[str] = Counter()

    def step_id(self, name: str, call_id: str | None = None) -> tuple[str, int]:
        """The id of the next unit of a kind, and its number."""
        number = self._counts[name]
        self._counts[name] += 1
        return f"{self.prefix}{name}:{number if call_id is None else call_id}", number


driving: ContextVar[Driving | None] = ContextVar("perdure_pydantic_ai_driving", default=None)
"""The run that the code belongs to."""

_runs: WeakKeyDictionary[Execution[Json], int] = WeakKeyDictionary()


def execution_here() -> Execution[Json] | None:
    """The execution whose handler runs this code; None outside of runs, and inside of steps."""
    try:
        return current("llm")
    except PerdureError:
        return None


def next_run_id(execution: Execution[Json]) -> str:
    """The id of the next run of an agent in a function's run: the same in every replay."""
    count = _runs.get(execution, 0)
    _runs[execution] = count + 1
    run_id = execution.context.run_id
    return f"{run_id}:{count}" if count else run_id


@contextmanager
def drive(agent_name: str, run_id: str) -> Generator[Driving]:
    """For the length of one run of an agent: the `Driving` that a body has prepared for it, or one of its own."""
    found = driving.get()
    if found is not None and not found.busy:
        mine = found
    else:
        execution = current("llm")
        recorder = HandlerRecorder(execution) if found is None else found.recorder
        mine = Driving(recorder, "" if run_id == execution.context.run_id else f"{agent_name}@{_place(run_id)}/")
    token = driving.set(mine)
    mine.busy = True
    try:
        yield mine
    finally:
        mine.busy = False
        driving.reset(token)


def _place(run_id: str) -> str:
    """What tells a run apart: its number in the function's run, or the id that its caller gave it."""
    return run_id.rpartition(":")[2] or run_id
