"""Approvals: what a run asks a person, and what was decided.

A question is `pending` until it is decided, once, or until its time or its run is over. A decision is bound to the
arguments that were shown by their hash. Invariant: whoever decides a question that is not pending changes nothing and
is told so; on the engine itself a decision and the event that tells the run of it are one transaction.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from perdure.engine.agents.mutations import CloseApprovals, put_approval
from perdure.engine.agents.records import OVER, ApprovalRow, ApprovalStatus
from perdure.engine.agents.runs import run_by_id
from perdure.engine.schedule import accept, settle
from perdure.engine.turn import Decision, Read, Turn
from perdure.model.event import Event, StoredEvent
from perdure.model.json import Json, decode, encode

DECIDED_EVENT: Final = "perdure/approval.decided"
REQUESTED_EVENT: Final = "perdure/approval.requested"

Verdict: TypeAlias = Literal["taken", "unknown", "decided", "over", "expired", "changed"]
"""What came of a decision: taken; or no such question, decided before, run over, too late, other arguments."""


class ApprovalDecision(msgspec.Struct, frozen=True):
    """What a person decides. `args` replace the call's, `data` is what a suspended tool gets; `args_hash`, if given,
    must be that of the arguments that were shown."""

    approved: bool
    reason: str | None = None
    data: Json = None
    args: Json = None
    by: str | None = None
    args_hash: str | None = None


class Outcome(msgspec.Struct):
    """What came of a decision, and the question as it stands."""

    verdict: Verdict
    approval: ApprovalRow | None = None


def approval_by_id(run_id: str, tool_call_id: str) -> Decision[ApprovalRow | None]:
    rows = yield Read("approval_by_id", (run_id, tool_call_id))
    return ApprovalRow(*rows[0]) if rows else None


def put(row: ApprovalRow) -> Decision[ApprovalRow]:
    """Asks. A question that is there already stays as it is: runs that are replayed ask again."""
    known = yield from approval_by_id(row.run_id, row.tool_call_id)
    if known is not None:
        return known
    yield put_approval(row)
    return row


def decide(run_id: str, tool_call_id: str, decision: ApprovalDecision, now: int) -> Decision[Outcome]:
    """Decides a question, if it can be decided."""
    row = yield from approval_by_id(run_id, tool_call_id)
    if row is None:
        return Outcome("unknown")
    run = yield from run_by_id(run_id)
    if row.status == "expired":
        return Outcome("expired", row)
    if row.status == "aborted" or run is None or run.status in OVER:
        return Outcome("over", row)
    if row.status != "pending":
        return Outcome("decided", row)
    if row.expires_at is not None and row.expires_at <= now:
        return Outcome("expired", (yield from _close(row, "expired", now)))
    if decision.args_hash is not None and decision.args_hash != row.args_hash:
        return Outcome("changed", row)
    row.status = "approved" if decision.approved else "declined"
    row.decided_at, row.decided_by = now, decision.by
    row.decision = encode({"reason": decision.reason, "data": decision.data, "args": decision.args})
    yield put_approval(row)
    return Outcome("taken", row)


def decide_and_tell(turn: Turn, run_id: str, tool_call_id: str, decision: ApprovalDecision) -> Decision[Outcome]:
    """As `decide`, and the run that waits is told by an event in the same transaction."""
    outcome = yield from decide(run_id, tool_call_id, decision, turn.now)
    if outcome.verdict == "taken" and outcome.approval is not None:
        internal_id = turn.ids()
        told = decided_event(outcome.approval)
        event = Event(told["name"], told["data"], told["id"], turn.now)
        yield from accept(turn, StoredEvent(internal_id, event, turn.now, internal=False))
        yield from settle(turn)
    return outcome


def decided_event(row: ApprovalRow) -> dict[str, Json]:
    """The event that tells a run of a decision, as it is sent. Its id makes it harmless to send twice."""
    said = decode(row.decision or b"{}")
    data = {
        "runId": row.run_id,
        "toolCallId": row.tool_call_id,
        "approved": row.status == "approved",
        "reason": said.get("reason"),
        "data": said.get("data"),
        "args": said.get("args"),
        "by": row.decided_by,
    }
    return {"name": DECIDED_EVENT, "id": f"{DECIDED_EVENT}:{row.run_id}:{row.tool_call_id}", "data": data}


def expire(run_id: str, tool_call_id: str, now: int) -> Decision[bool]:
    """Ends a question whose time is up; False when it was decided before."""
    row = yield from approval_by_id(run_id, tool_call_id)
    if row is None or row.status not in ("pending", "expired"):
        return False
    if row.status == "pending":
        yield from _close(row, "expired", now)
    return True


def _close(row: ApprovalRow, status: ApprovalStatus, now: int) -> Decision[ApprovalRow]:
    row.status, row.decided_at = status, now
    yield put_approval(row)
    return row


def close(run_id: str, status: ApprovalStatus, now: int) -> Decision[int]:
    """Ends whatever a run still asks; how many questions."""
    rows = yield Read("count_approvals", (encode([run_id]).decode(), '["pending"]', None, None, None))
    yield CloseApprovals(status, now, run_id)
    open_before: int = rows[0][0]
    return open_before


def list_approvals(
    run_ids: list[str] | None,
    statuses: list[str] | None,
    agent_id: str | None,
    thread_id: str | None,
    resource_id: str | None,
    limit: int,
    offset: int,
) -> Decision[tuple[list[ApprovalRow], int]]:
    """A page of questions, newest first, and how many there are in all."""
    runs = None if run_ids is None else encode(run_ids).decode()
    chosen = (runs, None if statuses is None else encode(statuses).decode(), agent_id, thread_id, resource_id)
    rows = yield Read("list_approvals", (*chosen, limit, offset))
    total = yield Read("count_approvals", chosen)
    return [ApprovalRow(*row) for row in rows], total[0][0]
