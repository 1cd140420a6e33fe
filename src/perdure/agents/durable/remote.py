"""The engine that is a server: the app's functions are served to it, and what agents know is in a store of the app's.

It speaks to the server as any client does: events in, the status of runs, and the log of a run as an event stream.
What runs say comes to that log from the served functions. Invariants:
- a decision is in the store before the server is told of it, and told again where that is not sure;
- a stream that breaks off is asked for again, from the last event that came in.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import aiohttp

from perdure.agents.durable.engines import LogReader, Standing
from perdure.agents.errors import ConflictError
from perdure.agents.storage import AgentRun, AgentStorage, Approval
from perdure.client.client import Client
from perdure.client.errors import ApiError, ServerUnreachableError, reason_of
from perdure.client.sse import SseParser
from perdure.engine.agents.approvals import ApprovalDecision, approval_by_id, decided_event
from perdure.model.config import EventTrigger
from perdure.model.errors import NotFoundError, PerdureError
from perdure.model.ids import UlidFactory
from perdure.model.json import Json, encode
from perdure.model.keys import NO_EVENT_KEY
from perdure.model.records import RunStatus
from perdure.model.streams import StreamEvent
from perdure.sdk.function import Function
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore
from perdure.wire.realtime import STREAM_TOPIC
from perdure.wire.streams import entry_of

_log = logging.getLogger("perdure.agents")

_STATUSES: Final = {
    "queued": RunStatus.QUEUED,
    "scheduled": RunStatus.QUEUED,
    "running": RunStatus.RUNNING,
    "completed": RunStatus.COMPLETED,
    "failed": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
    "skipped": RunStatus.SKIPPED,
}
_PAUSES: Final = (0.0, 0.05, 0.2, 0.5, 1.0, 1.5, 2.0)
"""How long (seconds) to wait between looks for a run that an event must have started."""
_AT_REST: Final = 0.25
_PAUSE: Final = 0.5
_TRIES: Final = 20
_CLOSED: Final = "the remote engine is not open: use `async with remote_engine(...)` for the app's life"
_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


class RemoteEngine:
    """A server as the engine of agents. Use: `async with remote_engine(...) as engine:`, for the life of the app."""

    def __init__(self, client: Client, store: Store, *, owns_store: bool) -> None:
        self._made_client = client
        self._store = store
        self._owns_store = owns_store
        self._session: aiohttp.ClientSession | None = None
        self._stack: AsyncExitStack | None = None
        self._storage: AgentStorage | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._owns_store:
                await self._store.open()
                stack.push_async_callback(self._store.close)
            await stack.enter_async_context(self._made_client)
            self._session = await stack.enter_async_context(aiohttp.ClientSession(timeout=_LIMITS))
            self._stack = stack.pop_all()
        self._storage = AgentStorage(self._store, now=self.now, ids=UlidFactory(self.now, os.urandom))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack, self._storage, self._session = self._stack, None, None, None
        if stack is not None:
            await stack.aclose()

    @property
    def storage(self) -> AgentStorage:
        if self._storage is None:
            raise PerdureError(_CLOSED)
        return self._storage

    @property
    def _client(self) -> Client:
        if self._session is None:
            raise PerdureError(_CLOSED)
        return self._made_client

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    async def begin(self, run: AgentRun, function: Function[Json], data: dict[str, Json]) -> tuple[AgentRun, bool]:
        known, created = await self.storage.put_run(run)
        if known.engine_run_id is not None:
            return known, created
        event = {"name": _trigger_of(function), "id": f"agent:{run.agent_id}:{run.run_id}", "data": data}
        sent = await self._client.send(event)
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            started = await self._client.runs_of_event(sent[0])
            if started:
                return await self.storage.bind_run(run.run_id, started[0]), created
            # An event that was sent before starts nothing; the run itself has told its id.
            bound = await self.storage.run(run.run_id)
            if bound is not None and bound.engine_run_id is not None:
                return bound, created
        raise PerdureError(
            f"the server at {self._client.base_url} started no run of {function.id}: serve the app "
            "(perdure.serve) and let the server sync it (`perdure dev -u URL`); then call again with the same run_id"
        )

    async def decide(self, run_id: str, place: str, decision: ApprovalDecision) -> Approval:
        try:
            decided = await self.storage.decide_approval(run_id, place, decision)
        except ConflictError:
            # Whoever decided may not have come to tell it; told twice it counts once.
            await self._tell(run_id, place)
            raise
        await self._tell(run_id, place)
        return decided

    async def _tell(self, run_id: str, place: str) -> None:
        row = await self.storage.store.view(partial(approval_by_id, run_id, place))
        if row is not None and row.status in ("approved", "declined"):
            await self.send(decided_event(row))

    @asynccontextmanager
    async def following(self, run_id: str, after: int, *, everything: bool = False) -> AsyncGenerator[LogReader]:
        if self._session is None:
            raise PerdureError(_CLOSED)
        reader = _SseReader(self._client, self._session, run_id, after)
        try:
            yield reader
        finally:
            reader.close()

    async def standing(self, run_id: str) -> Standing:
        try:
            answer = await self._client.call("GET", f"/v1/runs/{quote(run_id, safe='')}")
        except ApiError as error:
            if error.status == 404:
                raise NotFoundError(f"there is no run {run_id}") from error
            raise
        found = answer["data"]
        output = found.get("output")
        return Standing(_STATUSES.get(str(found["status"]).lower(), RunStatus.RUNNING), encode(output))

    async def last_offset(self, run_id: str) -> int:
        last = 0
        async with self.following(run_id, 0) as reader:
            while True:
                try:
                    async with asyncio.timeout(_AT_REST if last else 5 * _AT_REST):
                        events = await reader.next()
                except TimeoutError:
                    return last
                if not events:
                    return last
                last = events[-1].offset

    async def waits(self, run_id: str, step_id: str) -> bool:
        """The server calls for a step only after it has recorded the waits that were reported with it."""
        return True

    async def resting(self, run_id: str) -> bool:
        answer = await self._client.get_trace(run_id, output=False)
        statuses = {span.status for span in answer.children}
        return "WAITING" in statuses and "RUNNING" not in statuses

    async def send(self, event: dict[str, Json]) -> None:
        await self._client.send(event)

    async def cancel(self, run_id: str) -> None:
        await self._client.cancel(run_id)

    async def given(self, run_id: str) -> Json:
        try:
            run = (await self._client.call("GET", f"/v1/runs/{quote(run_id, safe='')}"))["data"]
            found = await self._client.call("GET", f"/v1/events/{quote(run['event_id'], safe='')}")
        except ApiError as error:
            if error.status == 404:
                raise NotFoundError(f"there is no run {run_id}, or its event is gone") from error
            raise
        return found["data"]["data"]

    async def compact(self, run_id: str) -> int:
        """The log is the server's."""
        return 0


def _trigger_of(function: Function[Json]) -> str:
    """The name of the event that begins runs of a function. Raises `PerdureError`."""
    for trigger in function.config.triggers:
        if isinstance(trigger, EventTrigger):
            return trigger.event
    raise PerdureError(f"function {function.id} has no event that begins its runs")


class _SseReader:
    """The log of a run as a server tells it."""

    def __init__(self, client: Client, session: aiohttp.ClientSession, run_id: str, after: int) -> None:
        self._client = client
        self._session = session
        self._run_id = run_id
        self._after = after
        self._response: aiohttp.ClientResponse | None = None
        self._parser = SseParser()
        self._over = False

    async def next(self) -> list[StreamEvent]:
        """The next events; none at the end. Raises `ServerUnreachableError` after many tries in vain."""
        failures = 0
        while not self._over:
            try:
                events = await self._more()
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                self.close()
                failures += 1
                if failures >= _TRIES:
                    raise ServerUnreachableError(self._client.base_url, reason_of(error)) from error
                _log.info("run %s: its stream broke off (%s), asking again", self._run_id, reason_of(error))
                await asyncio.sleep(_PAUSE)
                continue
            if events:
                return events
        return []

    async def _more(self) -> list[StreamEvent]:
        response = self._response or await self._ask()
        if response is None:
            self._over = True
            return []
        piece = await response.content.readany()
        if not piece:
            # After a long time, or as the server stops: it is asked again.
            self.close()
            await asyncio.sleep(0)
            return []
        found: list[StreamEvent] = []
        for event in self._parser.feed(piece):
            entry = entry_of(event.event.encode(), event.data.encode())
            if entry is not None and event.id is not None:
                self._after = int(event.id)
                found.append(StreamEvent(self._after, entry.kind, entry.step, entry.body))
        self._over = self._over or any(event.kind == "response" for event in found)
        return found

    async def _ask(self) -> aiohttp.ClientResponse | None:
        topic = {"channel": self._run_id, "name": STREAM_TOPIC, "kind": "run"}
        token = (await self._client.call("POST", "/v1/realtime/token", body=[topic]))["jwt"]
        response = await self._session.get(
            f"{self._client.base_url}/v1/realtime/sse",
            params={"token": token},
            headers={"accept": "text/event-stream", "last-event-id": str(self._after)},
        )
        if response.status == 204:
            response.close()
            return None
        if response.status != 200:
            response.close()
            raise ApiError(response.status, f"the server does not tell the stream of run {self._run_id}")
        self._response, self._parser = response, SseParser()
        return response

    def close(self) -> None:
        """Lets the connection go."""
        if self._response is not None:
            self._response.close()
            self._response = None


def remote_engine(
    base_url: str,
    *,
    store: str | Path | Store,
    event_key: str = NO_EVENT_KEY,
    signing_key: str | None = None,
) -> RemoteEngine:
    """A server as the engine of agents; `store` is the file (or open store) in which the app keeps what they know.

    The app is served to that server (`perdure.serve(app)`), which calls its functions. Keys as for `Client`.
    """
    client = Client(base_url, event_key=event_key, signing_key=signing_key)
    if isinstance(store, str | Path):
        return RemoteEngine(client, SqliteStore(store), owns_store=True)
    return RemoteEngine(client, store, owns_store=False)
