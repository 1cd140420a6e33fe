"""The calls of connected workers: waiting for one, sent to one, held under its lease, answered (part E.6).

A call waits until a worker that serves its function has room, and goes to the one with the least to do. The worker
acknowledges it; one that does not, while another could do it, loses it to the other. From then on it holds the call
under a lease, which it extends as long as it works. Its answer counts whichever way it comes, so a connection that
breaks ends nothing: only a lease that runs out does. Invariants:
- a call is in `_waiting` or has a worker, never both; it has a timer as long as it is open;
- nothing waits for a function while a worker that serves it has room.

A call is carried at least once: a worker that was slow to acknowledge may have begun all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from perdure.apps.connections import ConnectionState, Worker
from perdure.apps.transport import Call, CallError, Reply
from perdure.model.ids import make_ulid
from perdure.model.json import encode as encode_json
from perdure.model.limits import MAX_CALL, SECOND
from perdure.runner.clock import Clock, Timer
from perdure.wire.connect import ExecutorRequest, Kind, frame
from perdure.wire.identity import ACCOUNT_ID, ENVIRONMENT_ID, uuid_of

_log = logging.getLogger("perdure.connect")

NOT_CARRIED: Final = frozenset({"connect_no_healthy_connection", "connect_gateway_closing"})
"""The codes of calls that no worker got: no attempt was made, the run waits."""


class Waits(msgspec.Struct, frozen=True):
    """How long things may take (ms).

    `lease`: how long a worker may hold a call without a word of it. `acknowledge`: how long until another worker gets
    a call that one says nothing of. `patience`: how long a call waits for a worker to come back when none is
    connected, which bridges restarts and short breaks. `silence`: how long a worker whose connection broke keeps a
    call without a word, for most of them are dead.
    """

    lease: int = 120 * SECOND
    acknowledge: int = 5 * SECOND
    patience: int = 10 * SECOND
    silence: int = 30 * SECOND


class _Request:
    """A call and where it stands; without a worker it waits for one, since `since`, which else is when it was sent."""

    def __init__(self, call: Call, future: asyncio.Future[Reply], now: int) -> None:
        self.call = call
        self.future = future
        self.worker: Worker | None = None
        self.acknowledged = False
        self.since = now
        self.ends_at = now + MAX_CALL
        self.lease_until = 0
        self.timer: Timer | None = None


class Dispatch:
    """Gives calls to workers. `workers` are the open connections by id, kept by the pool."""

    def __init__(
        self,
        workers: dict[str, Worker],
        clock: Clock,
        entropy: Callable[[int], bytes],
        waits: Waits,
        environment_id: str = ENVIRONMENT_ID,
    ) -> None:
        self._workers = workers
        self._environment_id = environment_id
        self._clock = clock
        self._entropy = entropy
        self._waits = waits
        self._requests: dict[str, _Request] = {}
        self._waiting: dict[str, _Request] = {}
        self._unserved_since: dict[str, int] = {}
        self._turn = 0
        self._lessened = asyncio.Event()
        self._closing = False

    async def call(self, call: Call) -> Reply:
        """See `WorkerPool.call`."""
        if self._closing:
            raise _closing()
        request = _Request(call, asyncio.get_running_loop().create_future(), self._clock.now())
        self._requests[call.request_id] = request
        self._place(request)
        try:
            return await request.future
        finally:
            self._forget(request)

    def answer(self, request_id: str, reply: Reply) -> bool:
        """Takes an answer, from wherever; says whether somebody waited for it."""
        request = self._requests.get(request_id)
        if request is None or request.future.done():
            return False
        request.future.set_result(reply)
        self._forget(request)
        return True

    def acknowledge(self, worker: Worker, request_id: str) -> None:
        """The worker has got a call."""
        request = self._requests.get(request_id)
        if request is not None and request.worker is worker:
            request.acknowledged = True
            self._arm(request)

    def extend(self, worker: Worker, request_id: str) -> str | None:
        """The worker's new lease of a call; None when it does not have the call (any more)."""
        if not self.hold(worker, request_id):
            return None
        request = self._requests[request_id]
        # Never beyond the longest that any call may take.
        request.lease_until = min(self._clock.now() + self._waits.lease, request.ends_at)
        self._arm(request)
        return self._lease_id(request)

    def hold(self, worker: Worker, request_id: str) -> bool:
        """Whether the worker has a call, as it says; it may have got it on a connection before this one."""
        request = self._requests.get(request_id)
        if request is None or not worker.serves(request.call.function_id):
            return False
        before = request.worker
        if before is not None and before is not worker and not worker.follows(before):
            return False
        if before is not worker:
            self._give(request, worker)
        request.acknowledged = True
        self._arm(request)
        return True

    def lost(self, worker: Worker) -> None:
        """A connection is gone: what its worker had acknowledged may still be answered, the rest goes to others."""
        for request_id in tuple(worker.requests):
            request = self._requests.get(request_id)
            if request is None:
                continue
            if not request.acknowledged:
                self._take_back(request)
            else:
                request.lease_until = min(request.lease_until, self._clock.now() + self._waits.silence)
                self._arm(request)
        self._lessened.set()

    def served(self, gained: frozenset[str], lost: frozenset[str]) -> None:
        """Workers began, or ceased, to serve functions."""
        self._unserved_since.update(dict.fromkeys(lost, self._clock.now()))
        for function_id in gained:
            self._unserved_since.pop(function_id, None)

    def relieve(self) -> None:
        """Somebody new is there: it gets what was sent to those who have said nothing since."""
        silent = [worker for worker in self._workers.values() if worker.silent]
        for request in [self._requests[request_id] for worker in silent for request_id in worker.requests]:
            if self._is_overdue(request) and self._choose(request.call.function_id) is not None:
                self._take_back(request)

    def pump(self) -> None:
        """Gives out what waits, the oldest first, to whoever has room."""
        in_vain: set[str] = set()
        for request in tuple(self._waiting.values()):
            function_id = request.call.function_id
            worker = None if function_id in in_vain else self._choose(function_id)
            if worker is None:
                in_vain.add(function_id)
            else:
                self._send(request, worker)

    async def finish(self, within: float) -> int:
        """Gives out nothing more and lets workers answer within some seconds; returns how many calls are left."""
        self._closing = True
        for request in tuple(self._waiting.values()):
            self._fail(request, _closing())
        try:
            async with asyncio.timeout(within):
                # An answer of a worker that is not connected could only be posted; the end does not wait for that.
                while any(self._is_with_worker(request) for request in self._requests.values()):
                    self._lessened.clear()
                    await self._lessened.wait()
        except TimeoutError:
            pass
        return len(self._requests)

    def abandon(self) -> None:
        """Fails every call that is left."""
        for request in tuple(self._requests.values()):
            self._fail(request, _closing())

    def _place(self, request: _Request) -> None:
        worker = self._choose(request.call.function_id)
        if worker is not None:
            self._send(request, worker)
        else:
            self._waiting[request.call.request_id] = request
            self._arm(request)

    def _choose(self, function_id: str) -> Worker | None:
        able = [worker for worker in self._workers.values() if worker.has_room and worker.serves(function_id)]
        if self._closing or not able:
            return None
        return min(able, key=lambda worker: (len(worker.requests), worker.used_at))

    def _send(self, request: _Request, worker: Worker) -> None:
        self._give(request, worker)
        self._turn += 1
        worker.used_at = self._turn
        worker.link.send(frame(Kind.GATEWAY_EXECUTOR_REQUEST, self._executor_request(request, worker)))
        self._arm(request)

    def _give(self, request: _Request, worker: Worker) -> None:
        if request.worker is not None:
            request.worker.requests.discard(request.call.request_id)
        self._waiting.pop(request.call.request_id, None)
        worker.requests.add(request.call.request_id)
        request.worker, request.acknowledged = worker, False
        request.since = self._clock.now()
        request.lease_until = request.since + self._waits.lease

    def _take_back(self, request: _Request) -> None:
        """The worker does not get to do the call: another one may."""
        if request.worker is not None:
            request.worker.requests.discard(request.call.request_id)
        request.worker, request.since = None, self._clock.now()
        self._place(request)

    def _executor_request(self, request: _Request, worker: Worker) -> ExecutorRequest:
        call, app = request.call, worker.app_of(request.call.function_id)
        trace = {key: call.headers[key] for key in ("traceparent", "tracestate") if key in call.headers}
        context = encode_json(trace) if trace else b""
        return ExecutorRequest(
            request_id=call.request_id,
            account_id=ACCOUNT_ID,
            env_id=self._environment_id,
            app_id=uuid_of(app),
            app_name=app,
            function_id=uuid_of(call.function_id),
            function_slug=call.function_id,
            step_id=call.step_id,
            request_payload=call.body,
            system_trace_ctx=context,
            user_trace_ctx=context,
            run_id=call.run_id,
            lease_id=self._lease_id(request),
            job_id=call.job_id,
        )

    def _lease_id(self, request: _Request) -> str:
        # The time in it is when the lease ends, for whoever reads logs. Who holds a call is known without it.
        return make_ulid(request.lease_until, int.from_bytes(self._entropy(10), "big"))

    def _forget(self, request: _Request) -> None:
        """The call is over: answered, failed, or given up by its caller."""
        request_id = request.call.request_id
        if self._requests.get(request_id) is not request:
            return
        del self._requests[request_id]
        self._waiting.pop(request_id, None)
        if request.timer is not None:
            request.timer.cancel()
        if request.worker is not None:
            request.worker.requests.discard(request_id)
            self.pump()
        self._lessened.set()

    def _fail(self, request: _Request, error: CallError) -> None:
        if not request.future.done():
            request.future.set_exception(error)
        self._forget(request)

    # Deadlines.

    def _arm(self, request: _Request) -> None:
        if request.timer is not None:
            request.timer.cancel()
        at = max(self._deadline(request), self._clock.now() + 1)
        request.timer = self._clock.call_at(at, lambda: self._on_deadline(request))

    def _deadline(self, request: _Request) -> int:
        if request.worker is None:
            since = max(request.since, self._unserved_since.get(request.call.function_id, 0))
            return since + self._waits.patience
        if request.acknowledged or request.worker.silent:
            return request.lease_until
        return request.since + self._waits.acknowledge

    def _on_deadline(self, request: _Request) -> None:
        function_id, worker, now = request.call.function_id, request.worker, self._clock.now()
        if request.future.done():
            return
        if worker is None:
            if now >= self._deadline(request) and not self._is_served(function_id):
                self._fail(request, _nobody(function_id))
                return
            request.since = now
        elif now >= request.lease_until:
            self._fail(request, _stopped(worker, function_id))
            return
        elif not request.acknowledged:
            worker.silent = True
            if self._choose(function_id) is not None:
                _log.warning("worker %s did not acknowledge a call of %s; another gets it", worker.id, function_id)
                self._take_back(request)
                return
            # Nobody else could do it, and it may have begun: it keeps the call until its lease ends.
        self._arm(request)

    def _is_overdue(self, request: _Request) -> bool:
        return not request.acknowledged and self._clock.now() >= request.since + self._waits.acknowledge

    def _is_with_worker(self, request: _Request) -> bool:
        return request.worker is not None and request.worker.state != ConnectionState.DISCONNECTED

    def _is_served(self, function_id: str) -> bool:
        """Whether a worker would do it, if it had room."""
        return any(
            worker.state == ConnectionState.READY and worker.serves(function_id) for worker in self._workers.values()
        )


def _nobody(function_id: str) -> CallError:
    message = f"No worker that serves {function_id} is connected. Start one with `connect()`: its runs wait for it."
    return CallError("connect_no_healthy_connection", message)


def _stopped(worker: Worker, function_id: str) -> CallError:
    message = (
        f"Worker {worker.instance_id!r} took a call of {function_id} and has not been heard of since: it may have "
        "crashed, or been stopped before its work was done."
    )
    return CallError("connect_worker_stopped_responding", message)


def _closing() -> CallError:
    return CallError("connect_gateway_closing", "The server is stopping; the run goes on after its next start.")
