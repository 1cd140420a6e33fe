"""Upkeep: runs that were cut off are found to be over, and what nobody waits for any more is forgotten."""

from __future__ import annotations

from typing import Final

from perdure.engine.agents.mutations import DeleteOldInbox
from perdure.engine.agents.records import AgentRunStatus
from perdure.engine.agents.runs import set_status
from perdure.engine.turn import Decision, Read
from perdure.model.limits import DAY
from perdure.model.records import RunStatus

_KEPT: Final = 7 * DAY
"""How long a run is remembered of which nobody said how long."""
_ENDS: Final[dict[int, AgentRunStatus]] = {RunStatus.COMPLETED: "finished", RunStatus.CANCELLED: "aborted"}


def reconcile(now: int, limit: int) -> Decision[int]:
    """Ends the runs of agents whose run of the engine has ended without saying so: cancelled, failed, or cut off
    between the two. How many; call again while there are as many as `limit`."""
    rows = yield Read("ended_agent_runs", (limit,))
    for run_id, ended in rows:
        yield from set_status(run_id, _ENDS.get(ended, "failed"), now, None, now + _KEPT)
    return len(rows)


def forget_persisted(before: int) -> Decision[None]:
    """Drops the notes of persisted signals that every follower has seen or missed."""
    yield DeleteOldInbox(before)
