"""The judge of the demo's endpoint finds what it should find, and transcripts keep what was said and not taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perdure.cli.demo.endpoint.evidence import Call, Killing, judge
from perdure.cli.demo.endpoint.transcript import Transcript
from perdure.cli.demo.findings import Finding
from perdure.cli.demo.ledger import Ledger
from perdure.cli.demo.recorded import RecordedStep, Trace
from perdure.cli.demo.show import Show
from perdure.model.json import Json

KILLING = Killing(pid=10, at=100, successor=20)
CLEAN: dict[str, Json] = {"orphans": [], "jobs": {"ready": 0}}
LETTER = "Dear {reader}!"
Entry = tuple[str, str, int, int]
"""Kind, key, process, time."""
GOOD: list[Entry] = [
    ("begun", "npm/write", 10, 10),
    ("failed", "npm/write", 10, 20),
    ("begun", "npm/write", 10, 50),
    ("effect", "npm/write", 10, 60),
    ("begun", "npm/seal", 20, 150),
    ("effect", "npm/seal", 20, 160),
]


def transcript() -> Transcript:
    heard = Transcript("npm", Show())
    heard.metadata("R")
    heard.data("Dear no")
    heard.rollback()
    heard.data("Dear ")
    heard.data("npm!")
    heard.commit()
    heard.answered(200, json.dumps({"letter": "Dear npm!", "written_by": 10, "sealed_by": 20}))
    return heard


def judged(
    folder: Path,
    *,
    heard: Transcript | None = None,
    entries: list[Entry] = GOOD,
    slept: tuple[int, int | None] = (70, 140),
    status: str = "COMPLETED",
    doctor: dict[str, Json] = CLEAN,
) -> list[Finding]:
    path = folder / "ledger"
    lines = [json.dumps(dict(zip(("kind", "key", "pid", "at"), entry, strict=True))) + "\n" for entry in entries]
    path.write_text("".join(lines), encoding="utf-8")
    ledger = Ledger(path)
    ledger.refresh()
    trace = Trace("R", status, 0, 170, None, [RecordedStep("dries", "SLEEP", "COMPLETED", *slept, 0)])
    return judge([Call(heard or transcript(), trace)], ledger, KILLING, doctor, LETTER)


def against(findings: list[Finding]) -> str:
    return "; ".join(found.detail for found in findings if not found.holds)


def test_what_went_well_holds(tmp_path: Path) -> None:
    assert against(judged(tmp_path)) == ""


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (500, "broken", "npm got 500 broken"),
        (200, '{"letter": "Dear npm!", "written_by": 10, "sealed_by": 10}', "npm got 200"),
        (200, "[1]", "npm got 200 [1]"),
    ],
)
def test_an_answer_that_is_not_the_endpoint_s_is_found(tmp_path: Path, status: int, body: str, told: str) -> None:
    heard = transcript()
    heard.answered(status, body)
    assert told in against(judged(tmp_path, heard=heard))


def test_a_caller_without_an_answer_is_found(tmp_path: Path) -> None:
    heard = Transcript("npm", Show())
    heard.failed("it broke off")
    found = against(judged(tmp_path, heard=heard))
    assert "npm got None it broke off" in found and "nobody heard a stream" in found


def test_a_stream_that_was_not_taken_back_is_found(tmp_path: Path) -> None:
    heard = transcript()
    heard.taken_back.clear()
    heard.kept = "Dear noDear npm!"
    assert "npm heard 0 rollbacks, and kept “Dear noDear npm!”" in against(judged(tmp_path, heard=heard))


@pytest.mark.parametrize("slept", [(110, 140), (70, 90), (70, None)])
def test_a_kill_that_missed_the_sleep_is_found(tmp_path: Path, slept: tuple[int, int | None]) -> None:
    assert "npm's run did not sleep then" in against(judged(tmp_path, slept=slept))


def test_a_step_that_began_again_is_found(tmp_path: Path) -> None:
    again: list[Entry] = [*GOOD, ("begun", "npm/write", 20, 120), ("effect", "npm/write", 20, 130)]
    found = against(judged(tmp_path, entries=again))
    assert "npm/write began 3 times and took effect 2 times" in found and "npm/write began after the kill" in found
    twice: list[Entry] = [*GOOD, ("begun", "npm/seal", 20, 170)]
    assert "npm/seal began 2 times" in against(judged(tmp_path, entries=twice))


def test_what_was_left_behind_is_found(tmp_path: Path) -> None:
    assert "npm's run is FAILED" in against(judged(tmp_path, status="FAILED"))
    left: dict[str, Json] = {"orphans": [{"run_id": "R"}], "jobs": {"ready": 2}}
    assert "run R has nothing that wakes it; 2 jobs are ready" in against(judged(tmp_path, doctor=left))


def test_a_transcript_says_what_was_heard(capsys: pytest.CaptureFixture[str]) -> None:
    heard = transcript()
    assert (heard.run_id, heard.kept, heard.taken_back) == ("R", "Dear npm!", ["Dear no"])
    lines = [line.split("npm", 1)[1].strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == ["run R", "“Dear no”  taken back", "“Dear npm!”  kept"]
