"""Steps that the journal itself gives up: the run still ends, and says why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from perdure.agents.bare import BareJournal, ChunkLog
from perdure.agents.chunks import Chunk
from perdure.agents.journal import Delegation, StepScope
from perdure.agents.loop import run_loop
from perdure.agents.starting import prepare_start
from perdure.agents.state import RunResult
from perdure.agents.tools import tool
from perdure.model.errors import ErrorInfo, StepError
from perdure.model.json import Json
from perdure.testing.script import ToolCall, Turn
from tests.support.agent_runs import kinds, no_pause, only, scripted


@tool
def add(x: int) -> int:
    """Adds."""
    return x + 1


class Failing(BareJournal):
    """A journal in which a step fails for reasons of its own, as one whose result is too large to be kept."""

    fails = ""

    async def step(self, id: str, call: Callable[[StepScope], Awaitable[Json]], **options: Json) -> Json:
        if id == self.fails:
            raise StepError(id, ErrorInfo("TooLargeError", "it is too large"))
        return await super().step(id, call, **options)


async def with_failing_step(step_id: str, *turns: Turn) -> tuple[list[Chunk], RunResult]:
    agent, _ = scripted(*turns, tools=[add])
    start = prepare_start(agent, "go", {}, new_id="run-0", now=0)
    log = ChunkLog()

    async def never(journal: BareJournal, delegation: Delegation) -> Json:
        raise AssertionError(delegation.key)

    journal = Failing("run-0", log, lambda: 0, delegate=never, sleep=no_pause)
    journal.fails = step_id
    return log.chunks, await run_loop(agent, journal, start.request)


async def test_a_step_of_a_tool_that_cannot_be_recorded() -> None:
    said, result = await with_failing_step("tool:c1", [ToolCall("add", {"x": 1}, "c1")], "I see")
    assert only(said, "tool-error")[0]["error"] == {"name": "TooLargeError", "message": "it is too large"}
    assert result.text == "I see"


async def test_a_step_of_a_model_that_cannot_be_recorded() -> None:
    said, result = await with_failing_step("llm:0", "never")
    assert kinds(said) == "start step-start error step-finish finish"
    assert (result.finish_reason, result.error) == ("error", {"name": "TooLargeError", "message": "it is too large"})
    said, result = await with_failing_step("llm:1", [ToolCall("add", {"x": 1}, "c1")], "never")
    assert kinds(said).endswith("tool-result step-finish step-start error step-finish finish")
    assert result.finish_reason == "error"
