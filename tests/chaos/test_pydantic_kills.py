"""An agent of pydantic-ai, made durable and killed at every point: as `test_agent_kills`, for that body."""

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
    with template("tests.chaos.pydantic_worker") as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(workers: Template, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Case(tmp_path_factory.mktemp("pydantic") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert case.begun == Counter(["llm:0", "llm:1", "tool:call_1", "tool:call_2"])
    assert end["text"] == "The tools said call_1=3call_2={'refunded': 5}"
    assert [said["type"] for _, _, said in end["chunks"]][-2:] == ["step-finish", "finish"]
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: Template, undisturbed: dict[str, Json], when: str) -> None:
    assert kill_at_each_commit(lambda name: Case(tmp_path / name, workers), undisturbed, when, 5) > 10


@pytest.mark.parametrize("chunk", [1, 3, 5, 6, 8])
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
