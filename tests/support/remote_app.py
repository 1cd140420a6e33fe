"""An app on another server, without the server: a transport that is given what to answer, call by call.

Nodes under a virtual clock call it, so that retries and sleeps of hours pass at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

from perdure.apps.run import RemoteCode
from perdure.apps.transport import Call, Reply
from perdure.embedding import NodeOptions, make_node
from perdure.engine import intake
from perdure.model.config import Concurrency, EventTrigger, FunctionConfig
from perdure.model.json import Json, decode, encode
from perdure.node import Node
from perdure.store.protocol import Store
from perdure.testing import VirtualClock

URL = "http://app.test/api/inngest"


def sha(step: str) -> str:
    """The hash of a step's id."""
    return hashlib.sha1(step.encode()).hexdigest()


class Received:
    """A call as the app sees it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.body: dict[str, Json] = decode(call.body)
        self.ctx: dict[str, Json] = self.body["ctx"]

    @property
    def step(self) -> str:
        """The step that shall run: "step" for a discovery."""
        return self.call.step_id

    @property
    def request_id(self) -> str:
        found: str = self.ctx["request_id"]
        return found

    def memo(self, step: str) -> Json:
        """What the app was given of a step; raises `KeyError` if nothing."""
        return self.body["steps"][sha(step)]

    def has(self, *steps: str) -> bool:
        """Whether there is a memo for each of these."""
        return all(sha(step) in self.body["steps"] for step in steps)


Answer = Callable[[Received], "Reply | Awaitable[Reply]"]


class RemoteApp:
    """A transport whose answers a function gives."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.calls: list[Received] = []

    async def call(self, call: Call) -> Reply:
        received = Received(call)
        self.calls.append(received)
        answer = self._answer(received)
        return answer if isinstance(answer, Reply) else await answer


def reply(body: Json = None, status: int = 200, *, version: int = 2, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer as an SDK gives it; 200 ends the function with `body`."""
    found = {"x-inngest-sdk": "test:v1", "x-inngest-req-version": str(version), **(headers or {})}
    return Reply(status, found, body if isinstance(body, bytes) else encode(body))


def ops(*reported: dict[str, Json], version: int = 2, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer that reports operations."""
    return reply(list(reported), 206, version=version, headers=headers)


def op(kind: str, step: str, data: Json = None, **fields: Json) -> dict[str, Json]:
    """An operation of a step."""
    return {"op": kind, "id": sha(step), "name": step, "displayName": step, "opts": {}, "data": data, **fields}


def done(step: str, data: Json = None, **fields: Json) -> dict[str, Json]:
    """A step that was run."""
    return op("StepRun", step, data, **fields)


def config(name: str = "f", *, retries: int = 3, concurrency: tuple[Concurrency, ...] = ()) -> FunctionConfig:
    """The registration of a function of the app, started by t/{name}."""
    return FunctionConfig(
        f"app-{name}", "app", name, (EventTrigger(f"t/{name}"),), retries, concurrency,
        url=f"{URL}?fnId=app-{name}&stepId=step",
    )  # fmt: skip


async def no_gateway(kind: str, opts: dict[str, Json]) -> bytes:
    """What an app needs that asks for no requests."""
    raise AssertionError(f"{kind} {opts}")


@asynccontextmanager
async def calling(
    app: RemoteApp,
    *configs: FunctionConfig,
    db: str | Path | Store = ":memory:",
    perform: Callable[[str, dict[str, Json]], Awaitable[bytes]] = no_gateway,
    **options: Unpack[NodeOptions],
) -> AsyncGenerator[Node]:
    """A node under a virtual clock that calls the app for its functions (by default the one of `config`)."""
    defaults: NodeOptions = {"clock": VirtualClock(), "shutdown_timeout": 0.1}
    defaults.update(options)
    node = make_node([], db, **defaults)
    await node.start()
    try:
        await register(node, app, *configs, perform=perform)
        yield node
    finally:
        await node.stop()


async def register(
    node: Node,
    app: RemoteApp,
    *configs: FunctionConfig,
    perform: Callable[[str, dict[str, Json]], Awaitable[bytes]] = no_gateway,
) -> None:
    """Puts the functions in force."""
    # A look at what the database says of apps would replace the code below by calls over the network.
    node.runner.neighbours.on_apps = None
    known = list(configs or (config(),))
    await node.register_configs("app", known)
    node.runner.use(RemoteCode(each.id, "app", each.url or "", app, perform) for each in known)
    await node.decide(intake.unblock, known)
