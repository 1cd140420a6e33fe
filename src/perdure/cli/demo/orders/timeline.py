"""Draws the traces of an order as a timeline, with the kills across it."""

from __future__ import annotations

from perdure.cli.demo.orders.evidence import Followed, Kill
from perdure.cli.demo.recorded import RecordedStep, Trace

_WIDTH = 44


def choose(followed: list[Followed], kills: list[Kill]) -> Followed | None:
    """The order that shows most: alive at as many kills as possible, with a wait and a retry."""

    def interest(item: Followed) -> tuple[int, int, int]:
        if item.fulfil is None or item.ship is None:
            return (0, 0, 0)
        began, ended = item.fulfil.started_at, item.fulfil.ended_at or 0
        survived = sum(began < kill.at < ended for kill in kills)
        waits = sum(step.op == "WAIT_FOR_EVENT" for step in item.fulfil.steps)
        return (survived, waits, sum(step.failures for step in item.ship.steps))

    return max(followed, key=interest, default=None)


def draw(item: Followed, kills: list[Kill]) -> list[str]:
    """Lines: a step each, its bar, and when it began and how long it took (seconds from the start of the run)."""
    fulfil, ship = item.fulfil, item.ship
    if fulfil is None:
        return []
    began = fulfil.started_at
    span = max((fulfil.ended_at or began) - began, 1)
    marks = {_column(kill.at, began, span) for kill in kills if began <= kill.at <= began + span}
    rows = [_row(step, began, span, marks, 1) for step in fulfil.steps]
    if ship is not None:
        place = next((i for i, step in enumerate(fulfil.steps) if step.op == "INVOKE"), len(rows) - 1)
        rows[place + 1 : place + 1] = [_row(step, began, span, marks, 2) for step in ship.steps]
    caption = "  " + " " * 26 + "".join("✗" if i in marks else " " for i in range(_WIDTH))
    legend = [f"{caption}  ✗ SIGKILL"] if marks else []
    return [_head(item.order.order_id, fulfil), *legend, *rows]


def _head(order_id: str, trace: Trace) -> str:
    seconds = ((trace.ended_at or trace.started_at) - trace.started_at) / 1000
    return f"  {order_id}: run {trace.run_id}, {trace.status}, {seconds:.2f} s"


def _row(step: RecordedStep, began: int, span: int, marks: set[int], depth: int) -> str:
    first = _column(step.started_at, began, span)
    last = _column(step.ended_at if step.ended_at is not None else began + span, began, span)
    fill = "█" if step.op == "RUN" else "░"
    cells = [fill if first <= i <= last else "│" if i in marks else "·" for i in range(_WIDTH)]
    took = ((step.ended_at or step.started_at) - step.started_at) / 1000
    times = f"{(step.started_at - began) / 1000:6.2f} s +{took:.2f}"
    retried = f"  {step.failures} failed attempt, then" if step.failures else ""
    label = ("  " * depth + step.name)[:26]
    return f"  {label:<26}{''.join(cells)} {times}{retried} {step.op.lower().replace('_', ' ')}"


def _column(at: int, began: int, span: int) -> int:
    return max(0, min(_WIDTH - 1, (at - began) * _WIDTH // span))
