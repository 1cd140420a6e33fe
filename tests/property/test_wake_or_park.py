"""The narrowest moment of all: a run lets go because all in it waits, while what it waits for arrives.

Every moment at which the signal can come is tried with a crash after every commit that follows.
"""

from __future__ import annotations

import asyncio

import pytest

from perdure.model.json import Json
from tests.support.world import World


async def race(world: World, moment: int) -> None:
    """A run begins to wait for a signal beside a step; the signal comes after some turns of the loop."""
    await world.send("racing", 1, key="a", ticks=3)
    for _ in range(moment):
        await asyncio.sleep(0)
    await world.node.signal("race-a")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("commits", [*range(1, 9), None])
def test_a_signal_at_any_moment(commits: int | None, seed: int) -> None:
    wrong: dict[int, list[Json]] = {}
    for moment in range(0, 40):
        world = World(seed)
        if commits is not None:
            world.crash_at(commits, "after")
        world.run(race(world, moment))
        problems = world.problems()
        while not world.run(world.node.drain()):
            pass
        if found := problems + world.problems() + world.remains():
            wrong[moment] = found
        world.close()
    assert wrong == {}
