"""A durable agent killed at every point: what is heard and what comes of it are as if nobody had been killed.

Each case is a database of its own, one life that ends by SIGKILL at a point, and one that takes up the run.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from perdure.model.ids import step_hash
from perdure.model.json import Json
from tests.chaos.agent_worker import Life
from tests.chaos.killing import Template
from tests.chaos.worker import lines

THOROUGH = bool(os.environ.get("CI"))
STEPS = ["llm:0", "tool:call_1", "ask:call_2", "tool:call_2", "llm:1"]
VOLATILE = frozenset({"startedAt", "timestamp"})

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed by signals"),
]


class AgentTemplate(Template):
    """The process that forks the workers."""

    def __init__(self, module: str = "tests.chaos.agent_worker") -> None:
        super().__init__(module)


@pytest.fixture(scope="module")
def workers() -> Generator[AgentTemplate]:
    made = AgentTemplate()
    try:
        yield made
    finally:
        made.close()


_RECORDED = (
    "SELECT step.id FROM step JOIN run ON run.id = run_id"
    " WHERE function_id = ? AND (step.status = 2 OR data IS NOT NULL)"
)


class Case:
    """One database through its lives. The steps that are looked at are those of runs of the function `function`."""

    function = "chaos-agent-desk"

    def __init__(self, folder: Path, workers: AgentTemplate, database: Path | None = None) -> None:
        folder.mkdir()
        self.folder = folder
        self._database = database or folder / "chaos.db"
        self._workers = workers
        self._lives = 0
        self._recorded: list[tuple[int, set[str]]] = []

    def live(self, **how: Json) -> bool:
        """One life; whether it was killed."""
        self._lives += 1
        self._workers.start(Life(str(self.folder), self._lives, **how))  # type: ignore[arg-type]
        ended = self._workers.wait()
        assert ended in (0, -signal.SIGKILL), f"life {self._lives} with {how} ended with {ended}"
        self._recorded.append((self._lives, self._steps()))
        return ended != 0

    def _steps(self) -> set[str]:
        """The steps that the database has a result of."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            try:
                hashes = {row[0] for row in connection.execute(_RECORDED, (self.function,))}
            except sqlite3.OperationalError:
                return set()
        return {name for name in STEPS if step_hash(name) in hashes}

    @property
    def begun(self) -> Counter[str]:
        """How often each model call and each tool was begun."""
        return Counter(line.split()[1] for line in lines(self.folder / "ledger") if line.startswith("begin"))

    def end(self) -> dict[str, Json]:
        found: dict[str, Json] = msgspec.json.decode((self.folder / "end").read_bytes())
        return found

    def check(self, undisturbed: dict[str, Json]) -> None:
        """What is recorded was never done again, and what was heard is what stands."""
        for life, recorded in self._recorded:
            for line in lines(self.folder / "ledger"):
                verb, name, when = line.split()
                assert not (verb == "begin" and int(when) > life and name in recorded), f"{name} was done again"
        end = self.end()
        assert shown(end["chunks"]) == shown(undisturbed["chunks"])
        assert (end["text"], end["reason"], end["messages"]) == (
            undisturbed["text"],
            undisturbed["reason"],
            undisturbed["messages"],
        )
        heard = [msgspec.json.decode(line) for line in lines(self.folder / "heard")]
        while len(heard) > 1 and heard[-1] == heard[-2]:
            # Who comes again after the end is told of the end.
            heard.pop()
        places = [place for place, _, _ in heard]
        assert places == sorted(set(places)), "told twice, or out of order"
        assert shown(standing(heard)) == shown(undisturbed["chunks"])


def standing(heard: list[Json]) -> list[Json]:
    """What stands of the chunks that were heard."""
    kept: list[Json] = []
    for place, step, said in heard:
        if said["type"] == "step-rollback":
            first = said["payload"]["fromIndex"]
            kept = [item for item in kept if item[1] != step or item[0] < first]
        else:
            kept.append([place, step, said])
    return kept


def shown(chunks: list[Json]) -> list[Json]:
    """Chunks in an order that does not depend on which of two tools was faster, without what times they name."""
    plain = []
    for _, step, said in chunks:
        payload = {key: value for key, value in (said.get("payload") or {}).items() if key not in VOLATILE}
        plain.append([STEPS.index(_NAMES[step]) if step in _NAMES else -1, {**said, "payload": payload}])
    return sorted(plain, key=lambda item: item[0])


_NAMES = {step_hash(name): name for name in STEPS}


@pytest.fixture(scope="module")
def undisturbed(workers: AgentTemplate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Case(tmp_path_factory.mktemp("agents") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert case.begun == Counter(["llm:0", "llm:1", "tool:call_1", "tool:call_2"])
    assert [said["type"] for _, _, said in end["chunks"]][-2:] == ["step-finish", "finish"]
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(tmp_path: Path, workers: AgentTemplate, undisturbed: dict[str, Json], when: str) -> None:
    commit = 0
    while True:
        commit += 1 if THOROUGH else 3
        case = Case(tmp_path / str(commit), workers)
        killed = case.live(commit=commit, when=when)
        if killed:
            assert not case.live()
        case.check(undisturbed)
        if not killed:
            break
    assert commit > 10


@pytest.mark.parametrize("chunk", [1, 2, 5, 9, 11, 12, 14])
def test_killed_in_the_middle_of_a_models_stream(
    tmp_path: Path, workers: AgentTemplate, undisturbed: dict[str, Json], chunk: int
) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(chunk=chunk)
    assert not case.live()
    case.check(undisturbed)
    # The call that was cut off was made once more, and no other.
    assert sorted(case.begun.values()) == [1, 1, 1, 2]


@pytest.mark.parametrize("at", ["in add", "after add", "in refund", "after refund", "suspended", "finish"])
def test_killed_in_tools_questions_and_at_the_end(
    tmp_path: Path, workers: AgentTemplate, undisturbed: dict[str, Json], at: str
) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(at=at)
    assert not case.live()
    case.check(undisturbed)
    repeated = [name for name, times in case.begun.items() if times > 1]
    assert repeated == {"add": ["tool:call_1"], "refund": ["tool:call_2"]}.get(at.split()[-1], [])


def test_killed_again_and_again(tmp_path: Path, workers: AgentTemplate, undisturbed: dict[str, Json]) -> None:
    case = Case(tmp_path / "case", workers)
    for how in ({"chunk": 3}, {"at": "in add"}, {"commit": 4}, {"at": "suspended"}, {"at": "in refund"}, {"chunk": 2}):
        case.live(**how)
    assert not case.live()
    case.check(undisturbed)


def test_a_tool_that_must_not_be_done_twice_is_told_to_have_been_interrupted(
    tmp_path: Path, workers: AgentTemplate
) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(at="in add", on_crash="at_most_once")
    assert not case.live(on_crash="at_most_once")
    assert case.begun["tool:call_1"] == 1
    errors = [said for _, _, said in case.end()["chunks"] if said["type"] == "tool-error"]
    assert [found["payload"]["toolCallId"] for found in errors] == ["call_1"]


def test_a_person_is_asked_about_a_tool_that_was_cut_off(tmp_path: Path, workers: AgentTemplate) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(at="in add", on_crash="ask")
    assert not case.live(on_crash="ask")
    # Whoever was asked said yes.
    assert case.begun["tool:call_1"] == 2
    assert case.end()["reason"] == "stop"
