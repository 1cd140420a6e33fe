"""SIGKILL, at random moments and at each commit, hundreds of times; the ledger tells what came of it.

PERDURE_CHAOS_KILLS says how many kills there are at least; 200 in CI.
"""

from __future__ import annotations

import os
import random
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.chaos.killing import Template, Workload, template

KILLS = int(os.environ.get("PERDURE_CHAOS_KILLS", "200" if os.environ.get("CI") else "40"))
EVENTS = 64

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed by signals"),
]


@pytest.fixture(scope="module")
def workers() -> Generator[Template]:
    with template() as made:
        yield made


def test_killed_at_random_moments(tmp_path: Path, workers: Template) -> None:
    chance, kills, round_ = random.Random(20261122), 0, 0
    while kills < KILLS // 2:
        (tmp_path / str(round_)).mkdir()
        load = Workload(tmp_path / str(round_), workers, EVENTS)
        round_ += 1
        while kills + load.kills < KILLS // 2 and load.kill_after(chance.uniform(0.02, 0.25)):
            pass
        kills += load.kills
        load.finish()
        load.check_end()
    assert kills >= KILLS // 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: Template, when: str) -> None:
    """Life after life of one database, each killed at its own n-th commit, from the first on."""
    chance, kills, round_ = random.Random(when), 0, 0
    wanted = -(-KILLS // 4)
    while kills < wanted:
        (tmp_path / str(round_)).mkdir()
        load = Workload(tmp_path / str(round_), workers, EVENTS)
        round_ += 1
        commit = 0
        while kills + load.kills < wanted:
            # Each in its turn, and now and then one that lets the work get ahead.
            commit += 1
            if not load.kill_at_commit(commit if commit <= 25 else chance.randint(1, 60), when):
                break
        kills += load.kills
        load.finish()
        load.check_end()
    assert kills >= wanted


def test_the_machinery_sees_a_step_done_twice(tmp_path: Path, workers: Template) -> None:
    """Who checks the checks: a ledger that shows a recorded step beginning again is found out."""
    load = Workload(tmp_path, workers, 8)
    load.finish()
    run_id, name = sorted(load._done)[0]
    with (tmp_path / "ledger").open("a") as ledger:
        ledger.write(f"begin {run_id} {name} 1\n")
    with pytest.raises(AssertionError, match="completed, and begun again"):
        load.check()
