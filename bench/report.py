"""The results as Markdown: machine, subjects side by side with ratios, what is required, perdure's own figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.subject import Measured, Subject

Rounds = Mapping[str, Sequence[Measured]]
"""What each subject measured, round by round. Ratios are taken within a round: the machine's speed drifts."""

BASE = "perdure"
_REQUIRED_RUNS, _REQUIRED_ONE_MS, _REQUIRED_ONE_SHARE = 4000, 2.0, 1 / 3
_REQUIRED_RATIOS = {"restate": 8.0, "dbos-sqlite": 30.0}
_POSTGRES, _TWO_NODES, _DBOS = "perdure-postgres", "perdure-two-nodes", "dbos-postgres"
_REQUIRED_OVER_DBOS = 10.0
_REQUIRED_FIGURES = {
    ("steps", "alone: ratio"): 1.3,
    ("steps", "in flight: ratio"): 1.3,
    ("sleepers", "added memory (RSS), MB"): 150.0,
    ("sleepers", "CPU while idle, % of a core"): 1.0,
    ("claims", "cost: ratio"): 1.3,
    ("due", "all started, s"): 5.0,
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    rule = ["---", *(["---:"] * (len(head) - 1))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _spread(values: Sequence[float]) -> str:
    """Median [min-max]."""
    if not values:
        return ""
    return f"{_number(statistics.median(values))} [{_number(min(values))}-{_number(max(values))}]"


def p50(measured: Measured) -> float:
    """Median latency of one run after another, ms."""
    return statistics.median(measured.one)


def throughput(measured: Measured) -> float:
    """Runs/s of a round's median burst."""
    return statistics.median(measured.bursts)


def sustained(measured: Measured) -> float:
    """Runs/s of the 5,000 runs."""
    return measured.long or 0.0


def ratios(rounds: Rounds, name: str, figure: Callable[[Measured], float], *, base: str = BASE) -> list[float]:
    """A subject's figure over that of another, perdure's by default, in each round that both finished."""
    return [figure(other) / figure(first) for first, other in zip(rounds[base], rounds[name], strict=True)]


def _inverse(values: Iterable[float]) -> list[float]:
    return [1 / value for value in values]


def _p95(measured: Sequence[Measured]) -> float:
    latencies = sorted(latency for each in measured for latency in each.one)
    return latencies[int(len(latencies) * 0.95)]


def side_by_side(subjects: Sequence[Subject], rounds: Rounds) -> str:
    """The three-step function; "x" are ratios within a round: how much longer, how many times fewer runs/s."""
    head = ["three steps", "one, p50 ms", "p95 ms", "x", "500 at once, runs/s", "x", "5,000, runs/s", "x"]
    rows: list[list[str]] = []
    for subject in subjects:
        measured = rounds.get(subject.name)
        if not measured:
            continue
        versus = subject.name != BASE and BASE in rounds
        rows.append(
            [
                subject.title,
                _spread([p50(each) for each in measured]),
                _number(_p95(measured)),
                _spread(ratios(rounds, subject.name, p50)) if versus else "1",
                _spread([burst for each in measured for burst in each.bursts]),
                _spread(_inverse(ratios(rounds, subject.name, throughput))) if versus else "1",
                _spread([each.long for each in measured if each.long]),
                ("1" if not versus else _spread(_inverse(ratios(rounds, subject.name, sustained))))
                if all(each.long for each in measured)
                else "",
                _number(statistics.median(each.cpu_ms or 0 for each in measured)),
                _number(statistics.median(each.memory or 0 for each in measured)),
            ]
        )
    return table([*head, "CPU ms/run", "MiB"], rows)


def requirements(rounds: Rounds, figures: Mapping[str, Measured]) -> str:
    """What must hold, and whether the medians of the rounds did."""
    rows: list[list[str]] = []

    def judge(what: str, found: Sequence[float], bound: float, *, least: bool = False) -> None:
        median = statistics.median(found)
        holds = median >= bound if least else median <= bound
        sign = ">=" if least else "<="
        shown = _spread(found) if len(found) > 1 else _number(median)
        rows.append([what, f"{sign} {_number(bound)}", shown, "yes" if holds else "**no**"])

    if base := rounds.get(BASE):
        judge("500 in flight, runs/s", [throughput(each) for each in base], _REQUIRED_RUNS, least=True)
        for name, bound in _REQUIRED_RATIOS.items():
            if rounds.get(name):
                found = _inverse(ratios(rounds, name, throughput))
                judge(f"500 in flight, times {name}", found, bound, least=True)
        judge("one after another, p50 ms", [p50(each) for each in base], _REQUIRED_ONE_MS)
        if rounds.get("restate"):
            found = _inverse(ratios(rounds, "restate", p50))
            judge("one after another, p50 over restate's", found, _REQUIRED_ONE_SHARE)
    if rounds.get(_POSTGRES) and rounds.get(_DBOS):
        found = ratios(rounds, _POSTGRES, throughput, base=_DBOS)
        judge(f"500 in flight, {_POSTGRES} times {_DBOS}", found, _REQUIRED_OVER_DBOS, least=True)
        found = ratios(rounds, _POSTGRES, p50, base=_DBOS)
        judge(f"one after another, {_POSTGRES} over {_DBOS}", found, 1.0)
    if rounds.get(_POSTGRES) and rounds.get(_TWO_NODES):
        found = ratios(rounds, _TWO_NODES, throughput, base=_POSTGRES)
        judge(f"500 in flight, {_TWO_NODES} times {_POSTGRES}", found, 1.0, least=True)
    for (name, figure), most in _REQUIRED_FIGURES.items():
        if name in figures:
            judge(f"{name}: {figure}", [figures[name].figures[figure]], most)
    return table(["required", "bound", "found", "holds"], rows)


def own_figures(subject: Subject, measured: Measured) -> str:
    """The named figures of one of perdure's own subjects."""
    return table([subject.title, ""], [[name, _number(value)] for name, value in measured.figures.items()])


def machine(facts: Mapping[str, str]) -> str:
    """What it was measured on."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def cpu_by_thread(costs: Mapping[str, Measured]) -> str:
    """CPU a run by subject and thread."""
    rows: list[list[str]] = []
    for name, measured in costs.items():
        rows += [[f"{name}: {thread}", _number(cost)] for thread, cost in measured.figures.items()]
        rows.append([f"{name}: together", _number(sum(measured.figures.values()))])
    return table(["thread", "CPU us a run"], rows)
