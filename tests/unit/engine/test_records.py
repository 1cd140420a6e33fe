"""The short way of a finished step: nothing of it is recorded without the lease."""

from __future__ import annotations

from collections.abc import Generator

from perdure.engine import advance
from perdure.engine.mutations import ChooseVersion, Mutation, RecordStep
from perdure.engine.turn import Lease, Read
from perdure.model.ops import STEP_RUN, Op


def written(decision: Generator[Read | Mutation, int, bool], changed: int) -> tuple[list[type[Read | Mutation]], bool]:
    """What a decision asks for, each of which changes so many rows, and what it returns."""
    kinds: list[type[Read | Mutation]] = []
    try:
        item = next(decision)
        while True:
            kinds.append(type(item))
            item = decision.send(changed)
    except StopIteration as stop:
        return kinds, stop.value


def test_the_version_that_an_app_chose_is_kept_under_the_lease_alone() -> None:
    step = Op(STEP_RUN, "a", "a", data=b"1")
    held = written(advance.record(Lease("r", "n", 1), "r", 1, step, 2), changed=1)
    assert held == ([RecordStep, ChooseVersion], True)
    lost = written(advance.record(Lease("r", "n", 1), "r", 1, step, 2), changed=0)
    assert lost == ([RecordStep], False)
