"""ctx.logger says each thing once, however often the handler is replayed."""

from __future__ import annotations

import logging

import pytest

from perdure import App, Context, step
from perdure.model.ids import step_hash
from perdure.model.ops import Memo, OpenStep
from perdure.model.records import StepStatus
from tests.unit.sdk.scripted import ScriptedHost, execution

app = App("shop")


@app.function("f")
async def f(ctx: Context) -> None:
    async def work() -> None:
        ctx.logger.info("in step")

    ctx.logger.info("start")
    await step.run("one", lambda: 1)
    ctx.logger.info("after one")
    await step.run("two", work)
    ctx.logger.info("after two")
    await step.sleep("three", 1)
    ctx.logger.info("end")


DONE = Memo(b"null")
ALL = ["start", "after one", "in step", "after two", "end"]


@pytest.mark.parametrize(
    ("memos", "opened", "said"),
    [
        ([], [], ALL),
        (["one"], [], ALL[1:]),
        (["one", "two"], [], ALL[3:]),
        (["one", "two", "three"], [], ALL[4:]),
        (["one", "two"], ["three"], ALL[3:]),
        # A step that a deploy has removed does not silence the run for ever.
        (["one", "removed"], [], ALL[2:]),
    ],
)
async def test_it_is_silent_until_the_last_recorded_step(
    memos: list[str], opened: list[str], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "perdure.run")
    host = ScriptedHost()
    host.rejoins = {step_hash(name): DONE for name in opened}
    await execution(
        f,
        host,
        memos={step_hash(name): DONE for name in memos},
        opened={step_hash(name): OpenStep(StepStatus.WAITING, 0) for name in opened},
    ).run()
    assert caplog.messages == said


async def test_records_carry_the_run(caplog: pytest.LogCaptureFixture) -> None:
    @App("shop").function("g")
    async def g(ctx: Context) -> None:
        ctx.logger.warning("hot: %d", 7, extra={"sensor": "s1"})

    await execution(g, ScriptedHost()).run()
    (record,) = caplog.records
    assert record.name == "perdure.run"
    assert record.getMessage() == "hot: 7"
    fields = record.__dict__
    assert (fields["run_id"], fields["function_id"], fields["sensor"]) == ("RUN1", "shop-g", "s1")
