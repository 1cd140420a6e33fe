"""The pool of connected workers: who gets a call, how long a worker may hold it, and how an answer finds its call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from perdure.apps.connections import ConnectionRefused, ConnectionState, Group, Worker
from perdure.apps.transport import Call, CallError, Reply
from perdure.apps.workers import WorkerPool
from perdure.model.ids import make_ulid
from perdure.testing import VirtualClock
from perdure.wire import connect as wire
from perdure.wire.connect import Kind, Status

FUNCTION = "shop-fulfil"


class FakeLink:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.frames: list[wire.Frame] = []
        self.closed: tuple[int, str] | None = None

    def send(self, data: bytes) -> None:
        self.frames.append(wire.decode(wire.Frame, data))

    def close(self, status: int, reason: str) -> None:
        self.closed = (status, reason)

    @property
    def kinds(self) -> list[int]:
        return [one.kind for one in self.frames]

    @property
    def requests(self) -> list[wire.ExecutorRequest]:
        return [
            wire.decode(wire.ExecutorRequest, one.payload)
            for one in self.frames
            if one.kind == Kind.GATEWAY_EXECUTOR_REQUEST
        ]

    @property
    def leases(self) -> list[str | None]:
        kind = Kind.WORKER_REQUEST_EXTEND_LEASE_ACK
        acks = [wire.decode(wire.ExtendLeaseAck, one.payload) for one in self.frames if one.kind == kind]
        return [ack.new_lease_id for ack in acks]


class Bench:
    """A pool under a clock that the test moves, and workers that it speaks for."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.pool = WorkerPool(self.clock, lambda count: bytes(count))
        self.clock.attach(self.rest)
        self.links: dict[str, FakeLink] = {}
        self._ids = (make_ulid(self.clock.now(), number) for number in range(1, 1000))
        self._calls: list[asyncio.Task[Reply]] = []

    def worker(
        self,
        *functions: str,
        instance: str = "one",
        limit: int | None = None,
        ready: bool = True,
        version: str = "1",
        app: str = "shop",
    ) -> Worker:
        link = FakeLink()
        said = wire.WorkerConnect(next(self._ids), instance, max_worker_concurrency=limit)
        group = Group(f"{app}@{version}", app, None, functions or (FUNCTION,), "sync")
        worker = Worker(said, [group], link, self.clock.now())
        self.links[worker.id] = link
        self.pool.join(worker)
        if ready:
            self.pool.ready(worker)
        return worker

    def link(self, worker: Worker) -> FakeLink:
        return self.links[worker.id]

    def got(self, worker: Worker) -> list[str]:
        """The requests that were sent to a worker."""
        return [request.request_id for request in self.link(worker).requests]

    async def call(self, request_id: str, function_id: str = FUNCTION) -> asyncio.Task[Reply]:
        headers = {"traceparent": "00-aa-bb-01"}
        call = Call("wss://connect/", headers, b'{"x":1}', "shop", function_id, "run", request_id, "step", "job")
        task = asyncio.create_task(self.pool.call(call))
        self._calls.append(task)
        await self.rest()
        return task

    def says(self, worker: Worker, kind: Kind, record: wire.Record | None = None) -> None:
        self.pool.receive(worker, wire.frame(kind, record))

    def acknowledges(self, worker: Worker, request_id: str) -> None:
        self.says(worker, Kind.WORKER_REQUEST_ACK, wire.RequestAck(request_id))

    def answers(self, worker: Worker, request_id: str, body: bytes = b"[]") -> None:
        self.says(worker, Kind.WORKER_REPLY, wire.SdkResponse(request_id, body=body, sdk_version="js:v4"))

    def extends(self, worker: Worker, request_id: str) -> str | None:
        self.says(worker, Kind.WORKER_REQUEST_EXTEND_LEASE, wire.ExtendLease(request_id, lease_id="any"))
        return self.link(worker).leases[-1]

    async def live(self, worker: Worker, seconds: int) -> None:
        """Lets time pass in which the worker says that it lives, and no more."""
        for _ in range(seconds // 10):
            await self.clock.advance("10s")
            self.says(worker, Kind.WORKER_HEARTBEAT)

    async def rest(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def end(self) -> None:
        for task in self._calls:
            task.cancel()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.end()


async def code_of(task: asyncio.Task[Reply]) -> str:
    with pytest.raises(CallError) as caught:
        await task
    return caught.value.code


async def test_a_call_is_sent_acknowledged_and_answered(bench: Bench) -> None:
    worker = bench.worker()
    task = await bench.call("r1")
    (request,) = bench.link(worker).requests
    assert (request.app_name, request.function_slug, request.step_id, request.run_id, request.job_id) == (
        "shop",
        FUNCTION,
        "step",
        "run",
        "job",
    )
    assert request.request_payload == b'{"x":1}'
    assert request.user_trace_ctx == b'{"traceparent":"00-aa-bb-01"}'
    bench.acknowledges(worker, "r1")
    bench.answers(worker, "r1", b"[1]")
    assert await task == Reply(206, {"x-inngest-sdk": "js:v4"}, b"[1]")
    last = bench.link(worker).frames[-1]
    assert (last.kind, wire.decode(wire.ReplyAck, last.payload).request_id) == (Kind.WORKER_REPLY_ACK, "r1")
    assert not worker.requests


@pytest.mark.parametrize(
    ("response", "status", "headers"),
    [
        (wire.SdkResponse("r"), 206, {"x-inngest-sdk": "connect"}),
        (wire.SdkResponse("r", status=Status.DONE), 200, {"x-inngest-sdk": "connect"}),
        (
            wire.SdkResponse("r", status=Status.DONE, no_retry=True, sdk_version="js:v4", request_version=2),
            200,
            {"x-inngest-sdk": "js:v4", "x-inngest-req-version": "2", "x-inngest-no-retry": "true"},
        ),
        (
            wire.SdkResponse("r", status=Status.ERROR, retry_after="30"),
            500,
            {"x-inngest-sdk": "connect", "retry-after": "30"},
        ),
        (wire.SdkResponse("r", status=77), 500, {"x-inngest-sdk": "connect"}),
    ],
)
async def test_an_answer_reads_as_one_over_http(
    bench: Bench, response: wire.SdkResponse, status: int, headers: dict[str, str]
) -> None:
    worker = bench.worker()
    task = await bench.call("r")
    bench.says(worker, Kind.WORKER_REPLY, response)
    reply = await task
    assert (reply.status, reply.headers) == (status, headers)


async def test_calls_beyond_the_limit_of_a_worker_wait_for_room(bench: Bench) -> None:
    worker = bench.worker(limit=2)
    for request_id in ("r1", "r2", "r3", "r4"):
        await bench.call(request_id)
        bench.acknowledges(worker, request_id)
    assert bench.got(worker) == ["r1", "r2"]
    bench.answers(worker, "r2")
    assert bench.got(worker) == ["r1", "r2", "r3"]
    bench.acknowledges(worker, "r3")
    # However long: a worker is there, so nothing fails.
    for _ in range(20):
        await bench.live(worker, 60)
        for request_id in ("r1", "r3"):
            assert bench.extends(worker, request_id)
    bench.answers(worker, "r1")
    assert bench.got(worker) == ["r1", "r2", "r3", "r4"]


async def test_the_worker_with_the_least_to_do_gets_a_call(bench: Bench) -> None:
    one, two = bench.worker(instance="one"), bench.worker(instance="two")
    for request_id in ("r1", "r2", "r3", "r4"):
        await bench.call(request_id)
    assert (bench.got(one), bench.got(two)) == (["r1", "r3"], ["r2", "r4"])
    bench.answers(two, "r2")
    await bench.call("r5")
    assert bench.got(two) == ["r2", "r4", "r5"]


async def test_only_a_worker_that_is_ready_and_serves_the_function_is_called(bench: Bench) -> None:
    early = bench.worker(instance="early", ready=False)
    other = bench.worker("shop-refund", instance="other")
    drained = bench.worker(instance="drained")
    bench.says(drained, Kind.WORKER_PAUSE)
    await bench.call("r1")
    assert not (bench.got(early) or bench.got(other) or bench.got(drained))
    bench.says(early, Kind.WORKER_READY)
    assert bench.got(early) == ["r1"]


async def test_a_drained_worker_stays_drained_and_may_answer_what_it_has(bench: Bench) -> None:
    worker = bench.worker()
    task = await bench.call("r1")
    bench.acknowledges(worker, "r1")
    bench.says(worker, Kind.WORKER_PAUSE)
    bench.says(worker, Kind.WORKER_READY)
    await bench.call("r2")
    assert bench.got(worker) == ["r1"]
    bench.answers(worker, "r1")
    assert (await task).status == 206


async def test_a_call_that_is_not_acknowledged_goes_to_another_worker(bench: Bench) -> None:
    silent, other = bench.worker(instance="silent"), bench.worker(instance="other")
    task = await bench.call("r1")
    await bench.clock.advance("4s")
    assert bench.got(other) == []
    await bench.clock.advance("1s")
    assert bench.got(other) == ["r1"]
    bench.acknowledges(other, "r1")
    await bench.call("r2")
    assert bench.got(silent) == ["r1"], "whoever is silent gets nothing"
    # It was only slow, and comes too late: the other one has the call.
    bench.acknowledges(silent, "r1")
    assert bench.extends(silent, "r1") is None
    bench.answers(other, "r1", b"[2]")
    assert (await task).body == b"[2]"
    await bench.call("r3")
    assert bench.got(silent) == ["r1", "r3"], "it was heard of"


async def test_a_silent_worker_keeps_its_call_while_nobody_else_could_do_it(bench: Bench) -> None:
    worker = bench.worker()
    task = await bench.call("r1")
    await bench.clock.advance("20s")
    bench.answers(worker, "r1")
    assert (await task).status == 206
    assert bench.got(worker) == ["r1"]


async def test_a_worker_that_comes_gets_what_a_silent_one_left(bench: Bench) -> None:
    silent = bench.worker()
    await bench.call("r1")
    await bench.clock.advance("6s")
    await bench.call("r2")
    again = bench.worker()
    assert (bench.got(silent), bench.got(again)) == (["r1"], ["r2", "r1"])


async def test_a_lease_that_is_not_extended_ends_the_call(bench: Bench) -> None:
    worker = bench.worker(limit=1)
    task = await bench.call("r1")
    bench.acknowledges(worker, "r1")
    for _ in range(4):
        await bench.live(worker, 110)
        assert bench.extends(worker, "r1") is not None
    waiting = await bench.call("r2")
    await bench.live(worker, 110)
    assert not task.done()
    await bench.live(worker, 10)
    assert await code_of(task) == "connect_worker_stopped_responding"
    assert bench.extends(worker, "r1") is None, "the lease is lost"
    assert bench.got(worker) == ["r1", "r2"]
    waiting.cancel()


async def test_a_broken_connection_ends_nothing(bench: Bench) -> None:
    before = bench.worker()
    posted, extended, lost = await bench.call("r1"), await bench.call("r2"), await bench.call("r3")
    for request_id in ("r1", "r2", "r3"):
        bench.acknowledges(before, request_id)
    bench.pool.leave(before)
    await bench.clock.advance("20s")
    assert bench.pool.answer(wire.SdkResponse("r1", body=b"[1]"))
    assert (await posted).body == b"[1]"

    stranger = bench.worker(instance="another")
    assert bench.extends(stranger, "r2") is None
    again = bench.worker(instance="one", limit=1)
    assert bench.extends(again, "r2") is not None
    assert again.requests == {"r2"}
    bench.pool.leave(stranger)
    await bench.call("r4")
    assert bench.got(again) == [], "what it is at counts"
    await bench.live(again, 10)
    assert await code_of(lost) == "connect_worker_stopped_responding"
    bench.answers(again, "r2", b"[2]")
    assert (await extended).body == b"[2]"
    assert bench.got(again) == ["r4"]


async def test_what_a_worker_says_it_has_is_taken_as_its_own(bench: Bench) -> None:
    before = bench.worker()
    task = await bench.call("r1")
    bench.pool.leave(before)
    again = bench.worker(instance="one", ready=False)
    bench.says(again, Kind.WORKER_STATUS, wire.WorkerStatus(["r1", "unknown"]))
    bench.says(again, Kind.WORKER_READY)
    assert bench.got(again) == [], "it has it already"
    bench.answers(again, "r1")
    assert (await task).status == 206


async def test_a_status_can_say_that_the_worker_stops(bench: Bench) -> None:
    worker = bench.worker()
    bench.says(worker, Kind.WORKER_STATUS, wire.WorkerStatus([], shutdown_requested=True))
    assert worker.state == ConnectionState.DRAINING
    bench.pool.receive(worker, wire.encode(wire.Frame(Kind.WORKER_STATUS, b"\xff")))
    assert bench.link(worker).closed is None


async def test_a_connection_that_breaks_before_the_acknowledgement_gives_the_call_to_another(bench: Bench) -> None:
    one, two = bench.worker(instance="one"), bench.worker(instance="two")
    await bench.call("r1")
    bench.pool.leave(one)
    assert bench.got(two) == ["r1"]


async def test_without_a_worker_a_call_waits_a_while(bench: Bench) -> None:
    in_time, in_vain = await bench.call("r1"), await bench.call("r2", "shop-refund")
    await bench.clock.advance("9s")
    worker = bench.worker()
    bench.answers(worker, "r1")
    assert (await in_time).status == 206
    await bench.clock.advance("1s")
    assert await code_of(in_vain) == "connect_no_healthy_connection"


async def test_the_patience_begins_when_the_last_worker_left(bench: Bench) -> None:
    busy = bench.worker(limit=1)
    await bench.call("r1")
    bench.acknowledges(busy, "r1")
    task = await bench.call("r2")
    await bench.clock.advance("19s")
    bench.pool.leave(busy)
    await bench.clock.advance("9s")
    assert not task.done()
    await bench.clock.advance("11s")
    assert await code_of(task) == "connect_no_healthy_connection"


async def test_an_answer_that_nobody_waits_for_is_acknowledged(bench: Bench) -> None:
    worker = bench.worker()
    bench.answers(worker, "unknown")
    assert bench.link(worker).kinds == [Kind.WORKER_REPLY_ACK]
    assert not bench.pool.answer(wire.SdkResponse("unknown"))


async def test_a_call_that_is_given_up_frees_its_place(bench: Bench) -> None:
    worker = bench.worker(limit=1)
    given_up = await bench.call("r1")
    bench.acknowledges(worker, "r1")
    await bench.call("r2")
    given_up.cancel()
    await bench.rest()
    assert bench.got(worker) == ["r1", "r2"]
    assert bench.extends(worker, "r1") is None


async def test_heartbeats_are_answered_and_their_absence_ends_the_connection(bench: Bench) -> None:
    worker = bench.worker()
    for _ in range(3):
        await bench.clock.advance("40s")
        bench.says(worker, Kind.WORKER_HEARTBEAT)
    assert bench.link(worker).kinds == [Kind.GATEWAY_HEARTBEAT] * 3
    await bench.clock.advance("49s")
    assert bench.pool.workers == [worker]
    await bench.clock.advance("1s")
    assert bench.pool.workers == []
    assert bench.link(worker).closed == (1008, "CONSECUTIVE_HEARTBEATS_MISSED")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff", "connect_worker_invalid_msg"),
        (
            wire.encode(wire.Frame(Kind.WORKER_REQUEST_ACK, b"\xff")),
            "connect_worker_request_ack_invalid_payload",
        ),
        (
            wire.encode(wire.Frame(Kind.WORKER_REQUEST_EXTEND_LEASE, b"\xff")),
            "connect_worker_request_extend_lease_invalid_payload",
        ),
        (wire.encode(wire.Frame(Kind.WORKER_REPLY, b"\xff")), "connect_worker_reply_invalid_payload"),
    ],
)
async def test_frames_that_make_no_sense_are_refused(bench: Bench, data: bytes, code: str) -> None:
    worker = bench.worker()
    with pytest.raises(ConnectionRefused) as caught:
        bench.pool.receive(worker, data)
    assert caught.value.code == code


async def test_frames_of_a_later_version_are_passed_by(bench: Bench) -> None:
    worker = bench.worker()
    bench.pool.receive(worker, wire.encode(wire.Frame(99, b"?")))
    assert bench.link(worker).closed is None


async def test_a_connection_id_is_used_once(bench: Bench) -> None:
    worker = bench.worker()
    with pytest.raises(ConnectionRefused, match="is open already"):
        bench.pool.join(worker)


async def test_the_end_waits_for_answers_and_sends_workers_away(bench: Bench) -> None:
    worker = bench.worker(limit=1)
    lost: list[str] = []
    bench.pool.on_change = lambda gained, gone: lost.extend(gone)
    task, waiting = await bench.call("r1"), await bench.call("r2")
    bench.acknowledges(worker, "r1")
    closing = asyncio.create_task(bench.pool.close(30))
    assert await code_of(waiting) == "connect_gateway_closing"
    assert not closing.done()
    assert lost == [FUNCTION], "no run is to begin with it"
    with pytest.raises(ConnectionRefused) as caught:
        bench.pool.admit("another")
    assert caught.value.code == "connect_gateway_closing"
    assert await code_of(await bench.call("r3")) == "connect_gateway_closing"
    bench.answers(worker, "r1")
    assert (await task).status == 206
    await bench.rest()
    assert bench.link(worker).kinds[-1] == Kind.GATEWAY_CLOSING
    assert bench.link(worker).closed == (1001, "connect_gateway_closing")
    bench.pool.leave(worker)
    await closing


async def test_the_end_does_not_wait_for_ever(bench: Bench) -> None:
    worker = bench.worker()
    task = await bench.call("r1")
    closing = asyncio.create_task(bench.pool.close(0))
    await bench.rest()
    bench.pool.leave(worker)
    await closing
    assert await code_of(task) == "connect_gateway_closing"


async def test_who_serves_what_is_told(bench: Bench) -> None:
    told: list[tuple[set[str], set[str]]] = []
    bench.pool.on_change = lambda gained, lost: told.append((set(gained), set(lost)))
    one = bench.worker("a", "b", instance="one")
    two = bench.worker("b", "c", instance="two")
    bench.says(one, Kind.WORKER_PAUSE)
    bench.pool.leave(one)
    bench.pool.leave(two)
    bench.pool.leave(two)
    unready = bench.worker("d", ready=False)
    bench.pool.leave(unready)
    assert told == [
        ({"a", "b"}, set()),
        ({"c"}, set()),
        (set(), {"a"}),
        (set(), {"a"}),
        (set(), {"b", "c"}),
        (set(), {"d"}),
    ]


async def test_an_older_version_that_comes_back_is_not_put_in_force_again(bench: Bench) -> None:
    pool = bench.pool
    assert pool.standing_sync("shop", "shop@1") is None
    pool.note_sync("shop@1", "first")
    one = bench.worker(version="1")
    pool.note_sync("shop@2", "second")
    two = bench.worker(version="2", instance="two")
    pool.leave(one)
    assert pool.standing_sync("shop", "shop@1") == "first"
    assert pool.standing_sync("shop", "shop@2") is None
    pool.leave(two)
    assert pool.standing_sync("shop", "shop@1") is None, "nobody has the newer version: it was taken back"
