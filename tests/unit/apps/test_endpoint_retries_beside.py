"""A step that failed beside others while the first request was answered, and how it is tried again."""

from __future__ import annotations

import pytest

from perdure.apps.endpoint import FIRST_RETRY
from perdure.apps.transport import Call, Reply
from perdure.model.records import RunStatus, StepStatus
from tests.support.endpoint_world import ended, endpoint_world
from tests.support.remote_app import done, op, ops, sha

FAILED = op("StepError", "a") | {"error": {"name": "Error", "message": "boom"}}


@pytest.mark.parametrize("again", [True, False], ids=["fails again", "succeeds"])
async def test_an_app_that_asks_for_a_call_of_its_own_for_the_step_gets_one(again: bool) -> None:
    """An app that comes upon the step beside others plans it, for it cannot know that the others are decided."""
    targeted: list[int] = []

    def answer(call: Call) -> Reply:
        if call.headers.get("x-inngest-step-id") == sha("a"):
            targeted.append(int(call.headers["x-inngest-generation-id"]) - 1)
            return ops(FAILED) if again and len(targeted) == 1 else ops(done("a", 1))
        return ended() if len(targeted) == 1 + again else ops(op("StepPlanned", "a"))

    async with endpoint_world(answer, chance=lambda: 0.0) as world:
        run_id = world.id()
        await world.post("/v1/checkpoint", world.body(run_id, done("b", 2), FAILED, retries=3))
        await world.clock.advance(FIRST_RETRY / 1000)
        assert targeted == [1]
        await world.clock.advance("1h")
        assert targeted == [1, 2][: 1 + again]
        assert (await world.run(run_id)).status == RunStatus.COMPLETED
        assert {step.status for step in (await world.steps(run_id)).values()} == {StepStatus.DONE}
        # One to find the step, one for each attempt of it, one for the end.
        assert len(world.calls) == 3 + again
