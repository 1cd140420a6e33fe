"""`python -m bench`: runs the subjects in turns and prints what they did beside each other.

Rounds are interleaved (A B C, then B C A, ...), each subject in a fresh process with a fresh database, so that a
machine that slows down for a minute slows them all. A subject that fails is left out, said so, and the exit is 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import msgspec

from bench import machine, report
from bench.subject import ROOT, Measured, Subject, SubjectFailedError, Task, run

_FAST = Task(one=300, bursts=5, long=5000)
_QUICK_FAST = Task(one=30, bursts=1)
_SLOW = Task(one=40, bursts=1)
_QUICK_SLOW = Task(one=10, bursts=1, flight=100)


class Plan(msgspec.Struct, frozen=True):
    """A subject with its task in an ordinary and in a quick run."""

    subject: Subject
    task: Task
    quick: Task


_SIDE_BY_SIDE = [
    Plan(Subject("perdure", "perdure", "perdure, uvloop"), _FAST, _QUICK_FAST),
    Plan(Subject("perdure-asyncio", "perdure", "perdure, asyncio", "asyncio"), _FAST, _QUICK_FAST),
    Plan(Subject("skeleton", "skeleton", "skeleton: the same commits, no engine"), _FAST, _QUICK_FAST),
    Plan(Subject("restate", "restate", "Restate"), _FAST, _QUICK_FAST),
    Plan(Subject("perdure-postgres", "perdure", "perdure, PostgreSQL 18", "postgres"), _FAST, _QUICK_FAST),
    Plan(Subject("perdure-two-nodes", "two_nodes", "perdure, PostgreSQL 18, two nodes"), _FAST, _QUICK_FAST),
    Plan(Subject("dbos-postgres", "dbos", "DBOS, PostgreSQL 18", "postgres"), _SLOW, _QUICK_SLOW),
    Plan(Subject("dbos-sqlite", "dbos", "DBOS, SQLite", "sqlite"), _SLOW, _QUICK_SLOW),
]
_OWN = [
    Plan(Subject("steps", "steps", "a step in short and long runs"), Task(scale=2), Task(scale=1)),
    Plan(Subject("sleepers", "sleepers", "runs that sleep for hours"), Task(scale=100_000), Task(scale=5_000)),
    Plan(
        Subject("claims", "claims", "claims beside sleepers, PostgreSQL 18"), Task(scale=1_000_000), Task(scale=20_000)
    ),
    Plan(Subject("due", "due", "sleepers due at one moment"), Task(scale=10_000), Task(scale=2_000)),
]
_PROFILES = [
    Plan(Subject("skeleton", "profile", "", "skeleton"), Task(scale=5000), Task(scale=1000)),
    Plan(Subject("perdure", "profile", ""), Task(scale=5000), Task(scale=1000)),
]
_TIMEOUT = 300.0
_NAMES = [plan.subject.name for plan in _SIDE_BY_SIDE + _OWN]


class Bench:
    """One invocation: runs plans, says how far it is, remembers what failed."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._quick: bool = arguments.quick
        self._base: Path | None = arguments.directory
        self._only: list[str] = arguments.only or _NAMES
        self.failed: list[str] = []

    def _chosen(self, plans: list[Plan]) -> list[Plan]:
        return [plan for plan in plans if plan.subject.name in self._only]

    def _run(self, plan: Plan, where: str) -> Measured | None:
        begun = time.monotonic()
        print(f"{where}: {plan.subject.name} ...", end="", file=sys.stderr, flush=True)
        try:
            task = plan.quick if self._quick else plan.task
            measured = run(plan.subject, task, base=self._base, timeout=_TIMEOUT)
        except SubjectFailedError as error:
            print(f" failed\n{error}", file=sys.stderr)
            self.failed.append(plan.subject.name)
            return None
        print(f" {time.monotonic() - begun:.0f} s", file=sys.stderr)
        return measured

    def compare(self, rounds: int) -> dict[str, list[Measured]]:
        """What each subject measured by round; one that failed once is left out."""
        plans = self._chosen(_SIDE_BY_SIDE)
        found: dict[str, list[Measured]] = {plan.subject.name: [] for plan in plans}
        for number in range(rounds):
            first = number % max(1, len(plans))
            for plan in plans[first:] + plans[:first]:
                name = plan.subject.name
                if name not in self.failed:
                    measured = self._run(plan, f"round {number + 1} of {rounds}")
                    if measured is not None:
                        found[name].append(measured)
        return {name: measured for name, measured in found.items() if name not in self.failed}

    def alone(self, plans: list[Plan], where: str) -> dict[str, Measured]:
        """What subjects measured that run once."""
        found = ((plan.subject.name, self._run(plan, where)) for plan in self._chosen(plans))
        return {name: measured for name, measured in found if measured is not None}

    def results(self, rounds: int) -> list[str]:
        """The comparison as parts of a report."""
        compared, own = self.compare(rounds), self.alone(_OWN, "perdure alone")
        parts = ["Each figure: median [min-max]. x: beside perdure, as measured in the same round."]
        parts.append(report.side_by_side([plan.subject for plan in _SIDE_BY_SIDE], compared))
        parts += [report.own_figures(plan.subject, own[plan.subject.name]) for plan in self._chosen_in(own)]
        return [*parts, report.requirements(compared, own)]

    def _chosen_in(self, own: dict[str, Measured]) -> list[Plan]:
        return [plan for plan in _OWN if plan.subject.name in own]

    def profile(self) -> list[str]:
        """What the engine adds, as parts of a report."""
        costs = self.alone(_PROFILES, "profile")
        return [report.cpu_by_thread(costs), *(measured.text for measured in costs.values() if measured.text)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench", description="Measures perdure beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one round of little: does everything run?")
    parser.add_argument("--only", action="append", choices=_NAMES, metavar="NAME", help=", ".join(_NAMES))
    parser.add_argument("--rounds", type=int, help="rounds of the comparison (default 5; quick: 1)")
    parser.add_argument("--profile", action="store_true", help="where perdure's time goes, instead of the rest")
    parser.add_argument("--directory", type=Path, help="where the databases go (default: the temporary directory)")
    return parser.parse_args()


def main() -> int:
    # So that everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = _arguments()
    facts = machine.describe(arguments.directory)
    bench = Bench(arguments)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    parts = bench.profile() if arguments.profile else bench.results(rounds)
    if arguments.quick:
        parts.insert(0, "A quick run: too short to judge by.")
    if bench.failed:
        parts.append(f"Failed and left out: {', '.join(bench.failed)}")
    text = "\n\n".join([report.machine(facts), *parts]) + "\n"
    print(text)
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    kind = "profile" if arguments.profile else "bench"
    path = results / f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}.md"
    path.write_text(text)
    print(f"written to {path.relative_to(ROOT)}", file=sys.stderr)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
