"""What the server needs of a node, as a protocol: the node puts parts together, so it stands above the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from perdure.apps.endpoints import Endpoints
from perdure.apps.registry import Registry
from perdure.apps.workers import WorkerPool
from perdure.bus import Hub
from perdure.engine.catalogue import Catalogue
from perdure.engine.intake import Invoked
from perdure.engine.retention import Retention
from perdure.engine.turn import Decision, Turn
from perdure.engine.views import Health
from perdure.model.json import Json
from perdure.model.ops import Op
from perdure.model.records import Replay, RunStatus
from perdure.runner import Clock
from perdure.runner.streams import Streams
from perdure.sdk.app import App

P = ParamSpec("P")
T = TypeVar("T")


class Accepted(Protocol):
    """Events that were stored: their internal ids, in the order in which they came."""

    @property
    def event_ids(self) -> list[str]: ...


class Started(Protocol):
    """A run that was started."""

    @property
    def run_id(self) -> str: ...


class Backend(Protocol):
    """A running node, as far as the server knows it. Each method may raise `StoreError`."""

    @property
    def clock(self) -> Clock:
        """The time of the node."""
        ...

    @property
    def id(self) -> str:
        """What tells the node from others on its database; new with every start."""
        ...

    @property
    def has_bus(self) -> bool:
        """Whether its news travel over a bus that all nodes of the database hear."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """The functions in force."""
        ...

    @property
    def realtime(self) -> Hub:
        """Where messages are published and subscribed to."""
        ...

    @property
    def agents(self) -> Mapping[str, Json]:
        """The agents that the apps of the node offer, by id: `(agent, app)` each."""
        ...

    @property
    def apps(self) -> Sequence[App]:
        """The apps that the node runs."""
        ...

    @property
    def streams(self) -> Streams:
        """What runs say while they go on."""
        ...

    @property
    def load(self) -> tuple[int, int]:
        """How many runs execute, and how many are parked in memory."""
        ...

    def executing(self, run_id: str) -> Sequence[Op]:
        """The steps of a run that execute here at this moment, as far as that is known."""
        ...

    @property
    def changes(self) -> str:
        """How far the records have got: the same text as before means that nothing has changed."""
        ...

    @property
    def retention(self) -> Retention:
        """How long what has ended is kept."""
        ...

    @property
    def workers(self) -> WorkerPool:
        """The workers that are connected."""
        ...

    @property
    def registry(self) -> Registry:
        """The apps on other servers."""
        ...

    @property
    def environment_id(self) -> str:
        """The id of the environment that the node is."""
        ...

    async def ingest(self, bodies: Sequence[Json], *, seed: tuple[int, bytes] | None = None) -> Accepted:
        """Stores events, all or none. Raises `EventError`."""
        ...

    async def invoke(self, function_id: str, body: dict[str, Json]) -> Invoked:
        """Starts one function with an event without a name. Raises `EventError`, `NotFoundError`."""
        ...

    async def signal(self, name: str, data: object = None) -> str | None:
        """Sends a signal; returns the id of the run that waited for it, None when none did."""
        ...

    async def rerun(self, run_id: str, from_step: str | None = None, arguments: list[Json] | None = None) -> Started:
        """Starts a run once more. Raises `NotFoundError`, `RefusedError`."""
        ...

    async def skip_step(self, run_id: str, step: str, value: Json = None) -> str:
        """Gives a resting step a value. Raises `NotFoundError`, `RefusedError`."""
        ...

    async def wake_step(self, run_id: str, step: str) -> str:
        """Ends what a step waits for. Raises `NotFoundError`, `RefusedError`."""
        ...

    async def pause_function(self, function: str) -> None:
        """Pauses a function. Raises `NotFoundError`."""
        ...

    async def resume_function(self, function: str) -> None:
        """Ends the pause of a function. Raises `NotFoundError`."""
        ...

    async def cancel(self, run_id: str) -> RunStatus:
        """Cancels a run; returns the status it had. Raises `NotFoundError`."""
        ...

    async def cancel_many(
        self,
        function_id: str,
        *,
        started_after: int | None = None,
        started_before: int | None = None,
        if_: str | None = None,
    ) -> int:
        """Cancels runs of a function; returns how many. Raises `ExpressionError`."""
        ...

    async def replay(
        self,
        function: str,
        *,
        id: str | None = None,
        statuses: Sequence[RunStatus] = (RunStatus.FAILED,),
        queued_from: int | None = None,
        queued_until: int | None = None,
    ) -> Replay:
        """Starts ended runs of a function once more. Raises `NotFoundError`, `RefusedError`."""
        ...

    async def decide(self, make: Callable[Concatenate[Turn, P], Decision[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Makes a decision of the engine durable."""
        ...

    @property
    def endpoints(self) -> Endpoints:
        """Requests that become runs."""
        ...

    def secret(self, purpose: str) -> bytes:
        """What this installation signs tokens of a kind with."""
        ...

    async def checkpoint(self, run_id: str, body: bytes) -> None:
        """Records what an app has finished of a run that it is still answering for. Raises `MalformedOpsError`,
        `FatalOpError`, `UnknownRunError`, `StaleCallError`."""
        ...

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        """Answers a question of `perdure.engine.views` or `reads`."""
        ...

    async def health(self) -> Health:
        """Counts, and what should not be there."""
        ...
