"""What is wrong after a cluster has come to rest: the database against the ledger outside, and against what was sent.

Of a step only what is recorded counts: a node that was paused may do a step that another has done since, and be
refused. A run has its place under a limit at least from when a recorded step of it began until one ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from perdure.model.json import Json
from tests.chaos.cluster_node import BATCH, EVERY, LIMIT, RATE, THROTTLE
from tests.support.postgres_session import PostgresSession

ONE_EACH: Final = (
    "three", "retrying", "parallel", "failing", "sleeping", "waiting", "parent", "stoppable", "hasty", "limited",
    "held", "replacing", "throttled",
)  # fmt: skip
"""The kinds of events that make exactly one run each."""
OTHERS: Final = ("batched", "debounced", "single", "rated")
_COMPLETED, _FAILED, _CANCELLED, _SKIPPED = 2, 3, 4, 5
_MAY_END: Final = {
    "failing": {_FAILED},
    "hasty": {_CANCELLED},
    "stoppable": {_COMPLETED, _CANCELLED},
    "replacing": {_COMPLETED, _CANCELLED},
    "single": {_COMPLETED, _SKIPPED},
}
_BLUR: Final = 100_000_000
"""How exactly times of different nodes are comparable (ns): they ask the database for it, which takes a moment."""


class Run(NamedTuple):
    """A run as it is recorded: `steps` are the values of its steps, `events` the ids that they were sent with."""

    id: str
    kind: str
    status: int
    created_at: int
    events: list[str]
    data: dict[str, Json]
    output: bytes | None
    steps: set[str]


class Done(NamedTuple):
    """What the ledger has of a value: whose it is, its key, and when its step began and ended (ns)."""

    run_id: str
    key: str
    began: int
    ended: int | None


def wrong(session: PostgresSession, ledger: Path, sent: dict[str, dict[str, Json]]) -> list[str]:
    """All that is wrong. `sent`: every event that was accepted, by id."""
    given, runs = _given(ledger), _runs(session)
    found = [problem for run in runs for problem in _of_run(run, given)]
    for look in (_of_events(runs, sent), _of_limits(runs, given), _of_rates(runs, given), _of_ticks(runs)):
        found += look
    return found


def _given(ledger: Path) -> dict[str, Done]:
    given: dict[str, Done] = {}
    for line in ledger.read_text().splitlines():
        what, run_id, value, key, at = line.split()
        if what == "gave":
            given[value] = Done(run_id, key, int(at), None)
        else:
            given[value] = given[value]._replace(ended=int(at))
    return given


def _runs(session: PostgresSession) -> list[Run]:
    session.execute("SET search_path = perdure")
    steps: dict[str, set[str]] = {}
    for run_id, data in session.execute("SELECT run_id, data FROM step WHERE op = 'StepRun' AND status = 0"):
        steps.setdefault(run_id, set()).add(json.loads(data))
    events = {row[0]: json.loads(row[1]) for row in session.execute("SELECT internal_id, body FROM event")}
    more: dict[str, list[str]] = {}
    for run_id, event_id in session.execute("SELECT run_id, event_id FROM run_event ORDER BY run_id, position"):
        more.setdefault(run_id, []).append(event_id)
    rows = session.execute("SELECT id, function_id, status, created_at, event_id, output FROM run ORDER BY id")
    return [
        Run(
            run_id, function_id.removeprefix("c-"), status, created_at,
            [events[each]["id"] for each in (event_id, *more.get(run_id, []))],
            events[event_id]["data"], output, steps.get(run_id, set()),
        )
        for run_id, function_id, status, created_at, event_id, output in rows
    ]  # fmt: skip


def _of_run(run: Run, given: dict[str, Done]) -> Iterable[str]:
    if run.status not in _MAY_END.get(run.kind, {_COMPLETED}) and not (
        run.kind == "ticking" and run.status < _COMPLETED
    ):
        yield f"{run.kind} {run.id} has status {run.status}: {run.output!r}"
    if run.status == _COMPLETED and run.output is not None and set(json.loads(run.output)) != run.steps:
        yield f"{run.kind} {run.id} gave {run.output!r}, recorded is {run.steps}"
    for value in run.steps:
        if value not in given or given[value].run_id != run.id or given[value].ended is None:
            yield f"{run.kind} {run.id}: nobody gave {value}"


def _of_events(runs: list[Run], sent: dict[str, dict[str, Json]]) -> Iterable[str]:
    """Each event has its run, and none has two."""
    of_event: dict[str, list[Run]] = {}
    for run in runs:
        for event_id in run.events:
            of_event.setdefault(event_id, []).append(run)
        if len(run.events) > BATCH:
            yield f"batch {run.id} has {len(run.events)} events"
    last: dict[str, int] = {}
    for event_id, event in sent.items():
        kind, made = event["name"].removeprefix("c/"), of_event.get(event_id, [])
        if len(made) != 1 if kind in (*ONE_EACH, "batched") else len(made) > 1:
            yield f"event {event_id} of {kind} has the runs {[run.id for run in made]}"
        if kind == "debounced":
            last[event["data"]["key"]] = last.get(event["data"]["key"], 0) + len(made)
    yield from (f"nothing came of the debounced events of {key}" for key, count in last.items() if count == 0)


def _of_limits(runs: list[Run], given: dict[str, Done]) -> Iterable[str]:
    """No key has more at any moment than it may."""

    def whole(kind: str) -> Iterable[tuple[str, int, int]]:
        for run in runs:
            done = [given[value] for value in run.steps if value in given]
            if run.kind == kind and done and run.status == _COMPLETED:
                yield done[0].key, min(each.began for each in done), max(each.ended or each.began for each in done)

    def steps_of(kind: str) -> Iterable[tuple[str, int, int]]:
        for run in runs:
            if run.kind == kind:
                done = [given[value] for value in run.steps if value in given]
                yield from (("shared", each.began, each.ended or each.began) for each in done)

    looks: tuple[tuple[str, Callable[[str], Iterable[tuple[str, int, int]]], int], ...] = (
        ("limited", whole, LIMIT), ("held", whole, 1), ("held", steps_of, LIMIT), ("single", whole, 1),
    )  # fmt: skip
    for kind, look, limit in looks:
        for key, most in _most(look(kind)).items():
            if most > limit:
                yield f"{most} of {kind} at once under {key}, {limit} may be"


def _most(intervals: Iterable[tuple[str, int, int]]) -> dict[str, int]:
    """How many there were at once at most, by key."""
    changes: dict[str, list[tuple[int, int]]] = {}
    for key, began, ended in intervals:
        changes.setdefault(key, []).extend([(began, 1), (ended, -1)])
    most: dict[str, int] = {}
    for key, found in changes.items():
        count = 0
        for _, change in sorted(found):
            count += change
            most[key] = max(most.get(key, 0), count)
    return most


def _of_rates(runs: list[Run], given: dict[str, Done]) -> Iterable[str]:
    """No window has more than it may; runs of a node that died begin late, so throttles are looked at over ten."""
    rated: dict[str, list[int]] = {}
    for run in runs:
        if run.kind == "rated":
            rated.setdefault(run.data["key"], []).append(run.created_at * 1_000_000)
    for key, times in rated.items():
        most = _densest(times, RATE[1] * 1_000_000_000 - _BLUR)
        if most > RATE[0]:
            yield f"{most} runs of rated {key} in {RATE[1]} s, {RATE[0]} may be"
    began = [
        min(given[value].began for value in run.steps if value in given)
        for run in runs
        if run.kind == "throttled" and run.steps & given.keys()
    ]
    most, may = _densest(began, 10 * THROTTLE[1] * 1_000_000_000), 12 * THROTTLE[0]
    if most > may:
        yield f"{most} throttled runs began in {10 * THROTTLE[1]} s, {may} may"


def _densest(times: list[int], width: int) -> int:
    """How many times are within a window at most."""
    times = sorted(times)
    first = most = 0
    for position, at in enumerate(times):
        while at - times[first] >= width:
            first += 1
        most = max(most, position - first + 1)
    return most


def _of_ticks(runs: list[Run]) -> Iterable[str]:
    """No tick has two runs, and while some node lived there were ticks."""
    ticks = Counter(run.data["scheduledAt"] for run in runs if run.kind == "ticking")
    yield from (f"tick {tick} came {count} times" for tick, count in ticks.items() if count > 1)
    lasted = (max(run.created_at for run in runs) - min(run.created_at for run in runs)) / 1000 if runs else 0
    if len(ticks) < lasted / EVERY / 3:
        yield f"{len(ticks)} ticks in {lasted} s"
