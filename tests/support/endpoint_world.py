"""Requests that become runs, without a network: a test plays the app, for a server in memory under a virtual clock.

The test reports as the app that answers the first request does; when the server makes the request again, a function
of the test answers. The clock does not wait for runs whose app is still answering: they rest until the test goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

import httpx2

from perdure.apps.transport import Call, Reply
from perdure.embedding import NodeOptions, make_node
from perdure.engine import reads
from perdure.model.json import Json, decode
from perdure.model.records import Run, Step
from perdure.node import Node
from perdure.server import Guard, make_app
from perdure.testing import VirtualClock
from tests.support.remote_app import op, ops, sha

DOMAIN = "http://app.test"
COMPLETE = sha("complete")

Answer = Callable[[Call], "Reply | Awaitable[Reply]"]


class _Clock(VirtualClock):
    """A clock that lets the world say when everything is at rest."""

    def attach(self, settle: Callable[[], Awaitable[None]]) -> None:
        if not isinstance(getattr(settle, "__self__", None), Node):
            super().attach(settle)

    def detach(self, settle: Callable[[], Awaitable[None]]) -> None:
        pass


def api_result(body: str = "null", status: int = 200, headers: dict[str, str] | None = None) -> dict[str, Json]:
    """The answer of an endpoint, as SDKs tell it."""
    told = {"content-type": "application/json"} | (headers or {})
    return {"status": status, "headers": told, "body": body, "version": 2}


def complete(data: Json = None) -> dict[str, Json]:
    """The operation that ends a run."""
    return {"op": "RunComplete", "id": COMPLETE, "data": api_result() if data is None else data}


def thrown(final: bool = False) -> dict[str, Json]:
    """What an SDK reports of an error outside of steps while it answers the first request."""
    return {"op": "StepFailed" if final else "StepError", "id": COMPLETE, "error": {}}


def sleep(step: str, span: str) -> dict[str, Json]:
    return op("Sleep", step) | {"name": span}


def ended(data: Json = None) -> Reply:
    """An answer to a repeated request, which ends the run: no list, but the operation itself."""
    return Reply(206, ops().headers, ops(complete(data)).body[1:-1])


class EndpointWorld:
    """A server, its clock, and the app of a test. `calls` are the requests that the server made again."""

    def __init__(self, node: Node, clock: VirtualClock, answer: Answer) -> None:
        self.node, self.clock = node, clock
        self.calls: list[Call] = []
        self.guard = Guard()
        self._answer = answer
        self.app = make_app(node, self.guard)
        self.http = self.client()
        node.endpoints._transport = self  # type: ignore[assignment]
        clock.attach(self.rest)

    def client(self, guard: Guard | None = None, host: str = "perdure") -> httpx2.AsyncClient:
        """A client of the server behind a guard."""
        transport = httpx2.ASGITransport(make_app(self.node, guard or self.guard))
        return httpx2.AsyncClient(transport=transport, base_url=f"http://{host}", timeout=20)

    async def call(self, call: Call) -> Reply:
        self.calls.append(call)
        answer = self._answer(call)
        return answer if isinstance(answer, Reply) else await answer

    def id(self) -> str:
        """An id for a run."""
        return self.node.decider.ids()

    def body(self, run_id: str, *steps: Json, retries: int = 3, **request: Json) -> dict[str, Json]:
        """A first report."""
        data = {"domain": DOMAIN, "method": "GET", "path": "/f", "query_params": "", "body": "", "fn": "", **request}
        event = {"name": "inngest/http.request", "data": data}
        return {"run_id": run_id, "event": event, "steps": list(steps), "retries": retries, "request_version": 2}

    async def begin(self, *steps: Json, status: int = 200, **request: Json) -> str:
        """Begins a run by its first report; returns its id."""
        run_id = self.id()
        await self.post("/v1/checkpoint", self.body(run_id, *steps, **request), status)
        return run_id

    async def report(self, run_id: str, *steps: Json, status: int = 200) -> Json:
        """Reports on."""
        return await self.post(f"/v1/checkpoint/{run_id}/steps", {"run_id": run_id, "steps": list(steps)}, status)

    async def post(self, path: str, body: Json, status: int = 200) -> Json:
        response = await self.http.post(path, json=body)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    async def token(self, run_id: str, **request: Json) -> str:
        """The token of a run: what a repeated first report is told."""
        told: str = (await self.post("/v1/checkpoint", self.body(run_id, **request)))["data"]["token"]
        return told

    async def rest(self) -> None:
        """Waits until nothing moves but apps that still answer a first request."""
        quiet = 0
        while quiet < 5:
            residents = self.node.runner._residents.values()
            moves = self.node.decider.deciding or self.node.runner._loading or self.node.runner._due.is_set()
            busy = moves or any(resident._tasks for resident in residents)
            quiet = 0 if busy else quiet + 1
            await asyncio.sleep(0.0005)

    async def run(self, run_id: str) -> Run:
        """The run, once everything is at rest."""
        await self.rest()
        found = await self.node.view(lambda: reads.run_by_id(run_id))
        assert found is not None
        return found

    async def output(self, run_id: str) -> Json:
        """What came of a run that has ended."""
        found = await self.run(run_id)
        assert found.output is not None, found
        return decode(found.output)

    async def steps(self, run_id: str) -> dict[str, Step]:
        """The steps of a run by name."""
        return {step.name: step for step in await self.node.view(lambda: reads.steps_of(run_id))}


def never(call: Call) -> Reply:
    """An app that is not to be called."""
    raise AssertionError(f"called: {call.method} {call.url}")


@asynccontextmanager
async def endpoint_world(
    answer: Answer = never,
    db: str | Path = ":memory:",
    **options: Unpack[NodeOptions],
) -> AsyncGenerator[EndpointWorld, None]:
    """A started server, and what the app answers to repeated requests."""
    defaults: NodeOptions = {"clock": _Clock(), "shutdown_timeout": 0.1}
    defaults.update(options)
    clock = defaults["clock"]
    assert isinstance(clock, VirtualClock)
    node = make_node([], db, **defaults)
    world = EndpointWorld(node, clock, answer)
    await node.start()
    try:
        yield world
    finally:
        await node.stop()
        await world.http.aclose()
