"""The inbox of a run: signals that enter between its model calls.

A step of the run claims what is queued, under its own id, so that another attempt of it gets the same signals again.
Invariant: a signal is taken by one step, or refused because the inbox is closed, and never lost in between: closing
is decided in the transaction that finds nothing queued.
"""

from __future__ import annotations

from typing import Final

from perdure.engine.agents.mutations import ClaimInbox, put_agent_run, put_inbox
from perdure.engine.agents.records import OVER, InboxRow
from perdure.engine.agents.runs import run_by_id
from perdure.engine.turn import Decision, Read

_PER_MS: Final = 1000
"""Places per millisecond: they follow the clock, so that none comes again once old signals are forgotten."""


def _place(now: int) -> Decision[int]:
    rows = yield Read("last_of_inbox", ())
    return max(now * _PER_MS, rows[0][0] + 1 if rows else 0)


def put(run_id: str, signal_id: str, body: bytes, now: int) -> Decision[bool]:
    """Queues a signal for a run; False when the run takes none. The same signal is queued once."""
    run = yield from run_by_id(run_id)
    if run is None or run.status in OVER or run.inbox_closed:
        return False
    if not (yield Read("inbox_by_id", (run_id, signal_id))):
        seq = yield from _place(now)
        yield put_inbox(InboxRow(seq, signal_id, run_id, run.thread_id or "", "queued", None, body, now))
    return True


def is_idle(run_id: str, step_id: str) -> Decision[bool]:
    """Whether claiming would change nothing and give nothing: nothing is there, and the inbox is open."""
    if (yield from _waiting(run_id, step_id)):
        return False
    run = yield from run_by_id(run_id)
    return run is None or not run.inbox_closed


def claim(run_id: str, step_id: str, now: int) -> Decision[list[InboxRow]]:
    """Gives a step what is queued, after what it has claimed before. The run goes on, so its inbox is open."""
    run = yield from run_by_id(run_id)
    if run is not None and run.inbox_closed and run.status not in OVER:
        run.inbox_closed, run.updated_at = 0, now
        yield put_agent_run(run)
    return (yield from _take(run_id, step_id))


def close(run_id: str, step_id: str, now: int) -> Decision[list[InboxRow]]:
    """Closes the inbox if nothing is queued; otherwise gives the step what is, and it stays open."""
    queued = [row for row in (yield from _waiting(run_id, step_id)) if row.state == "queued"]
    if queued:
        yield ClaimInbox(step_id, run_id)
        return queued
    run = yield from run_by_id(run_id)
    if run is not None and not run.inbox_closed:
        run.inbox_closed, run.updated_at = 1, now
        yield put_agent_run(run)
    return []


def _take(run_id: str, step_id: str) -> Decision[list[InboxRow]]:
    rows = yield from _waiting(run_id, step_id)
    if any(row.state == "queued" for row in rows):
        yield ClaimInbox(step_id, run_id)
    return rows


def _waiting(run_id: str, step_id: str) -> Decision[list[InboxRow]]:
    rows = yield Read("inbox_of_step", (run_id, step_id))
    return [InboxRow(*row) for row in rows]


def left(run_id: str) -> Decision[list[InboxRow]]:
    """What is queued for a run and was not taken in."""
    return [row for row in (yield from _waiting(run_id, "")) if row.state == "queued"]


def left_runs(limit: int) -> Decision[list[str]]:
    """Runs that are over and did not take in everything."""
    rows = yield Read("left_signals", (limit,))
    return [row[0] for row in rows]


def note_persisted(signal_id: str, thread_id: str, body: bytes, now: int) -> Decision[None]:
    """Lets those who follow a thread know of a signal that was stored in it while no run was active there."""
    key = f"@{thread_id}"
    if not (yield Read("inbox_by_id", (key, signal_id))):
        seq = yield from _place(now)
        yield put_inbox(InboxRow(seq, signal_id, key, thread_id, "persisted", None, body, now))


def persisted(thread_id: str, after: int, limit: int) -> Decision[list[InboxRow]]:
    """Signals that were stored in a thread, after a place."""
    rows = yield Read("persisted_in_thread", (thread_id, after, limit))
    return [InboxRow(*row) for row in rows]


def last_place() -> Decision[int]:
    """The place of the newest signal of all."""
    rows = yield Read("last_of_inbox", ())
    return rows[0][0] if rows else 0
