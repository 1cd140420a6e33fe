"""What the handle of a run tells whoever waits for it."""

from __future__ import annotations

import pytest

from perdure import App, Context, step
from perdure.testing import in_memory


async def test_a_result_that_does_not_come_in_time_names_the_run() -> None:
    app = App("shop")

    @app.function("wait")
    async def wait(ctx: Context) -> str:
        event = await step.wait_for_event("go", event="shop/go", timeout="1h")
        return "late" if event is None else "went"

    async with in_memory(app) as engine:
        run = await engine.trigger(wait)
        await engine.settle()
        with pytest.raises(TimeoutError, match=f"run {run.run_id} has not ended within 0.001 s; it goes on"):
            await run.result(timeout=0.001)
        await app.send({"name": "shop/go"})
        assert await run.result(timeout=5) == "went"
