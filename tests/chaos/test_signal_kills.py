"""An agent that is sent signals while it works, killed at every commit: each signal is taken in, once, in order."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from perdure.model.json import Json
from tests.chaos.agent_worker import Life
from tests.chaos.killing import Template, template
from tests.support.agent_kills import MARKS, THOROUGH

pytestmark = MARKS


@pytest.fixture(scope="module")
def workers() -> Generator[Template]:
    with template("tests.chaos.signal_worker") as made:
        yield made


def lives(workers: Template, folder: Path, *deaths: dict[str, Json]) -> tuple[int, dict[str, Json]]:
    """Lives that end as is said, and one that lives to the end; how many were killed, and what it found."""
    folder.mkdir()
    killed = 0
    for number, how in enumerate([*deaths, {}], 1):
        workers.start(Life(str(folder), number, **how))  # type: ignore[arg-type]
        ended = workers.wait()
        assert ended in (0, -signal.SIGKILL), f"life {number} with {how} ended with {ended}"
        killed += ended != 0
    end: dict[str, Json] = msgspec.json.decode((folder / "end").read_bytes())
    return killed, end


@pytest.fixture(scope="module")
def undisturbed(workers: Template, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    _, end = lives(workers, tmp_path_factory.mktemp("signals") / "undisturbed")
    assert [(role, text) for role, _, text in end["messages"]] == [
        ("user", "!tool report {}"),
        ("assistant", ""),
        ("signal", "fire"),
        ("signal", "flood"),
        ("assistant", end["text"]),
    ]
    assert "flood" in end["text"] and end["left"] == [] and end["runs"] == ["the one"]
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: Template, undisturbed: dict[str, Json], when: str) -> None:
    commit, killed = 0, 1
    while killed:
        commit += 1 if THOROUGH else 3
        killed, end = lives(workers, tmp_path / str(commit), {"commit": commit, "when": when})
        assert end == undisturbed, f"killed {when} commit {commit}"
    assert commit > 10


@pytest.mark.parametrize("how", [{"at": "after report"}, {"chunk": 6}, {"chunk": 8}])
def test_killed_in_the_tool_and_while_the_model_answers(
    tmp_path: Path, workers: Template, undisturbed: dict[str, Json], how: dict[str, Json]
) -> None:
    killed, end = lives(workers, tmp_path / "case", how)
    assert (killed, end) == (1, undisturbed)


def test_killed_again_and_again(tmp_path: Path, workers: Template, undisturbed: dict[str, Json]) -> None:
    deaths: list[dict[str, Json]] = [{"chunk": 2}, {"at": "after report"}, {"commit": 3}, {"chunk": 2}, {"commit": 5}]
    killed, end = lives(workers, tmp_path / "case", *deaths)
    assert killed >= 3
    assert end == undisturbed
