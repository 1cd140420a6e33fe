"""A durable agent that is killed while a sub-agent works for it: no step of the sub-agent is done again, either."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from perdure.model.json import Json
from tests.chaos.killing import Template, template
from tests.support.agent_kills import MARKS, Case, kill_at_each_commit, kill_once, timeless

pytestmark = MARKS


@pytest.fixture(scope="module")
def workers() -> Generator[Template]:
    with template("tests.chaos.agent_worker") as made:
        yield made


class Inside(Case):
    """A case whose run hands everything over to a sub-agent."""

    function = "chaos-agent-sub-agents"
    same = ("text", "reason")

    def live(self, **how: Json) -> bool:
        return super().live(inside=True, **how)

    def shown(self, chunks: list[Json]) -> list[Json]:
        """Chunks in an order of their own, as two tools go on beside each other."""
        return sorted(msgspec.json.encode(timeless(said), order="sorted") for _, _, said in chunks)


@pytest.fixture(scope="module")
def undisturbed(workers: Template, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Inside(tmp_path_factory.mktemp("agents") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert sorted(case.begun) == ["llm:0", "llm:1", "tool:call_1", "tool:call_2"]
    assert set(case.begun.values()) == {1}
    assert end["reason"] == "stop"
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: Template, undisturbed: dict[str, Json], when: str) -> None:
    assert kill_at_each_commit(lambda name: Inside(tmp_path / name, workers), undisturbed, when, 4) > 14


HOW = ({"chunk": 4}, {"chunk": 12}, {"at": "in add"}, {"at": "suspended"}, {"at": "after refund"}, {"at": "finish"})


@pytest.mark.parametrize("how", HOW, ids=str)
def test_killed_while_the_sub_agent_works(
    tmp_path: Path, workers: Template, undisturbed: dict[str, Json], how: dict[str, Json]
) -> None:
    kill_once(Inside(tmp_path / "case", workers), undisturbed, **how)
