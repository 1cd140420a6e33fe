"""A run with a background task killed at every point: what is heard, and what comes of it, are as if it never was."""

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
from tests.chaos.test_agent_kills import THOROUGH, standing
from tests.chaos.worker import lines

VOLATILE = frozenset({"startedAt", "completedAt", "timestamp", "createdAt"})

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed by signals"),
]


class BackgroundTemplate(Template):
    """The process that forks the workers."""

    def __init__(self) -> None:
        super().__init__("tests.chaos.background_worker")


@pytest.fixture(scope="module")
def workers() -> Generator[BackgroundTemplate]:
    made = BackgroundTemplate()
    try:
        yield made
    finally:
        made.close()


class Case:
    """One database through its lives."""

    def __init__(self, folder: Path, workers: BackgroundTemplate) -> None:
        folder.mkdir()
        self.folder = folder
        self._workers = workers
        self._lives = 0
        self._done_by: int | None = None

    def live(self, **how: Json) -> bool:
        """One life; whether it was killed."""
        self._lives += 1
        self._workers.start(Life(str(self.folder), self._lives, **how))  # type: ignore[arg-type]
        ended = self._workers.wait()
        assert ended in (0, -signal.SIGKILL), f"life {self._lives} with {how} ended with {ended}"
        if self._done_by is None and self._tool_is_recorded():
            self._done_by = self._lives
        return ended != 0

    def _tool_is_recorded(self) -> bool:
        """Whether the step in which the task's tool was carried out is recorded, besides the one that began it."""
        with closing(sqlite3.connect(f"file:{self.folder}/chaos.db?mode=ro", uri=True)) as connection:
            try:
                found = connection.execute(
                    "SELECT count(*) FROM step WHERE id = ? AND (status = 2 OR data IS NOT NULL)",
                    (step_hash("tool:call_1"),),
                )
                return bool(found.fetchone()[0] == 2)
            except sqlite3.OperationalError:
                return False

    @property
    def begun(self) -> Counter[str]:
        """How often each model call and the tool were begun."""
        return Counter(line.split()[1] for line in lines(self.folder / "ledger") if line.startswith("begin"))

    def end(self) -> dict[str, Json]:
        found: dict[str, Json] = msgspec.json.decode((self.folder / "end").read_bytes())
        return found

    def check(self, undisturbed: dict[str, Json]) -> None:
        """The end is that of an undisturbed run, and what was heard is what stands."""
        for line in lines(self.folder / "ledger"):
            verb, name, when = line.split()
            late = self._done_by is not None and int(when) > self._done_by
            assert not (verb == "begin" and name == "tool:call_1" and late), "the tool was carried out again"
        end = self.end()
        for what in ("text", "reason", "tasks", "thread"):
            assert plain(end[what]) == plain(undisturbed[what])
        assert shown(end["chunks"]) == shown(undisturbed["chunks"])
        heard = [msgspec.json.decode(line) for line in lines(self.folder / "heard")]
        while len(heard) > 1 and heard[-1] == heard[-2]:
            # Who comes again after the end is told of the end.
            heard.pop()
        places = [place for place, _, _ in heard]
        assert places == sorted(set(places)), "told twice, or out of order"
        assert shown(standing(heard)) == shown(undisturbed["chunks"])


def shown(chunks: list[Json]) -> list[Json]:
    return [plain(said) for _, _, said in chunks]


def plain(value: Json) -> Json:
    """A value without the times that are in it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in VOLATILE}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def undisturbed(workers: BackgroundTemplate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Case(tmp_path_factory.mktemp("background") / "undisturbed", workers)
    assert not case.live()
    end = case.end()
    case.check(end)
    assert case.begun == Counter(["llm:0", "llm:1", "llm:2", "tool:call_1"])
    assert end["tasks"] == [["completed", {"topic": "sun"}]]
    assert [said["type"] for _, _, said in end["chunks"]].count("finish") == 2
    return end


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_commit(
    tmp_path: Path, workers: BackgroundTemplate, undisturbed: dict[str, Json], when: str
) -> None:
    commit = 0
    while True:
        commit += 1 if THOROUGH else 4
        case = Case(tmp_path / str(commit), workers)
        killed = case.live(commit=commit, when=when)
        if killed:
            assert not case.live()
        case.check(undisturbed)
        if not killed:
            break
    assert commit > 10


@pytest.mark.parametrize("chunk", [1, 4, 6, 9, 12])
def test_killed_in_the_middle_of_a_models_stream(
    tmp_path: Path, workers: BackgroundTemplate, undisturbed: dict[str, Json], chunk: int
) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(chunk=chunk)
    assert not case.live()
    case.check(undisturbed)


@pytest.mark.parametrize("at", ["in research", "after research", "waiting", "finish"])
def test_killed_in_the_task_while_it_is_waited_for_and_at_the_end(
    tmp_path: Path, workers: BackgroundTemplate, undisturbed: dict[str, Json], at: str
) -> None:
    case = Case(tmp_path / "case", workers)
    assert case.live(at=at)
    assert not case.live()
    case.check(undisturbed)
    # Only a task that was cut off before its result was recorded is carried out once more.
    assert case.begun["tool:call_1"] == (1 if at == "finish" else 2)


def test_killed_again_and_again(tmp_path: Path, workers: BackgroundTemplate, undisturbed: dict[str, Json]) -> None:
    case = Case(tmp_path / "case", workers)
    for how in ({"chunk": 3}, {"commit": 5}, {"at": "waiting"}, {"at": "after research"}, {"chunk": 2}):
        case.live(**how)
    assert not case.live()
    case.check(undisturbed)
