"""The demo's judge finds what it should find: a claim that could not fail would prove nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perdure.cli.demo.findings import Finding
from perdure.cli.demo.ledger import Ledger
from perdure.cli.demo.orders.evidence import Followed, Kill, judge, order_of
from perdure.cli.demo.orders.sending import Line
from perdure.cli.demo.orders.timeline import draw
from perdure.cli.demo.recorded import RecordedStep, Trace
from perdure.model.json import Json

EVENT = {"name": "shop/order.created", "data": {"order_id": "order-1", "items": [{"sku": "TEA", "qty": 1}]}}
FULFIL = ["charge", "reserve TEA", "confirm"]
SHIP = ["book carrier", "print label"]
KILLED, ALIVE = 10, 20
CLEAN: dict[str, Json] = {"orphans": [], "leaked_slots": [], "jobs": {"ready": 0}}

Entry = tuple[str, str, int, int]
"""Kind, step, process, time."""


def entries() -> list[Entry]:
    """A good ledger: "charge" is cut off by the kill at 100 and done again."""
    found: list[Entry] = [("begun", "charge", KILLED, 95)]
    for place, step in enumerate(["charge", "reserve TEA", *SHIP, "confirm"]):
        found += [("begun", step, ALIVE, 110 + 10 * place), ("effect", step, ALIVE, 115 + 10 * place)]
    return found


def ledger(folder: Path, written: list[Entry]) -> Ledger:
    lines = [
        json.dumps({"kind": kind, "key": f"order-1/{step}", "pid": pid, "at": at}) for kind, step, pid, at in written
    ]
    path = folder / "ledger.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = Ledger(path)
    found.refresh()
    return found


def followed(fulfil_status: str = "COMPLETED", without: str = "") -> Followed:
    waits = [
        RecordedStep("cooling-off", "SLEEP", "COMPLETED", 50, 130, 0),
        RecordedStep("approval", "WAIT_FOR_EVENT", "COMPLETED", 60, 140, 0),
    ]

    def trace(run_id: str, status: str, names: list[str], more: list[RecordedStep]) -> Trace:
        steps = [RecordedStep(name, "RUN", "COMPLETED", 110, 200, 0) for name in names if name != without]
        return Trace(run_id, status, 40, 210, None, steps + more)

    order = order_of(Line(1, json.dumps(EVENT)), "01EVENT")
    ship = trace("01SHIP", "COMPLETED", SHIP, [])
    return Followed(order, ["01RUN"], trace("01RUN", fulfil_status, FULFIL, waits), ship)


def failing(findings: list[Finding]) -> list[str]:
    return [finding.claim.partition(" (")[0] for finding in findings if not finding.holds]


def judged(folder: Path, written: list[Entry], item: Followed, doctor: dict[str, Json] = CLEAN) -> list[str]:
    kills = [Kill(KILLED, 100)]
    return failing(judge([item], ledger(folder, written), kills, doctor, lines=1, refused=0))


def test_a_good_course_holds_in_every_point(tmp_path: Path) -> None:
    assert judged(tmp_path, entries(), followed()) == []


def test_a_second_effect_is_found(tmp_path: Path) -> None:
    twice: list[Entry] = [*entries(), ("begun", "confirm", ALIVE, 190), ("effect", "confirm", ALIVE, 195)]
    assert judged(tmp_path, twice, followed()) == ["each step took effect exactly once"]


def test_an_effect_that_is_missing_is_found(tmp_path: Path) -> None:
    missing = [entry for entry in entries() if entry[1] != "print label"]
    assert "each step took effect exactly once" in judged(tmp_path, missing, followed())


def test_a_result_that_is_not_recorded_is_found(tmp_path: Path) -> None:
    assert judged(tmp_path, entries(), followed(without="confirm")) == ["each step took effect exactly once"]


def test_a_step_that_begins_again_after_its_recording_is_found(tmp_path: Path) -> None:
    again: list[Entry] = [*entries(), ("begun", "charge", ALIVE, 205), ("repeat", "charge", ALIVE, 206)]
    claims = judged(tmp_path, again, followed())
    assert "no step began again once its result was recorded" in claims
    assert "what was executed more than once has a reason" in claims, "its first caller was not killed"


def test_a_call_that_is_cut_off_without_a_kill_is_found(tmp_path: Path) -> None:
    cut: list[Entry] = [("begun", "confirm", ALIVE, 109), *entries()]
    cut = [entry for entry in cut if entry[:2] != ("effect", "confirm")]
    assert "what was executed more than once has a reason" in judged(tmp_path, cut, followed())


def test_an_order_that_did_not_finish_is_found(tmp_path: Path) -> None:
    assert judged(tmp_path, entries(), followed("FAILED")) == ["every accepted order finished"]


@pytest.mark.parametrize(
    "doctor",
    [
        CLEAN | {"orphans": [{"run_id": "01RUN", "function_id": "shop-fulfil"}]},
        CLEAN | {"leaked_slots": [{"key": "fn:shop-fulfil:0", "owner": "01RUN"}]},
        CLEAN | {"jobs": {"ready": 1}},
    ],
)
def test_what_is_left_behind_is_found(tmp_path: Path, doctor: dict[str, Json]) -> None:
    assert judged(tmp_path, entries(), followed(), doctor) == ["nothing is left behind"]


def test_a_kill_that_hit_nothing_is_found(tmp_path: Path) -> None:
    idle = [entry for entry in entries() if entry[2] != KILLED]
    assert judged(tmp_path, idle, followed()) == ["SIGKILL 1 hit work under way"]


def test_a_line_without_an_answer_is_found(tmp_path: Path) -> None:
    findings = judge([followed()], ledger(tmp_path, entries()), [Kill(KILLED, 100)], CLEAN, lines=2, refused=0)
    assert failing(findings) == ["every line was answered, and every accepted order started one run"]


def test_a_line_of_the_ledger_still_in_the_making_is_left_for_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"kind":"begun","key":"a/b","pid":1,"at":2}\n{"kind":"eff')
    found = Ledger(path)
    found.refresh()
    assert [entry.kind for entry in found.entries] == ["begun"]
    with path.open("a") as file:
        file.write('ect","key":"a/b","pid":1,"at":3}\n')
    found.refresh()
    assert [entry.kind for entry in found.entries] == ["begun", "effect"] and found.open_calls() == []


def test_the_timeline_puts_the_shipping_under_its_invoke_and_marks_the_kill() -> None:
    lines = draw(followed(), [Kill(KILLED, 100)])
    assert "order-1: run 01RUN, COMPLETED, 0.17 s" in lines[0]
    assert lines[1].rstrip().endswith("SIGKILL")
    assert [line.split()[0] for line in lines[2:]][:3] == ["charge", "reserve", "confirm"]
