"""A durable agent killed at every point: what is heard and what comes of it are as if nobody had been killed.

Each case is a database of its own, one life that ends by SIGKILL at a point, and one that takes up the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from perdure.model.json import Json
from tests.chaos.killing import Template, template
from tests.support.agent_kills import (
    AGAIN_AND_AGAIN,
    MARKS,
    Case,
    kill_again_and_again,
    kill_at_each_commit,
    kill_once,
)

pytestmark = MARKS


@pytest.fixture(scope="module")
def workers() -> Generator[Template]:
    with template("tests.chaos.agent_worker") as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(workers: Template, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Case(tmp_path_factory.mktemp("agents") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert case.begun == Counter(["llm:0", "llm:1", "tool:call_1", "tool:call_2"])
    assert [said["type"] for _, _, said in end["chunks"]][-2:] == ["step-finish", "finish"]
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: Template, undisturbed: dict[str, Json], when: str) -> None:
    assert kill_at_each_commit(lambda name: Case(tmp_path / name, workers), undisturbed, when, 3) > 10


@pytest.mark.parametrize("chunk", [1, 2, 5, 9, 11, 12, 14])
def test_killed_in_the_middle_of_a_models_stream(
    tmp_path: Path, workers: Template, undisturbed: dict[str, Json], chunk: int
) -> None:
    case = Case(tmp_path / "case", workers)
    kill_once(case, undisturbed, chunk=chunk)
    # The call that was cut off was made once more, and no other.
    assert sorted(case.begun.values()) == [1, 1, 1, 2]


@pytest.mark.parametrize("at", ["in add", "after add", "in refund", "after refund", "suspended", "finish"])
def test_killed_in_tools_questions_and_at_the_end(
    tmp_path: Path, workers: Template, undisturbed: dict[str, Json], at: str
) -> None:
    case = Case(tmp_path / "case", workers)
    kill_once(case, undisturbed, at=at)
    assert case.repeated == {"add": ["tool:call_1"], "refund": ["tool:call_2"]}.get(at.split()[-1], [])


def test_killed_again_and_again(tmp_path: Path, workers: Template, undisturbed: dict[str, Json]) -> None:
    case = Case(tmp_path / "case", workers)
    kill_again_and_again(case, undisturbed, AGAIN_AND_AGAIN)


def test_a_tool_that_must_not_be_done_twice_is_told_to_have_been_interrupted(tmp_path: Path, workers: Template) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(at="in add", on_crash="at_most_once")
    assert not case.live(on_crash="at_most_once")
    assert case.begun["tool:call_1"] == 1
    errors = [said for _, _, said in case.end()["chunks"] if said["type"] == "tool-error"]
    assert [found["payload"]["toolCallId"] for found in errors] == ["call_1"]


def test_a_person_is_asked_about_a_tool_that_was_cut_off(tmp_path: Path, workers: Template) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(at="in add", on_crash="ask")
    assert not case.live(on_crash="ask")
    # Whoever was asked said yes.
    assert case.begun["tool:call_1"] == 2
    assert case.end()["reason"] == "stop"
