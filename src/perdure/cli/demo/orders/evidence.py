"""Judges a demo by what was recorded: the server's traces on one side, the ledger of the outside on the other.

perdure executes a step at least once and records its result exactly once; a key makes the effect of a step that is
executed again happen once. So three different numbers are counted, and none stands for another: calls that began,
effects, and results recorded.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from perdure.cli.demo.findings import Finding, finding
from perdure.cli.demo.ledger import Ledger
from perdure.cli.demo.orders.sending import Line
from perdure.cli.demo.recorded import Trace
from perdure.model.json import Json


class Order(msgspec.Struct, frozen=True):
    """An accepted order: what has to happen to it outside, as keys of the ledger."""

    order_id: str
    event_id: str
    keys: frozenset[str]


class Followed(msgspec.Struct, frozen=True):
    """An order with its runs: `fulfil` and the `ship` that it invoked (None if it got that far never)."""

    order: Order
    run_ids: list[str]
    fulfil: Trace | None
    ship: Trace | None

    def steps(self) -> dict[str, tuple[str, int | None, int]]:
        """The steps with effects, by key: status, end (ms), failed attempts."""
        found: dict[str, tuple[str, int | None, int]] = {}
        for trace in (self.fulfil, self.ship):
            for step in trace.steps if trace is not None else ():
                if step.op == "RUN":
                    found[f"{self.order.order_id}/{step.name}"] = (step.status, step.ended_at, step.failures)
        return found


class Kill(msgspec.Struct, frozen=True):
    """A SIGKILL: whom it hit and when (ms)."""

    pid: int
    at: int


def order_of(line: Line, event_id: str) -> Order:
    """What has to happen to an accepted line, from the order itself and not from what the server says."""
    data: Json = msgspec.json.decode(line.text)["data"]
    order_id: str = data["order_id"]
    steps = ["charge", "book carrier", "print label", "confirm"]
    steps += [f"reserve {item['sku']}" for item in data["items"]]
    return Order(order_id, event_id, frozenset(f"{order_id}/{step}" for step in steps))


def judge(
    followed: list[Followed],
    ledger: Ledger,
    kills: list[Kill],
    doctor: dict[str, Json],
    *,
    lines: int,
    refused: int,
) -> list[Finding]:
    """All findings; the demo succeeds when every one holds. `doctor` is what the server says of its own state."""
    return [
        _answered(followed, lines, refused),
        _finished(followed),
        _effects(followed, ledger),
        _not_again(followed, ledger),
        _begun(ledger, kills),
        _left_behind(doctor),
        *_hit(followed, ledger, kills),
    ]


def _answered(followed: list[Followed], lines: int, refused: int) -> Finding:
    against = [] if len(followed) + refused == lines else [f"{lines - len(followed) - refused} lines are missing"]
    against += [
        f"{item.order.order_id} started {len(item.run_ids)} runs" for item in followed if len(item.run_ids) != 1
    ]
    return finding(
        "every line was answered, and every accepted order started one run",
        f"{lines} lines: {len(followed)} accepted, {refused} refused; {len(followed)} runs",
        against,
    )


def _finished(followed: list[Followed]) -> Finding:
    against = [
        f"{item.order.order_id} is {item.fulfil.status if item.fulfil else 'without a run'}"
        for item in followed
        if item.fulfil is None or item.fulfil.status != "COMPLETED" or item.ship is None
    ]
    against += [
        f"{item.order.order_id}: its shipping is {item.ship.status}"
        for item in followed
        if item.ship is not None and item.ship.status != "COMPLETED"
    ]
    runs = sum((item.fulfil is not None) + (item.ship is not None) for item in followed)
    return finding("every accepted order finished", f"{len(followed)} orders, {runs} runs COMPLETED", against)


def _effects(followed: list[Followed], ledger: Ledger) -> Finding:
    effects = ledger.count("effect")
    wanted = {key for item in followed for key in item.order.keys}
    recorded = {key for item in followed for key, (status, _, _) in item.steps().items() if status == "COMPLETED"}
    against = [f"{key} took effect {count} times" for key, count in effects.items() if count != 1]
    against += [f"{key} never took effect" for key in sorted(wanted - effects.keys())]
    against += [f"{key} took effect and nobody asked for it" for key in sorted(effects.keys() - wanted)]
    against += [f"{key} is not recorded" for key in sorted(wanted - recorded)]
    against += [f"{key} is recorded and nobody asked for it" for key in sorted(recorded - wanted)]
    return finding(
        "each step took effect exactly once (executed again, it carries the same key)",
        f"{len(wanted)} steps due from the orders = {sum(effects.values())} effects in the ledger"
        f" = {len(recorded)} results recorded",
        against,
    )


def _not_again(followed: list[Followed], ledger: Ledger) -> Finding:
    last_begun = {entry.key: entry.at for entry in ledger.entries if entry.kind == "begun"}
    against = [
        f"{key} began again {last_begun[key] - ended_at} ms after it was recorded"
        for item in followed
        for key, (_, ended_at, _) in item.steps().items()
        if ended_at is not None and last_begun.get(key, 0) > ended_at
    ]
    checked = sum(len(item.steps()) for item in followed)
    return finding(
        "no step began again once its result was recorded", f"{checked} results compared with the ledger", against
    )


def _begun(ledger: Ledger, kills: list[Kill]) -> Finding:
    killed = {kill.pid for kill in kills}
    outcomes = Counter(entry.kind for entry in ledger.entries)
    cut_off = ledger.open_calls()
    first = {entry.key: entry.pid for entry in reversed(ledger.entries) if entry.kind == "effect"}
    against = [f"{entry.key} came to no end, and nobody was killed" for entry in cut_off if entry.pid not in killed]
    against += [
        f"{entry.key} was repeated, and its effect's caller lived on"
        for entry in ledger.entries
        if entry.kind == "repeat" and first.get(entry.key) not in killed
    ]
    return finding(
        "what was executed more than once has a reason",
        f"{outcomes['begun']} calls began = {outcomes['effect']} effects + {outcomes['failed']} turned away on purpose,"
        f" then retried + {len(cut_off)} cut off by SIGKILL, then done again + {outcomes['repeat']} that took effect"
        " but died unrecorded, repeated without effect under their key",
        against,
    )


def _left_behind(doctor: dict[str, Json]) -> Finding:
    against = [f"run {orphan['run_id']} has nothing that wakes it" for orphan in doctor["orphans"]]
    against += [f"slot {slot['key']} is held by {slot['owner']}" for slot in doctor["leaked_slots"]]
    against += [f"{count} jobs are {state}" for state, count in doctor["jobs"].items() if count]
    return finding("nothing is left behind", "no job, no run without a wake-up, no slot without an owner", against)


def _hit(followed: list[Followed], ledger: Ledger, kills: list[Kill]) -> list[Finding]:
    findings: list[Finding] = []
    for number, kill in enumerate(kills, 1):
        counts = {
            "in the middle of a step": sum(entry.pid == kill.pid for entry in ledger.open_calls()),
            "sleeping": _open_at(followed, "SLEEP", kill.at),
            "waiting for approval": _open_at(followed, "WAIT_FOR_EVENT", kill.at),
        }
        detail = ", ".join(f"{count} {what}" for what, count in counts.items())
        against = [] if all(counts.values()) else [f"it missed: {detail}"]
        findings.append(finding(f"SIGKILL {number} hit work under way", detail, against))
    return findings


def _open_at(followed: list[Followed], op: str, at: int) -> int:
    return sum(
        step.op == op and step.started_at <= at and (step.ended_at is None or step.ended_at > at)
        for item in followed
        if item.fulfil is not None
        for step in item.fulfil.steps
    )
