"""A run with a background task killed at every point: what is heard, and what comes of it, are as if it never was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from perdure.model.ids import step_hash
from perdure.model.json import Json
from tests.chaos.killing import Template, template
from tests.support.agent_kills import MARKS, Case, kill_again_and_again, kill_at_each_commit, kill_once, timeless

pytestmark = MARKS


@pytest.fixture(scope="module")
def workers() -> Generator[Template]:
    with template("tests.chaos.background_worker") as made:
        yield made


class Behind(Case):
    """A case whose run has a background task."""

    function = ""
    same = ("text", "reason", "tasks", "thread")

    def recorded(self, hashes: list[str]) -> set[str]:
        """The task's tool, once the step that carried it out is recorded, besides the one that began it."""
        return {"tool:call_1"} if hashes.count(step_hash("tool:call_1")) == 2 else set()

    def shown(self, chunks: list[Json]) -> list[Json]:
        return [timeless(said) for _, _, said in chunks]


@pytest.fixture(scope="module")
def undisturbed(workers: Template, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Behind(tmp_path_factory.mktemp("background") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert case.begun == Counter(["llm:0", "llm:1", "llm:2", "tool:call_1"])
    assert end["tasks"] == [["completed", {"topic": "sun"}]]
    assert [said["type"] for _, _, said in end["chunks"]].count("finish") == 2
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: Template, undisturbed: dict[str, Json], when: str) -> None:
    assert kill_at_each_commit(lambda name: Behind(tmp_path / name, workers), undisturbed, when, 4) > 10


@pytest.mark.parametrize("chunk", [1, 4, 6, 9, 12])
def test_killed_in_the_middle_of_a_models_stream(
    tmp_path: Path, workers: Template, undisturbed: dict[str, Json], chunk: int
) -> None:
    case = Behind(tmp_path / "case", workers)
    kill_once(case, undisturbed, chunk=chunk)


@pytest.mark.parametrize("at", ["in research", "after research", "waiting", "finish"])
def test_killed_in_the_task_while_it_is_waited_for_and_at_the_end(
    tmp_path: Path, workers: Template, undisturbed: dict[str, Json], at: str
) -> None:
    case = Behind(tmp_path / "case", workers)
    kill_once(case, undisturbed, at=at)
    # Only a task that was cut off before its result was recorded is carried out once more.
    assert case.begun["tool:call_1"] == (1 if at == "finish" else 2)


def test_killed_again_and_again(tmp_path: Path, workers: Template, undisturbed: dict[str, Json]) -> None:
    case = Behind(tmp_path / "case", workers)
    kill_again_and_again(
        case, undisturbed, [{"chunk": 3}, {"commit": 5}, {"at": "waiting"}, {"at": "after research"}, {"chunk": 2}]
    )
