"""However often a run dies, and wherever, it comes to the end of an undisturbed one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.agent_replays import committed, crew, done, run_to_the_end


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=6))
async def test_a_run_that_dies_often_ends_as_one_that_never_does(deadlines: list[int]) -> None:
    done.clear()
    expected, undisturbed = await run_to_the_end(crew(), [])
    whole = list(done)
    done.clear()
    result, rows = await run_to_the_end(crew(), deadlines)
    assert result == expected
    assert sorted(rows.order) == sorted(undisturbed.order)
    fold, wanted = committed(rows), committed(undisturbed)
    assert [step.message("run-0") for step in fold.steps] == [step.message("run-0") for step in wanted.steps]
    # Nothing that was recorded is done again: each death repeats at most what was going on beside each other.
    assert len(whole) <= len(done) <= len(whole) + 2 * len(deadlines)
