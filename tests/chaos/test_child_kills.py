"""A durable agent that is killed while a sub-agent works for it: no step of the sub-agent is done again, either."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from perdure.model.json import Json
from tests.chaos.test_agent_kills import THOROUGH, VOLATILE, AgentTemplate, Case, standing
from tests.chaos.worker import lines

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed by signals"),
]


@pytest.fixture(scope="module")
def workers() -> Generator[AgentTemplate]:
    made = AgentTemplate()
    try:
        yield made
    finally:
        made.close()


class Inside(Case):
    """A case whose run hands everything over to a sub-agent."""

    function = "chaos-agent-sub-agents"

    def live(self, **how: Json) -> bool:
        return super().live(inside=True, **how)

    def check(self, undisturbed: dict[str, Json]) -> None:
        """As for `Case`; chunks are compared without their order, as two tools go on beside each other."""
        for life, recorded in self._recorded:
            for line in lines(self.folder / "ledger"):
                verb, name, when = line.split()
                assert not (verb == "begin" and int(when) > life and name in recorded), f"{name} was done again"
        end = self.end()
        assert (end["text"], end["reason"]) == (undisturbed["text"], undisturbed["reason"])
        assert canonical(end["chunks"]) == canonical(undisturbed["chunks"])
        heard = [msgspec.json.decode(line) for line in lines(self.folder / "heard")]
        while len(heard) > 1 and heard[-1] == heard[-2]:
            heard.pop()
        places = [place for place, _, _ in heard]
        assert places == sorted(set(places)), "told twice, or out of order"
        assert canonical(standing(heard)) == canonical(undisturbed["chunks"])


def canonical(chunks: list[Json]) -> list[bytes]:
    """What was said, in an order of its own, without the times that it names."""
    return sorted(msgspec.json.encode(_timeless(said), order="sorted") for _, _, said in chunks)


def _timeless(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in VOLATILE}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def undisturbed(workers: AgentTemplate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Inside(tmp_path_factory.mktemp("agents") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert sorted(case.begun) == ["llm:0", "llm:1", "tool:call_1", "tool:call_2"]
    assert set(case.begun.values()) == {1}
    assert end["reason"] == "stop"
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: AgentTemplate, undisturbed: dict[str, Json], when: str) -> None:
    commit = 0
    while True:
        commit += 1 if THOROUGH else 4
        case = Inside(tmp_path / str(commit), workers)
        killed = case.live(commit=commit, when=when)
        if killed:
            assert not case.live()
        case.check(undisturbed)
        if not killed:
            break
    assert commit > 14


HOW = ({"chunk": 4}, {"chunk": 12}, {"at": "in add"}, {"at": "suspended"}, {"at": "after refund"}, {"at": "finish"})


@pytest.mark.parametrize("how", HOW, ids=str)
def test_killed_while_the_sub_agent_works(
    tmp_path: Path, workers: AgentTemplate, undisturbed: dict[str, Json], how: dict[str, Json]
) -> None:
    case = Inside(tmp_path / "case", workers)
    assert case.live(**how)
    assert not case.live()
    case.check(undisturbed)
