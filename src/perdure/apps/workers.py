"""The pool of workers that keep a WebSocket open (part E.6): who is connected, what they say, which functions they
serve.

A worker comes in with `join` once its apps are registered, takes calls from `ready` on, and is gone with `leave`.
What it sends goes to `receive`. Calls go through `Dispatch`. A function is runnable here exactly while a worker that
is ready serves it: `on_change` tells, so that runs wait for a worker instead of failing without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from perdure.apps.connections import (
    GOING_AWAY,
    POLICY_VIOLATION,
    ConnectionRefused,
    ConnectionState,
    Worker,
)
from perdure.apps.dispatch import Dispatch, Waits
from perdure.apps.transport import Call, Reply
from perdure.model.limits import SECOND
from perdure.runner.clock import Clock
from perdure.wire import headers as names
from perdure.wire.connect import (
    ExtendLease,
    ExtendLeaseAck,
    Frame,
    Kind,
    M,
    MessageError,
    ReplyAck,
    RequestAck,
    SdkResponse,
    Status,
    WorkerStatus,
    decode,
    frame,
)
from perdure.wire.identity import ENVIRONMENT_ID

_log = logging.getLogger("perdure.connect")

HEARTBEAT = 10 * SECOND
"""How often a worker is asked to say that it lives (ms)."""
EXTEND_EVERY = 5 * SECOND
"""How often a worker is asked to extend its leases (ms).

SDKs also post an answer that was not acknowledged for so long. Both must happen well within `Waits.silence`: otherwise
a worker whose connection broke would come too late, and its work would be done again.
"""
_MISSED_HEARTBEATS = 5
_PARTING = 1.0
"""How long workers may take to hear that the server leaves (seconds)."""

_STATUS: dict[int, int] = {Status.NOT_COMPLETED: 206, Status.DONE: 200}


class WorkerPool:
    """The connected workers; a `Transport`.

    `on_change` is told which functions workers began to serve, and which no worker serves any more.
    """

    def __init__(
        self,
        clock: Clock,
        entropy: Callable[[int], bytes],
        waits: Waits | None = None,
        environment_id: str = ENVIRONMENT_ID,
    ) -> None:
        self.on_change: Callable[[frozenset[str], frozenset[str]], None] = _ignore
        self.closing = False
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._dispatch = Dispatch(self._workers, clock, entropy, waits or Waits(), environment_id)
        self._served: frozenset[str] = frozenset()
        self._left = asyncio.Event()
        self._syncs = 0
        self._synced: dict[str, tuple[int, str]] = {}

    @property
    def workers(self) -> list[Worker]:
        """The connections that are open, in the order in which they came."""
        return list(self._workers.values())

    @property
    def served(self) -> frozenset[str]:
        """The functions that some worker is ready to be called for."""
        return self._served

    async def call(self, call: Call) -> Reply:
        """Has a worker do a call, and waits for one that has room.

        Raises `CallError`: "connect_no_healthy_connection" when no worker could be given it, and
        "connect_gateway_closing" when the server stops (in both cases no attempt was made);
        "connect_worker_stopped_responding" when the worker that had it is gone.
        """
        return await self._dispatch.call(call)

    # Connections.

    def admit(self, connection_id: str) -> None:
        """Raises `ConnectionRefused` if a connection cannot come in now."""
        if self.closing:
            raise ConnectionRefused("connect_gateway_closing", "the server is stopping", GOING_AWAY)
        if connection_id in self._workers:
            message = f"connection {connection_id} is open already: ask for another one at /v0/connect/start"
            raise ConnectionRefused("connect_worker_hello_invalid_payload", message)

    def join(self, worker: Worker) -> None:
        """Takes in a connection whose apps are registered. It gets no call before `ready`."""
        self.admit(worker.id)
        self._workers[worker.id] = worker
        self._watch(worker)

    def ready(self, worker: Worker) -> None:
        """The worker takes calls from now on, unless it drains already."""
        if worker.state == ConnectionState.CONNECTED:
            worker.state = ConnectionState.READY
            self._update()
            self._dispatch.relieve()

    def leave(self, worker: Worker) -> None:
        """The connection is gone, which is harmless to hear twice."""
        if self._workers.get(worker.id) is not worker:
            return
        del self._workers[worker.id]
        worker.state = ConnectionState.DISCONNECTED
        if worker.timer is not None:
            worker.timer.cancel()
        self._left.set()
        self._update(frozenset(worker.functions))
        self._dispatch.lost(worker)

    async def close(self, within: float) -> None:
        """Gives out no more calls, lets workers answer those they have within some seconds, and sends them away."""
        self.closing = True
        self._update()
        left = await self._dispatch.finish(within)
        if left:
            _log.warning("%s calls of workers are left unanswered; the next start does them again", left)
        for worker in self.workers:
            worker.link.send(frame(Kind.GATEWAY_CLOSING))
            worker.link.close(GOING_AWAY, "connect_gateway_closing")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING):
                while self._workers:
                    self._left.clear()
                    await self._left.wait()
        for worker in self.workers:
            self.leave(worker)
        self._dispatch.abandon()

    # Versions of apps.

    def standing_sync(self, app_id: str, group_hash: str) -> str | None:
        """The sync of a group that must not be put in force again: a version of its app that was synced later is
        connected, so a worker of the older one that merely comes back changes nothing. None when it shall be synced."""
        known = self._synced.get(group_hash)
        if known is None:
            return None
        live = [group for worker in self._workers.values() for group in worker.groups if group.app_id == app_id]
        newer = any(self._synced[group.hash][0] > known[0] for group in live)
        return known[1] if newer else None

    def note_sync(self, group_hash: str, sync_id: str) -> None:
        """A group was synced: it is the version in force of its app. Before `join`."""
        self._syncs += 1
        self._synced[group_hash] = (self._syncs, sync_id)

    # What workers say.

    def receive(self, worker: Worker, data: bytes) -> None:
        """Takes a frame. Raises `ConnectionRefused` for one that makes no sense."""
        message = _read(Frame, data, "connect_worker_invalid_msg")
        worker.heard_at = self._clock.now()
        recovered, worker.silent = worker.silent, False
        self._take(worker, message.kind, message.payload)
        if recovered:
            self._dispatch.pump()

    def _take(self, worker: Worker, kind: int, payload: bytes) -> None:
        if kind == Kind.WORKER_HEARTBEAT:
            worker.link.send(frame(Kind.GATEWAY_HEARTBEAT))
        elif kind == Kind.WORKER_READY:
            self.ready(worker)
        elif kind == Kind.WORKER_PAUSE:
            self._drain(worker)
        elif kind == Kind.WORKER_REQUEST_ACK:
            said = _read(RequestAck, payload, "connect_worker_request_ack_invalid_payload")
            self._dispatch.acknowledge(worker, said.request_id)
        elif kind == Kind.WORKER_REQUEST_EXTEND_LEASE:
            self._on_extend(worker, payload)
        elif kind == Kind.WORKER_REPLY:
            response = _read(SdkResponse, payload, "connect_worker_reply_invalid_payload")
            self.answer(response)
            # Also for an answer that nobody waits for any more: otherwise the worker would post it again.
            worker.link.send(frame(Kind.WORKER_REPLY_ACK, ReplyAck(response.request_id)))
        elif kind == Kind.WORKER_STATUS:
            self._on_status(worker, payload)
        else:
            _log.warning("worker %s sent a frame of kind %s, which says nothing here", worker.id, kind)

    def answer(self, response: SdkResponse) -> bool:
        """Takes an answer, whichever way it came; says whether somebody waited for it."""
        return self._dispatch.answer(response.request_id, reply_of(response))

    def _on_extend(self, worker: Worker, payload: bytes) -> None:
        said = _read(ExtendLease, payload, "connect_worker_request_extend_lease_invalid_payload")
        lease_id = self._dispatch.extend(worker, said.request_id)
        answer = ExtendLeaseAck(
            said.request_id, said.account_id, said.env_id, said.app_id, said.function_slug, lease_id
        )
        worker.link.send(frame(Kind.WORKER_REQUEST_EXTEND_LEASE_ACK, answer))

    def _on_status(self, worker: Worker, payload: bytes) -> None:
        try:
            said = decode(WorkerStatus, payload)
        except MessageError as error:
            # A report, which nothing depends on.
            _log.warning("worker %s sent a status that cannot be read: %s", worker.id, error)
            return
        for request_id in said.in_flight_request_ids:
            self._dispatch.hold(worker, request_id)
        if said.shutdown_requested:
            self._drain(worker)

    def _drain(self, worker: Worker) -> None:
        if worker.state < ConnectionState.DRAINING:
            worker.state = ConnectionState.DRAINING
            self._update()

    def _watch(self, worker: Worker) -> None:
        """Ends a connection on which nothing is heard any more."""
        at = worker.heard_at + _MISSED_HEARTBEATS * HEARTBEAT
        if self._clock.now() < at:
            worker.timer = self._clock.call_at(at, lambda: self._watch(worker))
            return
        _log.warning("worker %s has not been heard of for %s s", worker.id, _MISSED_HEARTBEATS * HEARTBEAT // SECOND)
        worker.link.close(POLICY_VIOLATION, "CONSECUTIVE_HEARTBEATS_MISSED")
        self.leave(worker)

    def _update(self, given_up: frozenset[str] = frozenset()) -> None:
        """Somebody came or went: tells which functions are served now, and gives out what waits.

        Those that a worker gives up are told even if it was never ready: they were put in force when it came.
        """
        before = self._served | given_up
        # At the end nothing is served any more, or runs would be handed back and taken up again all the time.
        open_ = [] if self.closing else self._workers.values()
        ready = [worker for worker in open_ if worker.state == ConnectionState.READY]
        self._served = frozenset(function_id for worker in ready for function_id in worker.functions)
        gained, lost = self._served - before, before - self._served
        if gained or lost:
            self._dispatch.served(gained, lost)
            self.on_change(gained, lost)
        self._dispatch.pump()


def reply_of(response: SdkResponse) -> Reply:
    """The answer as it would have come over HTTP. A status that is not known is an error.

    >>> reply_of(SdkResponse("01J", body=b"[]", sdk_version="js:v4.24.0", request_version=2)).headers
    {'x-inngest-sdk': 'js:v4.24.0', 'x-inngest-req-version': '2'}
    """
    # Whatever comes over this connection is from an SDK, even where it does not say which.
    headers = {names.SDK: response.sdk_version or "connect"}
    if response.request_version:
        headers[names.REQ_VERSION] = str(response.request_version)
    if response.no_retry:
        headers[names.NO_RETRY] = "true"
    if response.retry_after:
        headers[names.RETRY_AFTER] = response.retry_after
    return Reply(_STATUS.get(response.status, 500), headers, response.body)


def _read(kind: type[M], payload: bytes, code: str) -> M:
    try:
        return decode(kind, payload)
    except MessageError as error:
        raise ConnectionRefused(code, str(error)) from error


def _ignore(gained: frozenset[str], lost: frozenset[str]) -> None:
    """Nobody asks."""
