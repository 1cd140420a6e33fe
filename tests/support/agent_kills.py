"""What the tests that kill durable agents share: a database through the lives of its workers, and what must hold.

A `Case` is one database. Each of its lives is a process (`tests.chaos.*_worker`) that is killed at a point, or comes to
the end. Whatever the point: what is recorded was never done again, and what was heard, and what came of the run, are
as if nobody had been killed.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
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
AGAIN_AND_AGAIN: list[dict[str, Json]] = [
    *({"chunk": 3}, {"at": "in add"}, {"commit": 4}, {"at": "suspended"}, {"at": "in refund"}, {"chunk": 2}),
]
MARKS = [
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed by signals"),
]
_VOLATILE = frozenset({"startedAt", "completedAt", "timestamp", "createdAt"})
_NAMES = {step_hash(name): name for name in STEPS}
_RECORDED = (
    "SELECT step.id FROM step JOIN run ON run.id = run_id"
    " WHERE ?1 IN ('', function_id) AND (step.status = 2 OR data IS NOT NULL)"
)


class Case:
    """One database through its lives. The steps that are looked at are those of runs of `function`, or of all.

    `same` are the parts of the end that are compared.
    """

    function = "chaos-agent-desk"
    same: tuple[str, ...] = ("text", "reason", "messages")

    def __init__(self, folder: Path, workers: Template, database: Path | None = None) -> None:
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
        self._recorded.append((self._lives, self.recorded(self._hashes())))
        return ended != 0

    def _hashes(self) -> list[str]:
        """The hashes of the steps that the database has a result of."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            try:
                return [row[0] for row in connection.execute(_RECORDED, (self.function,))]
            except sqlite3.OperationalError:
                return []

    def recorded(self, hashes: list[str]) -> set[str]:
        """What must not be done again, once these steps are recorded."""
        return {_NAMES[each] for each in hashes if each in _NAMES}

    @property
    def begun(self) -> Counter[str]:
        """How often each model call and each tool was begun."""
        return Counter(line.split()[1] for line in lines(self.folder / "ledger") if line.startswith("begin"))

    @property
    def repeated(self) -> list[str]:
        """The model calls and tools that were begun more than once."""
        return [name for name, times in self.begun.items() if times > 1]

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
        assert {part: timeless(end[part]) for part in self.same} == {
            part: timeless(undisturbed[part]) for part in self.same
        }
        assert self.shown(end["chunks"]) == self.shown(undisturbed["chunks"])
        heard = [msgspec.json.decode(line) for line in lines(self.folder / "heard")]
        while len(heard) > 1 and heard[-1] == heard[-2]:
            # Who comes again after the end is told of the end.
            heard.pop()
        places = [place for place, _, _ in heard]
        assert places == sorted(set(places)), "told twice, or out of order"
        assert self.shown(standing(heard)) == self.shown(undisturbed["chunks"])

    def shown(self, chunks: list[Json]) -> list[Json]:
        """Chunks in an order that does not depend on which of two tools was faster."""
        plain = [[STEPS.index(_NAMES[step]) if step in _NAMES else -1, timeless(said)] for _, step, said in chunks]
        return sorted(plain, key=lambda item: item[0])


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


def timeless(value: Json) -> Json:
    """A value without the times that are in it."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in _VOLATILE}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def kill_at_each_commit(made: Callable[[str], Case], undisturbed: dict[str, Json], when: str, stride: int) -> int:
    """A case for each commit, or each `stride`-th where there is little time; how many commits there are."""
    commit = 0
    while True:
        commit += 1 if THOROUGH else stride
        case = made(str(commit))
        killed = case.live(commit=commit, when=when)
        if killed:
            assert not case.live()
        case.check(undisturbed)
        if not killed:
            return commit


def kill_once(case: Case, undisturbed: dict[str, Json], **how: Json) -> None:
    """A life that is killed, and one that takes up the run."""
    assert case.live(**how)
    assert not case.live()
    case.check(undisturbed)


def kill_again_and_again(case: Case, undisturbed: dict[str, Json], hows: list[dict[str, Json]]) -> None:
    """Lives that are killed one after another, and one that takes up the run."""
    for how in hows:
        case.live(**how)
    assert not case.live()
    case.check(undisturbed)
