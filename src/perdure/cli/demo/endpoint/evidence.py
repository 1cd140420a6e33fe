"""Judges the calls of an endpoint: what callers heard, beside the server's traces and the ledger of the outside."""

from __future__ import annotations

import json

import msgspec

from perdure.cli.demo.endpoint.transcript import Transcript
from perdure.cli.demo.findings import Finding, finding
from perdure.cli.demo.ledger import Ledger
from perdure.cli.demo.recorded import RecordedStep, Trace
from perdure.model.json import Json


class Call(msgspec.Struct, frozen=True):
    """A call: what its caller heard, and the trace of its run, None if the caller heard of none."""

    heard: Transcript
    trace: Trace | None

    @property
    def name(self) -> str:
        return self.heard.caller

    @property
    def answer(self) -> dict[str, Json]:
        """The final answer, empty if it is not what the endpoint gives."""
        try:
            found = json.loads(self.heard.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def step(self, op: str) -> RecordedStep | None:
        """The first step of that kind."""
        return next((step for step in self.trace.steps if step.op == op), None) if self.trace else None


class Killing(msgspec.Struct, frozen=True):
    """The SIGKILL: whom it hit, when (ms), and who came after."""

    pid: int
    at: int
    successor: int


def judge(calls: list[Call], ledger: Ledger, killing: Killing, doctor: dict[str, Json], letter: str) -> list[Finding]:
    """All findings; `letter` is the text of the answers, with `{reader}` for the caller's name."""
    return [
        _answered(calls, killing, letter),
        _taken_back(calls),
        _asleep(calls, killing),
        _not_again(calls, ledger, killing),
        _left_behind(doctor),
    ]


def _answered(calls: list[Call], killing: Killing, letter: str) -> Finding:
    against: list[str] = []
    for call in calls:
        expected = {
            "letter": letter.format(reader=call.name),
            "written_by": killing.pid,
            "sealed_by": killing.successor,
        }
        if call.heard.status != 200 or call.answer != expected:
            against.append(f"{call.name} got {call.heard.status} {call.heard.body or call.heard.error}")
    names = ", ".join(call.name for call in calls)
    return finding(
        "every caller got the whole answer, begun by one process and ended by the next",
        f"{names}: 200, written by process {killing.pid}, sealed by process {killing.successor}",
        against,
    )


def _taken_back(calls: list[Call]) -> Finding:
    streamed = [call for call in calls if call.heard.kept or call.heard.taken_back]
    against = [
        f"{call.name} heard {len(call.heard.taken_back)} rollbacks, and kept “{call.heard.kept}”"
        for call in streamed
        if len(call.heard.taken_back) != 1 or call.heard.kept.strip() != call.answer.get("letter")
    ]
    against += [] if streamed else ["nobody heard a stream"]
    return finding(
        "what the failed attempt had said was taken back, and what stayed is the letter of the answer",
        "; ".join(f"{call.name}: {len(call.heard.taken_back)} rollback" for call in streamed),
        against,
    )


def _asleep(calls: list[Call], killing: Killing) -> Finding:
    against: list[str] = []
    for call in calls:
        sleep = call.step("SLEEP")
        if sleep is None or sleep.ended_at is None or not sleep.started_at <= killing.at < sleep.ended_at:
            against.append(f"{call.name}'s run did not sleep then")
    return finding(
        "the SIGKILL hit all runs in their sleep", f"process {killing.pid}, {len(calls)} runs asleep", against
    )


def _not_again(calls: list[Call], ledger: Ledger, killing: Killing) -> Finding:
    begun, failed, effects = (ledger.count(kind) for kind in ("begun", "failed", "effect"))
    against: list[str] = []
    for call in calls:
        write, seal = f"{call.name}/write", f"{call.name}/seal"
        if (begun[write], failed[write], effects[write]) != (2, 1, 1):
            against.append(f"{write} began {begun[write]} times and took effect {effects[write]} times")
        if (begun[seal], effects[seal]) != (1, 1):
            against.append(f"{seal} began {begun[seal]} times and took effect {effects[seal]} times")
        against += [f"{write} began after the kill" for e in ledger.entries if e.key == write and e.at > killing.at]
        if call.trace is None or call.trace.status != "COMPLETED":
            against.append(f"{call.name}'s run is {call.trace.status if call.trace else 'not known'}")
    return finding(
        "no step began again once its result was recorded",
        f"{len(calls)} runs COMPLETED: {begun.total()} calls of the outside began = {effects.total()} effects"
        f" + {failed.total()} that broke off on purpose",
        against,
    )


def _left_behind(doctor: dict[str, Json]) -> Finding:
    against = [f"run {orphan['run_id']} has nothing that wakes it" for orphan in doctor["orphans"]]
    against += [f"{count} jobs are {state}" for state, count in doctor["jobs"].items() if count]
    return finding("nothing is left behind", "no job, no run without a wake-up", against)
