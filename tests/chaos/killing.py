"""Kills workers, and checks from the ledger and from a copy of the database that nothing was lost or done twice."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from perdure.model.json import Json
from perdure.model.records import RunStatus, StepStatus
from perdure.store.sqlite.driver import STATEMENTS
from tests.chaos.worker import Life, lines

ROOT = Path(__file__).parents[2]
KINDS = ("three", "plain", "retrying", "limited", "single", "sleeping", "waiting", "parent")


class Template:
    """The process that forks the workers; `module` is what they are."""

    def __init__(self, module: str = "tests.chaos.worker") -> None:
        command = [sys.executable, "-m", module]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, life: Life) -> int:
        """Forks a worker; its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(life).decode() + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """How the worker ended: its exit code, or minus the signal that killed it."""
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate(timeout=10)


@contextmanager
def template(module: str = "tests.chaos.worker") -> Generator[Template]:
    made = Template(module)
    try:
        yield made
    finally:
        made.close()


class Workload:
    """One database and its events, through all its workers' lives."""

    def __init__(self, folder: Path, made: Template, events: int) -> None:
        self.folder = folder
        self.kills = 0
        self._template = made
        self._done: set[tuple[str, str]] = set()
        self._read_to = 0
        kinds = [KINDS[n % len(KINDS)] for n in range(events)]
        self.add(
            {"name": f"chaos/{kind}", "id": f"event-{n}", "data": {"n": n, "key": n % 3}}
            for n, kind in enumerate(kinds)
        )

    def add(self, events: object) -> None:
        with (self.folder / "events").open("a") as file:
            for event in events:  # type: ignore[attr-defined]
                file.write(json.dumps(event) + "\n")

    def life(self, **what: Json) -> Life:
        return Life(str(self.folder), **what)

    def start(self, **what: Json) -> int:
        return self._template.start(self.life(**what))

    def kill_after(self, seconds: float) -> bool:
        """A life that is killed after a while; False when it was over before."""
        pid = self.start()
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self._ended(self._template.wait())

    def kill_at_commit(self, commit: int, when: str) -> bool:
        """A life that kills itself at a commit; False when it did not get that far."""
        self.start(commit=commit, when=when)
        return self._ended(self._template.wait())

    def finish(self) -> None:
        """A last life, that nobody disturbs."""
        self.start()
        assert not self._ended(self._template.wait())

    def wait(self) -> int:
        code = self._template.wait()
        self.check()
        return code

    def _ended(self, code: int) -> bool:
        assert code in (0, -signal.SIGKILL), f"a worker failed with {code}"
        self.kills += code != 0
        self.check()
        return code != 0

    # What must hold after each life.

    def check(self) -> None:
        entries = [line.split() for line in lines(self.folder / "ledger")]
        new, self._read_to = entries[self._read_to :], len(entries)
        begun = Counter((run_id, name) for what, run_id, name, _ in new if what == "begin")
        assert [key for key, times in begun.items() if times > 1] == [], "begun twice in one life"
        assert [key for key in begun if key in self._done] == [], "completed, and begun again"
        with self._copy() as copy:
            done = f"SELECT run_id, name FROM step WHERE op = 'StepRun' AND status = {StepStatus.DONE}"
            self._done = set(copy.execute(done).fetchall())
            known = {row[0] for row in copy.execute("SELECT internal_id FROM event")}
            assert [line for line in lines(self.folder / "acknowledged") if line.split()[1] not in known] == [], "lost"
            assert copy.execute(STATEMENTS["orphan_runs"].sql, (9,)).fetchall() == [], "without a next wake-up"
            assert copy.execute(STATEMENTS["leaked_slots"].sql, (9,)).fetchall() == [], "slots leaked"
        ended = {(run_id, name) for what, run_id, name, _ in entries if what == "end"}
        assert self._done <= ended, "recorded without having been done"

    def check_end(self) -> None:
        """Every event was acknowledged, and has one run, which completed with the right result."""
        with self._copy() as copy:
            rows = copy.execute(
                "SELECT json_extract(body, '$.id'), substr(name, 7), status, output FROM event JOIN run"
                " ON event_id = internal_id WHERE event.name LIKE 'chaos/%' AND event.name <> 'chaos/answer'"
            ).fetchall()
            for table in ("job", "pause", "slot", "batch_item"):
                assert copy.execute(f"SELECT * FROM {table}").fetchall() == [], f"left in {table}"
        wanted = {json.loads(line)["id"] for line in lines(self.folder / "events")}
        assert {line.split()[0] for line in lines(self.folder / "acknowledged")} == wanted
        assert sorted(row[0] for row in rows) == sorted(wanted)
        wrong = [row for row in rows if row[2] != RunStatus.COMPLETED or json.loads(row[3]) != RESULTS[row[1]]]
        assert wrong == []

    @contextmanager
    def _copy(self) -> Generator[sqlite3.Connection]:
        # Opening the file itself would recover it before the next worker can.
        copied = self.folder / "copy"
        shutil.rmtree(copied, ignore_errors=True)
        copied.mkdir()
        for file in self.folder.glob("chaos.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copied)
        with closing(sqlite3.connect(copied / "chaos.db")) as connection:
            if connection.execute("PRAGMA user_version").fetchone() == (0,):
                # Killed before the schema was there: then nothing else may be.
                assert not (self.folder / "acknowledged").exists()
                connection.executescript((ROOT / "src/perdure/store/sqlite/schema.sql").read_text())
            yield connection


RESULTS: dict[str, Json] = {
    "three": ["a", "b", "c"],
    "plain": ["a", "b"],
    "retrying": ["a", "b"],
    "limited": ["a", "b"],
    "single": "a",
    "sleeping": ["a", "b"],
    "waiting": ["a"],
    "parent": ["a", "a", "b"],
    "long": ["a", "b"],
}
