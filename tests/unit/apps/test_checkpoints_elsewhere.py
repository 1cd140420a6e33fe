"""An app's checkpoints come to any node: the one that made the call gets them."""

from __future__ import annotations

import asyncio

import pytest

from perdure.apps.run import StaleCallError, UnknownRunError
from perdure.apps.transport import Reply
from perdure.engine import reads
from perdure.model.json import encode
from perdure.runner.clock import SystemClock
from tests.support.remote_app import Received, RemoteApp, calling, done, reply

LARGE = "perdure " * 5_000


async def test_a_checkpoint_comes_to_the_node_that_called(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def answer(received: Received) -> Reply:
        run_id = received.ctx["run_id"]
        others = [node for node in (one, other) if node.runner.resident(run_id) is None]
        body = encode({"request_id": received.request_id, "steps": [done("a", LARGE)]})
        await others[0].checkpoint(run_id, body)
        steps = await others[0].view(lambda: reads.steps_of(run_id))
        assert [step.name for step in steps] == ["a"]
        with pytest.raises(StaleCallError, match="given out again"):
            await others[0].checkpoint(run_id, encode({"request_id": "another", "steps": [done("b", 1)]}))
        told.append(run_id)
        return reply("ok")

    app = RemoteApp(answer)
    async with (
        calling(app, db=postgres_url, clock=SystemClock(), lifetime=4) as one,
        calling(app, db=postgres_url, clock=SystemClock(), lifetime=4) as other,
    ):
        for node in (one, other):
            # When another node registers the app, it is made callable here too.
            monkeypatch.setattr(node._remote._http, "call", app.call)
        await asyncio.sleep(0.2)
        runs = [await node.trigger("app-f") for node in (one, other)]
        assert [await run.result(timeout=10) for run in runs] == ["ok", "ok"]
        with pytest.raises(UnknownRunError):
            await other.checkpoint(runs[0].run_id, encode({"request_id": "late", "steps": [done("b", 1)]}))
    assert sorted(told) == sorted(run.run_id for run in runs)
