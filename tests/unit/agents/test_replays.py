"""The loop over a journal that is replayed: wherever a run breaks off, it comes to the same end."""

from __future__ import annotations

import pytest

from perdure.agents.context import ToolContext
from perdure.agents.declared import DeclaredAgent
from perdure.agents.tools import Tool, tool
from perdure.model.json import Json
from perdure.testing.script import ToolCall
from tests.support.agent_replays import Death, add, by_turns, committed, crew, done, run_to_the_end
from tests.support.agent_runs import scripted


async def test_the_steps_of_a_run_have_fixed_ids() -> None:
    done.clear()
    _, rows = await run_to_the_end(crew(), [])
    assert rows.order[:4] == ["llm:0", "tool:c1", "ask:c2", "tool:c2"]
    assert set(rows.order) == {
        *("llm:0", "tool:c1", "ask:c2", "tool:c2", "ask:c2@1", "tool:c2@1"),
        *("llm:1", "tool:c3/first", "tool:c3/second", "tool:c3"),
        *("sub:c4/llm:0", "sub:c4/tool:h1", "sub:c4/llm:1", "tool:c4", "llm:2"),
    }


async def test_a_chat_with_one_tool_is_three_steps() -> None:
    agent, _ = scripted([ToolCall("add", {"x": 1}, "c1")], "two", tools=[add])
    result, rows = await run_to_the_end(agent, [])
    assert rows.order == ["llm:0", "tool:c1", "llm:1"]
    assert result.text == "two"


@pytest.mark.parametrize("deadline", range(1, 48))
async def test_wherever_it_dies_it_ends_the_same(deadline: int) -> None:
    done.clear()
    expected, undisturbed = await run_to_the_end(crew(), [])
    whole = list(done)
    done.clear()
    result, rows = await run_to_the_end(crew(), [deadline])
    assert result == expected
    fold, wanted = committed(rows), committed(undisturbed)
    run_id = "run-0"
    assert [step.message(run_id) for step in fold.steps] == [step.message(run_id) for step in wanted.steps]
    assert (fold.usage, fold.finish_reason) == (wanted.usage, "stop")
    # At most what was going on when it died was done twice.
    assert all(done.count(what) <= whole.count(what) + 1 for what in whole)
    assert len(done) <= len(whole) + 2
    assert [rows.order.count(step_id) for step_id in rows.order] == [1] * len(rows.order)


async def test_what_a_step_recorded_is_not_recorded_again() -> None:
    big = "x" * 2_000

    @tool
    async def read(n: int) -> str:
        """Gives much."""
        return big + str(n)

    turns: list[Json] = [[ToolCall("read", {"n": n}, f"c{n}")] for n in range(10)]
    agent = scripted(model=by_turns([*turns, "done"]), tools=[read], max_steps=20)[0]
    _, rows = await run_to_the_end(agent, [])
    assert len(rows.order) == 21
    written = sum(map(len, rows.steps.values()))
    assert written < 10 * (2_000 + 1_000)


def _interrupted(policy: str) -> tuple[DeclaredAgent, list[int]]:
    count: list[int] = []

    async def charge(args: dict[str, Json], ctx: ToolContext) -> str:
        count.append(ctx.attempt)
        if len(count) == 1:
            raise Death
        return "charged"

    found = Tool("charge", "Charges.", {"type": "object"}, charge, on_crash=policy)  # type: ignore[arg-type]
    return scripted(model=by_turns([[ToolCall("charge", {}, "c1")], "ok"]), tools=[found])[0], count


@pytest.mark.parametrize(
    ("policy", "calls", "state"), [("retry", 2, "result"), ("at_most_once", 1, "output-error"), ("ask", 2, "result")]
)
async def test_a_tool_whose_process_died_in_it(policy: str, calls: int, state: str) -> None:
    agent, count = _interrupted(policy)
    _, rows = await run_to_the_end(agent, [99])
    assert len(count) == calls
    call = committed(rows).steps[0].call_of("c1")
    assert call is not None
    assert call.state == state
    assert ("ask:c1" in rows.order) == (policy == "ask")
