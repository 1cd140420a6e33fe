"""What may be shown when chunks can be taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.client import Commit, Data, Metadata, Rollback, RollbackBuffer, StreamEvent


def after(*events: StreamEvent) -> RollbackBuffer:
    buffer = RollbackBuffer()
    for event in events:
        buffer.add(event)
    return buffer


def test_a_step_that_is_retried_is_shown_once() -> None:
    buffer = after(Metadata("R"), Data("hel", "a"), Rollback("a"), Data("hello", "a"), Commit("a"), Rollback("a"))
    assert (buffer.chunks, buffer.committed, buffer.pending, buffer.text) == (["hello"], ["hello"], [], "hello")


def test_parallel_steps_do_not_touch_one_another() -> None:
    buffer = after(Data(1, "a"), Data(2, "b"), Data(3, "a"), Rollback("a"), Data(4, "b"), Data(5, "a"))
    assert buffer.chunks == buffer.pending == [2, 4, 5]
    buffer.add(Commit("b"))
    assert (buffer.committed, buffer.pending) == ([2, 4], [5])


def test_what_is_pushed_outside_of_steps_stands() -> None:
    buffer = after(Data("x"), Data("y", "a"), Rollback("a"))
    assert buffer.chunks == buffer.committed == ["x"]


def test_without_a_step_all_are_meant() -> None:
    assert after(Data(1, "a"), Data(2, "b"), Commit(), Data(3, "c"), Rollback()).chunks == [1, 2]


def test_a_step_that_speaks_again_after_its_commit_replaces_what_it_said() -> None:
    assert after(Data("lost", "a"), Commit("a"), Data("b", "b"), Data("new", "a"), Commit("a")).chunks == ["b", "new"]


def test_chunks_that_are_no_text_are_not_in_the_text() -> None:
    assert after(Data("a"), Data({"n": 1}), Data("b")).text == "ab"


STEPS = st.sampled_from(["a", "b", "c"])
EVENTS = st.one_of(st.builds(Data, st.integers(), STEPS), st.builds(Commit, STEPS), st.builds(Rollback, STEPS))


@given(st.lists(EVENTS))
def test_each_step_is_as_if_it_were_alone(events: list[StreamEvent]) -> None:
    together = after(*events)
    assert sorted(together.chunks) == sorted(together.committed + together.pending)
    alone = [after(*(e for e in events if not isinstance(e, Metadata) and e.step == step)) for step in "abc"]
    assert sorted(together.chunks) == sorted(chunk for buffer in alone for chunk in buffer.chunks)
    assert sorted(together.pending) == sorted(chunk for buffer in alone for chunk in buffer.pending)
