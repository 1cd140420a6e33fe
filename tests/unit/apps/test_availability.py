"""Functions of workers over restarts: their runs wait until a worker is there, and functions elsewhere do not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import embedded
from perdure.apps.connections import Group, Worker
from perdure.apps.workers import WorkerPool
from perdure.model.errors import StoreError
from perdure.model.records import RunStatus
from perdure.node import Node
from perdure.testing import VirtualClock
from perdure.wire import connect as wire
from perdure.wire.connect import Kind, Status
from perdure.wire.registration import Registration, registration_of

WORKED = "shop-worked"


def registration(app: str, url: str) -> Registration:
    name = "worked" if app == "shop" else "served"
    step = {"id": "step", "name": "step", "runtime": {"url": f"{url}?fnId={app}-{name}&stepId=step"}}
    function = {"id": f"{app}-{name}", "name": name, "triggers": [{"event": "go"}], "steps": {"step": step}}
    return registration_of(app, [function], url="", sdk="js:v4.24.0")


class DoneLink:
    """A worker that has done everything at once."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.worker: Worker | None = None

    def send(self, data: bytes) -> None:
        frame = wire.decode(wire.Frame, data)
        if frame.kind == Kind.GATEWAY_EXECUTOR_REQUEST and self.worker is not None:
            request_id = wire.decode(wire.ExecutorRequest, frame.payload).request_id
            response = wire.SdkResponse(request_id, status=Status.DONE, body=b'"done"')
            asyncio.get_running_loop().call_soon(self.pool.answer, response)

    def close(self, status: int, reason: str) -> None:
        """There is nothing to close."""


def join(node: Node) -> Worker:
    link = DoneLink(node.workers)
    said = wire.WorkerConnect("01HF7YAT000000000000000001", "one")
    worker = link.worker = Worker(said, [Group("hash", "shop", None, (WORKED,), "")], link, node.clock.now())
    node.workers.join(worker)
    node.workers.ready(worker)
    return worker


async def test_runs_of_workers_wait_over_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with embedded([], db=str(tmp_path / "p.db"), clock=clock) as node:
        await node.registry.sync(registration("shop", "wss://connect/"), method="connect")
        await node.registry.sync(registration("other", "http://127.0.0.1:9/api"))
    async with embedded([], db=str(tmp_path / "p.db"), clock=clock) as node:
        assert set(node.runner._codes) == {"other-served"}
        run = await node.trigger(WORKED)
        await clock.advance("1d")
        assert await run.status() == RunStatus.QUEUED
        worker = join(node)
        assert await run.result() == "done"
        node.workers.leave(worker)
        assert set(node.runner._codes) == {"other-served"}


async def test_a_store_that_refuses_for_a_while_makes_no_run_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.apps.availability._PAUSE_AFTER_ERROR", 0)
    async with embedded([], db=str(tmp_path / "p.db")) as node:
        await node.registry.sync(registration("shop", "wss://connect/"), method="connect")
        node.workers.leave(join(node))
        run = await node.trigger(WORKED)
        await node.settle()
        decide, refusals = node.runner.decider.decide, [StoreError("the disk is full")] * 3

        async def refuse(*args: object, **kwargs: object) -> object:
            if refusals:
                raise refusals.pop()
            return await decide(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(node.runner.decider, "decide", refuse)
        join(node)
        assert await run.result() == "done"
        assert not refusals
