"""What carries out an agent's durable runs: the port `Engine`, and the engine of this process.

An engine starts runs, shows what stands in their logs, tells them decisions, and cancels them. The engine of this
process is a node; it is known here only by the operations that are used (`LocalNode`), so that this room stays beside
the runner.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import msgspec

from perdure.agents.errors import ConflictError
from perdure.agents.storage import AgentRun, AgentStorage, Approval
from perdure.agents.storage.shapes import run_of, run_row
from perdure.engine import reads, streams
from perdure.engine.agents import beginning, compaction
from perdure.engine.agents.approvals import ApprovalDecision, decide_and_tell
from perdure.engine.turn import Decision, Turn
from perdure.model.errors import NotFoundError, PerdureError, RefusedError
from perdure.model.event import FUNCTION_INVOKED, Event, StoredEvent, parse_event
from perdure.model.json import Json
from perdure.model.records import JobState, RunStatus
from perdure.model.streams import StreamEvent
from perdure.sdk.app import App
from perdure.sdk.function import Function
from perdure.store.protocol import Store

P = ParamSpec("P")
T = TypeVar("T")


class Standing(msgspec.Struct):
    """Where a run stands: its status, and its output (JSON) once it is over."""

    status: RunStatus
    output: bytes = b"null"


class LogReader(Protocol):
    """Follows the log of one run."""

    async def next(self) -> list[StreamEvent]:
        """The next events; none when there will be none, or the engine stops."""
        ...


class Engine(Protocol):
    """Carries out runs. Every method may raise `StoreError`, or `ServerUnreachableError` for one elsewhere."""

    @property
    def storage(self) -> AgentStorage:
        """Where agents keep what they know."""
        ...

    def now(self) -> int:
        """The time in ms."""
        ...

    async def begin(self, run: AgentRun, function: Function[Json], data: dict[str, Json]) -> tuple[AgentRun, bool]:
        """Starts a run, and whether it is new: the same id with the same input is the same run.

        Raises `ConflictError` for an id that was used with another input, `RefusedError` when flow control starts no
        run now, and `PerdureError` when nothing runs the function.
        """
        ...

    async def decide(self, run_id: str, place: str, decision: ApprovalDecision) -> Approval:
        """Decides a question and tells the run. Raises as `AgentStorage.decide_approval`."""
        ...

    def following(self, run_id: str, after: int, *, everything: bool = False) -> AbstractAsyncContextManager[LogReader]:
        """A reader of the log of a run after an offset. `everything`: with what was taken back long ago."""
        ...

    async def standing(self, run_id: str) -> Standing:
        """Where a run stands. Raises `NotFoundError`."""
        ...

    async def last_offset(self, run_id: str) -> int:
        """The end of a run's log as it stands."""
        ...

    async def waits(self, run_id: str, step_id: str) -> bool:
        """Whether a run is known to wait in a step (by its hash)."""
        ...

    async def resting(self, run_id: str) -> bool:
        """Whether everything in a run waits."""
        ...

    async def send(self, event: dict[str, Json]) -> None:
        """Sends an event; one with the id of an earlier one changes nothing."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Cancels a run; one that has ended stays as it is. Raises `NotFoundError`."""
        ...

    async def given(self, run_id: str) -> Json:
        """The data of the event with which a run began. Raises `NotFoundError`."""
        ...

    async def compact(self, run_id: str) -> int:
        """Puts the deltas in the log of a run that is over together; how many events are gone."""
        ...


class LocalStreams(Protocol):
    """The streams of a node's runs."""

    def following(self, run_id: str, after: int = 0, *, everything: bool = False) -> AbstractContextManager[LogReader]:
        """A reader of what was said after an offset."""
        ...


class LocalClock(Protocol):
    """The time of a node."""

    def now(self) -> int: ...


class LocalIds(Protocol):
    """Makes the ids of a node."""

    @property
    def ids(self) -> Callable[[], str]: ...


class LocalNode(Protocol):
    """What the engine of this process must offer. `perdure.Node` does."""

    store: Store

    @property
    def clock(self) -> LocalClock: ...

    @property
    def streams(self) -> LocalStreams: ...

    async def decide(
        self, make: Callable[Concatenate[Turn, P], Decision[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def view(self, begin: Callable[[], Decision[T]]) -> T: ...

    async def ingest(self, bodies: list[Json]) -> object: ...

    async def cancel(self, run_id: str) -> RunStatus: ...

    @property
    def decider(self) -> LocalIds: ...


class LocalEngine:
    """The engine of this process. Made by `local_engine`."""

    def __init__(self, node: LocalNode) -> None:
        self.node = node
        self.storage = AgentStorage(node.store, now=node.clock.now, ids=node.decider.ids)

    def now(self) -> int:
        return self.node.clock.now()

    async def begin(self, run: AgentRun, function: Function[Json], data: dict[str, Json]) -> tuple[AgentRun, bool]:
        now, internal_id = self.now(), self.node.decider.ids()
        body = {"name": "invoked", "data": data, "id": f"agent:{run.agent_id}:{run.run_id}"}
        event = parse_event(body, now=now, internal_id=internal_id).event
        event.name = FUNCTION_INVOKED
        row = run_row(msgspec.structs.replace(run, created_at=now, updated_at=now))
        stored = StoredEvent(internal_id, event, now, internal=True)
        begun = await self.node.decide(beginning.begin, row, function.id, stored)
        if isinstance(begun, beginning.Begun):
            self.storage.tell(run.thread_id and f"thread:{run.thread_id}", f"run:{run.run_id}")
            return run_of(begun.run), begun.created
        if begun is None:
            raise NotFoundError(f"function {function.id} is not registered with the engine that runs its app")
        if isinstance(begun, str):
            raise ConflictError(f"the run id {run.run_id!r} was used before, with another input or agent")
        raise RefusedError(begun.reason, begun.message)

    async def decide(self, run_id: str, place: str, decision: ApprovalDecision) -> Approval:
        outcome = await self.node.decide(decide_and_tell, run_id, place, decision)
        return self.storage.approval_outcome(run_id, place, outcome)

    @asynccontextmanager
    async def following(self, run_id: str, after: int, *, everything: bool = False) -> AsyncGenerator[LogReader]:
        with self.node.streams.following(run_id, after, everything=everything) as reader:
            yield reader

    async def standing(self, run_id: str) -> Standing:
        found = await self.node.view(partial(streams.overview, run_id))
        if found is None:
            raise NotFoundError(f"there is no run {run_id}")
        return Standing(RunStatus(found.status), found.output)

    async def last_offset(self, run_id: str) -> int:
        return (await self.node.view(partial(streams.standing_of, run_id))).last

    async def waits(self, run_id: str, step_id: str) -> bool:
        return await self.node.view(partial(reads.step_by_id, run_id, step_id)) is not None

    async def resting(self, run_id: str) -> bool:
        job = await self.node.view(partial(reads.job_by_id, run_id))
        return job is not None and job.state == JobState.PARKED

    async def send(self, event: dict[str, Json]) -> None:
        await self.node.ingest([event])

    async def cancel(self, run_id: str) -> None:
        await self.node.cancel(run_id)

    async def given(self, run_id: str) -> Json:
        def event() -> Decision[Event | None]:
            run = yield from reads.run_by_id(run_id)
            return None if run is None else (yield from reads.run_events(run))[0]

        found = await self.node.view(event)
        if found is None:
            raise NotFoundError(f"there is no run {run_id}")
        return found.data

    async def compact(self, run_id: str) -> int:
        # Made where it holds up nobody: what is over does not change.
        made = await self.node.view(partial(compaction.read, run_id))
        return 0 if made is None else await self.storage.store.submit(partial(compaction.write, run_id, made))


def local_engine(app: App, known: Engine | None = None) -> LocalEngine | None:
    """The engine of this process that runs an app, None while none does; `known` if it is still that one.

    Raises `PerdureError` in a foreign event loop.
    """
    found: Json = app.engine
    if found is None or not hasattr(found, "streams"):
        return None
    if app.engine_loop is not asyncio.get_running_loop():
        raise PerdureError(
            f"app {app.id!r} is run by an engine in another event loop: call its agents from that one "
            "(asyncio.run_coroutine_threadsafe)"
        )
    node: LocalNode = found
    return known if isinstance(known, LocalEngine) and known.node is node else LocalEngine(node)
