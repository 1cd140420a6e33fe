"""A defect of perdure itself costs a run time, never its state, and is not met again and again without a pause."""

from __future__ import annotations

from perdure.apps.transport import Reply
from perdure.model.limits import SECOND
from perdure.testing import VirtualClock
from tests.support.remote_app import Received, RemoteApp, calling, reply


async def test_a_run_is_taken_up_again_after_a_pause() -> None:
    def answer(_: Received) -> Reply:
        if len(app.calls) < 3:
            raise RuntimeError("nobody expected it")
        return reply("ok")

    app, clock = RemoteApp(answer), VirtualClock()
    async with calling(app, clock=clock) as node:
        began = clock.now()
        run = await node.trigger("app-f")
        await node.settle()
        assert len(app.calls) == 1
        await node.drain()
        assert await run.result(timeout=0) == "ok"
        assert clock.now() == began + 20 * SECOND
        assert (await node.health()).leaked_slots == []
