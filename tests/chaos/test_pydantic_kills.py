"""An agent of pydantic-ai, made durable and killed at every point: as `test_agent_kills`, for that body."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from perdure.model.json import Json
from tests.chaos.test_agent_kills import THOROUGH, AgentTemplate, Case

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed by signals"),
]


class PydanticTemplate(AgentTemplate):
    """The process that forks the workers."""

    def __init__(self) -> None:
        super().__init__("tests.chaos.pydantic_worker")


@pytest.fixture(scope="module")
def workers() -> Generator[PydanticTemplate]:
    made = PydanticTemplate()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def undisturbed(workers: PydanticTemplate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Case(tmp_path_factory.mktemp("pydantic") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert case.begun == Counter(["llm:0", "llm:1", "tool:call_1", "tool:call_2"])
    assert end["text"] == "The tools said call_1=3call_2={'refunded': 5}"
    assert [said["type"] for _, _, said in end["chunks"]][-2:] == ["step-finish", "finish"]
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(
    tmp_path: Path, workers: PydanticTemplate, undisturbed: dict[str, Json], when: str
) -> None:
    commit = 0
    while True:
        commit += 1 if THOROUGH else 5
        case = Case(tmp_path / str(commit), workers)
        killed = case.live(commit=commit, when=when)
        if killed:
            assert not case.live()
        case.check(undisturbed)
        if not killed:
            break
    assert commit > 10


@pytest.mark.parametrize("chunk", [1, 3, 5, 6, 8])
def test_killed_in_the_middle_of_a_models_stream(
    tmp_path: Path, workers: PydanticTemplate, undisturbed: dict[str, Json], chunk: int
) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(chunk=chunk)
    assert not case.live()
    case.check(undisturbed)
    # The call that was cut off was made once more, and no other.
    assert sorted(case.begun.values()) == [1, 1, 1, 2]


@pytest.mark.parametrize("at", ["in add", "after add", "in refund", "after refund", "suspended", "finish"])
def test_killed_in_tools_questions_and_at_the_end(
    tmp_path: Path, workers: PydanticTemplate, undisturbed: dict[str, Json], at: str
) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(at=at)
    assert not case.live()
    case.check(undisturbed)
    repeated = [name for name, times in case.begun.items() if times > 1]
    assert repeated == {"add": ["tool:call_1"], "refund": ["tool:call_2"]}.get(at.split()[-1], [])


def test_killed_again_and_again(tmp_path: Path, workers: PydanticTemplate, undisturbed: dict[str, Json]) -> None:
    case = Case(tmp_path / "case", workers)
    for how in ({"chunk": 3}, {"at": "in add"}, {"commit": 4}, {"at": "suspended"}, {"at": "in refund"}, {"chunk": 2}):
        case.live(**how)
    assert not case.live()
    case.check(undisturbed)
