"""perdure's own functions, in the server's process, and those of real SDK apps call each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.sdk_apps import Fleet, running

pytestmark = pytest.mark.timeout(240)

APP = """
from perdure import App, Context, step

app = App("own")

@app.function("double", trigger="own/double", retries=0)
async def double(ctx: Context) -> dict[str, object]:
    n = ctx.event.data["n"]
    return {"by": "own", "doubled": await step.run("double", lambda: n * 2)}

@app.function("call", trigger="own/call", retries=0)
async def call(ctx: Context) -> object:
    return await step.invoke("call", ctx.event.data["function"], data={"n": ctx.event.data["n"]})

@app.function("tell", trigger="own/tell", retries=0)
async def tell(ctx: Context) -> None:
    await step.send_event("tell", {"name": ctx.event.data["event"], "data": {"key": ctx.event.data["key"]}})
"""


@pytest.fixture
async def fleet(sdks: None, tmp_path: Path) -> AsyncGenerator[Fleet, None]:
    (tmp_path / "own.py").write_text(APP)
    async with running(tmp_path, "own.py", "--no-discovery", "--no-poll", "--retry-interval", "1") as started:
        yield started


@pytest.mark.parametrize("id", ["v4", "py-fastapi"])
async def test_they_call_each_other(fleet: Fleet, id: str) -> None:
    app = await fleet.app(id)
    outcome = await app.result("invoke-other", {"app": "own", "fn": "double", "n": 4})
    assert outcome == {"result": {"by": "own", "doubled": 8}}
    run_id = await fleet.client.invoke("own-call", {"function": f"{id}-child", "n": 5})
    run = await app.ended(run_id)
    assert (run.status, run.output) == ("COMPLETED", {"by": id, "doubled": 10})


async def test_one_waits_for_the_event_of_the_other(fleet: Fleet) -> None:
    app = await fleet.app("v4")
    run_id = await app.begin("wait-match", {"key": "mine"})
    await app.waiting(run_id, "approval")
    await fleet.client.send({"name": "own/tell", "data": {"event": "v4/approved", "key": "mine"}})
    assert (await app.ended(run_id)).output["data"] == {"key": "mine"}
