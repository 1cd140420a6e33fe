"""A checkpoint is being committed when its call ends: the run goes on when both are settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from perdure.apps.transport import CallError, Reply
from perdure.engine import reads
from perdure.model.json import Json, encode
from perdure.node import Node
from tests.support.remote_app import Received, RemoteApp, calling, done, reply


def hold_commits(node: Node, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the store take nothing until what this returns is called."""
    submit, held = node.store.submit, asyncio.Event()

    async def when_let(begin: Json) -> Json:
        await held.wait()
        return await submit(begin)

    monkeypatch.setattr(node.store, "submit", when_let)
    return held.set


@pytest.mark.parametrize("broken", [True, False], ids=["failed", "answered"])
async def test_a_call_that_ends_while_its_checkpoint_is_committed(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints: list[asyncio.Task[None]] = []

    async def answer(received: Received) -> Reply:
        let = hold_commits(node, monkeypatch)
        body = encode({"request_id": received.request_id, "steps": [done("a", 1)]})
        checkpoints.append(asyncio.create_task(node.checkpoint(received.ctx["run_id"], body)))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, let)
        if broken:
            raise CallError("http_broken_response", "the app crashed")
        return reply({"name": "E", "message": "m"}, 500)

    app = RemoteApp(lambda received: reply("ok") if received.has("a") else answer(received))
    async with calling(app) as node:
        run = await node.trigger("app-f")
        with suppress(TimeoutError):
            await node.drain(timeout=2)
        assert await run.result(timeout=0) == "ok"
        await asyncio.gather(*checkpoints)


async def test_a_checkpoint_that_comes_twice_at_once_is_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A memo is written once: what the run went on with is what a replay will see."""

    async def answer(received: Received) -> Reply:
        let, run_id = hold_commits(node, monkeypatch), received.ctx["run_id"]
        bodies = [encode({"request_id": received.request_id, "steps": [done("a", told)]}) for told in (1, 2)]
        both = asyncio.gather(*(node.checkpoint(run_id, body) for body in bodies))
        asyncio.get_running_loop().call_later(0.01, let)
        await both
        assert [step.data for step in await node.view(lambda: reads.steps_of(run_id))] == [b"1"]
        return reply("ok")

    app = RemoteApp(answer)
    async with calling(app) as node:
        run = await node.trigger("app-f")
        await node.drain(timeout=5)
        assert await run.result(timeout=0) == "ok"
