"""Runs of apps on other servers: whatever an app, the network and the machine do, they end with the right result.

Programs of steps are carried out by a model app, while the node that calls it crashes at commits that chance chooses.
And what apps answer is fuzzed: nothing that can be sent stops a run for good, or hands it back with a defect.
"""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from perdure.model.json import decode
from perdure.model.records import StepStatus
from tests.support.crashing_store import When
from tests.support.model_app import Item, Program, Stage
from tests.support.remote_app import sha
from tests.support.remote_world import RemoteWorld

_RUNS = st.builds(Item, st.just("run"), st.integers(0, 2), st.booleans())
_WAITS = st.builds(Item, st.sampled_from(["sleep", "wait", "signal"]), seconds=st.sampled_from([0, 1, 60, 100_000]))
_OTHERS = st.builds(Item, st.sampled_from(["invoke", "fetch"]), st.integers(0, 2))
_ITEMS = st.one_of(_RUNS, _RUNS, _WAITS, _OTHERS)
_STAGES = st.builds(Stage, st.lists(_ITEMS, min_size=1, max_size=3).map(tuple), st.booleans())
PROGRAMS = st.builds(
    Program, st.lists(_STAGES, min_size=1, max_size=5).map(tuple),
    st.sampled_from([1, 2]), st.booleans(), st.integers(0, 3),
)  # fmt: skip
WHEN: st.SearchStrategy[When] = st.sampled_from(["before", "after"])
CRASHES = st.lists(st.tuples(st.integers(0, 15), WHEN), max_size=4)
DOINGS = st.lists(st.sampled_from(["go", "second", "hour", "restart", "crash"]), max_size=4)

THOROUGH = settings.get_current_profile_name() == "ci"
EXAMPLES = int(os.environ.get("PERDURE_REMOTE_EXAMPLES", "1000" if THOROUGH else "100"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
    # Explaining a failure takes longer than finding it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)


class _Complaints(logging.Handler):
    """What perdure logs as an error while the block lasts."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))

    def __enter__(self) -> list[str]:
        logging.getLogger("perdure").addHandler(self)
        return self.heard

    def __exit__(self, *_: object) -> None:
        logging.getLogger("perdure").removeHandler(self)


def finish(world: RemoteWorld) -> None:
    """Lets everything happen that is due, however far away."""
    for _ in range(20):
        if world.run(world.node.drain()):
            return
    raise AssertionError("it never comes to rest")


def do(world: RemoteWorld, doing: str) -> None:
    if doing == "go":
        world.run(world.go())
    elif doing == "restart":
        world.restart()
    elif doing == "crash":
        world.crash()
    else:
        world.run(world.clock.advance("1s" if doing == "second" else "1h"))


def wrong_memos(world: RemoteWorld, run_id: str) -> list[str]:
    """What is not recorded of a program as it was to be."""
    found: list[str] = []
    memos = world.memos(run_id)
    for stage in world.app.stages:
        known = [named for named in stage if sha(named.name) in memos]
        if len(known) < (1 if stage[0].race else len(stage)):
            found.append(f"of {stage} only {known} is recorded")
        for named in known:
            status, data = memos[sha(named.name)]
            failed = status == StepStatus.FAILED
            kind = named.item.kind
            wanted = {"run": named.name, "fetch": named.name, "invoke": "child", "sleep": None}.get(kind, ...)
            if failed != (named.item.final and kind == "run") or (not failed and wanted not in (..., decode(data))):
                found.append(f"the memo of {named} is {data!r}")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@SETTINGS
@given(program=PROGRAMS, seed=st.integers(0, 2**32), crashes=CRASHES, doings=DOINGS)
def test_every_program_ends_right(
    program: Program, seed: int, crashes: list[tuple[int, When]], doings: list[str]
) -> None:
    world = RemoteWorld(seed, program)
    try:
        with _Complaints() as complaints:
            for crash in crashes[:1]:
                world.crash_at(*crash)
            while not world.run(world.trigger("once")):
                pass
            for number, doing in enumerate(doings, 1):
                for crash in crashes[number : number + 1]:
                    world.crash_at(*crash)
                do(world, doing)
                assert world.at_rest() == []
            finish(world)
        assert world.at_rest() + world.at_the_end() == []
        ((run_id,),) = world.rows("SELECT id FROM run WHERE function_id = 'app-f'")
        assert wrong_memos(world, run_id) == []
        assert complaints == []
    finally:
        world.close()
