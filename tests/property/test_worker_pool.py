"""Whatever workers do, in any order: no call is lost or answered twice, and nobody gets more than it takes."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.apps.connections import ConnectionState, Group, Worker
from perdure.apps.transport import Call, CallError, Reply
from perdure.apps.workers import WorkerPool
from perdure.testing import VirtualClock
from perdure.wire import connect as wire
from perdure.wire.connect import Kind

FUNCTIONS = ("a", "b")
CODES = {"connect_no_healthy_connection", "connect_worker_stopped_responding"}

acts = st.sampled_from(
    ["join", "call", "call", "acknowledge", "answer", "answer", "post", "extend", "pause", "leave", "status", "wait"]
)
script = st.lists(st.tuples(acts, st.integers(0, 5), st.integers(0, 5)), max_size=60)


class _Link:
    """Hands what is sent to the worker that it belongs to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.held: list[str] = []
        self.worker: Worker | None = None

    def send(self, data: bytes) -> None:
        frame = wire.decode(wire.Frame, data)
        if frame.kind == Kind.GATEWAY_EXECUTOR_REQUEST:
            worker = self.worker
            assert worker is not None
            assert worker.state == ConnectionState.READY
            assert worker.limit is None or len(worker.requests) <= worker.limit
            request = wire.decode(wire.ExecutorRequest, frame.payload)
            assert worker.serves(request.function_slug)
            self.held.append(request.request_id)

    def close(self, status: int, reason: str) -> None:
        """The pool says goodbye by itself."""


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.clock.attach(self.rest)
        self.pool = WorkerPool(self.clock, bytes)
        self.links: list[_Link] = []
        self.calls: dict[str, asyncio.Task[Reply]] = {}

    async def rest(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async def act(self, act: str, one: int, two: int) -> None:
        live = [link for link in self.links if link.worker in self.pool.workers]
        if act == "join":
            self.join(one, two)
        elif act == "call":
            self.call(FUNCTIONS[one % 2])
        elif act == "post" and self.calls:
            request_id = list(self.calls)[two % len(self.calls)]
            self.pool.answer(wire.SdkResponse(request_id, body=request_id.encode()))
        elif act == "wait":
            await self.clock.advance((0.5, 3, 6, 11, 40, 130)[one])
        elif live:
            self.speak(live[one % len(live)], act, two)
        await self.rest()

    def join(self, one: int, two: int) -> None:
        link = _Link(self)
        said = wire.WorkerConnect(f"c{len(self.links)}", f"i{one % 2}", max_worker_concurrency=two or None)
        served = FUNCTIONS if two % 2 else FUNCTIONS[:1]
        link.worker = Worker(said, [Group("hash", "app", None, served, "")], link, self.clock.now())
        self.links.append(link)
        self.pool.join(link.worker)
        self.pool.ready(link.worker)

    def call(self, function_id: str) -> None:
        request_id = f"r{len(self.calls)}"
        call = Call("", {}, b"{}", "app", function_id, "run", request_id, "step", "job")
        self.calls[request_id] = asyncio.create_task(self.pool.call(call))

    def speak(self, link: _Link, act: str, two: int) -> None:
        worker = link.worker
        assert worker is not None
        request_id = link.held[two % len(link.held)] if link.held else "unknown"
        if act == "leave":
            self.pool.leave(worker)
        elif act == "pause":
            self.pool.receive(worker, wire.frame(Kind.WORKER_PAUSE))
        elif act == "status":
            self.pool.receive(worker, wire.frame(Kind.WORKER_STATUS, wire.WorkerStatus([request_id])))
        elif act == "acknowledge":
            self.pool.receive(worker, wire.frame(Kind.WORKER_REQUEST_ACK, wire.RequestAck(request_id)))
        elif act == "extend":
            self.pool.receive(worker, wire.frame(Kind.WORKER_REQUEST_EXTEND_LEASE, wire.ExtendLease(request_id)))
        else:
            response = wire.SdkResponse(request_id, body=request_id.encode())
            self.pool.receive(worker, wire.frame(Kind.WORKER_REPLY, response))

    def check(self) -> None:
        dispatch = self.pool._dispatch
        undecided = {request_id for request_id, task in self.calls.items() if not task.done()}
        assert set(dispatch._requests) == undecided
        held = {request_id: one.worker for request_id, one in dispatch._requests.items() if one.worker is not None}
        assert set(dispatch._waiting) == undecided - set(held)
        for worker in self.pool.workers:
            assert worker.requests == {request_id for request_id, holder in held.items() if holder is worker}
        for waiting in dispatch._waiting.values():
            assert not any(
                worker.has_room and worker.serves(waiting.call.function_id) for worker in self.pool.workers
            ), "it waits while somebody has room"

    def outcome(self, request_id: str) -> None:
        try:
            reply = self.calls[request_id].result()
        except CallError as error:
            assert error.code in CODES
        else:
            assert reply.body == request_id.encode()


async def _play(steps: list[tuple[str, int, int]]) -> None:
    world = World()
    # One worker that is busy, and more to do: what is hard begins here.
    world.join(0, 1)
    for function_id in ("a", "a", "b"):
        world.call(function_id)
    await world.rest()
    for act, one, two in steps:
        await world.act(act, one, two)
        world.check()
    for worker in world.pool.workers:
        world.pool.leave(worker)
    # Longer than any lease, and than the patience after it.
    for _ in range(4):
        await world.clock.advance("131s")
    world.check()
    for request_id in world.calls:
        world.outcome(request_id)
    assert not world.pool._dispatch._requests


@settings(max_examples=300, deadline=None)
@given(script)
def test_calls_are_carried_or_fail_and_nothing_is_left(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(_play(steps))
