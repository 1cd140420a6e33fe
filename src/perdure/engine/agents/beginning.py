"""The beginning of an agent's run: the run as its caller knows it and the run of the engine come to be together.

Invariant: on the engine itself both are one transaction, so that there is no run of an agent that nobody carries out.
"""

from __future__ import annotations

import msgspec

from perdure.engine.agents import runs
from perdure.engine.agents.mutations import put_agent_run
from perdure.engine.agents.records import AgentRunRow
from perdure.engine.agents.runs import TAKEN
from perdure.engine.intake import invoke
from perdure.engine.schedule import Refused
from perdure.engine.turn import Decision, Turn
from perdure.model.event import StoredEvent


class Begun(msgspec.Struct):
    """A run that begins now (`created`), or was there before."""

    run: AgentRunRow
    created: bool


def begin(
    turn: Turn, row: AgentRunRow, function_id: str, stored: StoredEvent
) -> Decision[Begun | Refused | str | None]:
    """Starts a run, unless there is one of this id already; then that one.

    `TAKEN` where the id is that of a run with another input, None where the function is not registered, and why where
    no run begins now.
    """
    known = yield from runs.run_by_id(row.run_id)
    if known is not None and (known.agent_id, known.input_hash) != (row.agent_id, row.input_hash):
        return TAKEN
    if known is not None and known.engine_run_id is not None:
        return Begun(known, created=False)
    invoked = yield from invoke(turn, function_id, stored)
    if invoked is None:
        return None
    if invoked.run_id is None:
        return invoked.refused
    row.engine_run_id = invoked.run_id
    yield put_agent_run(row)
    return Begun(row, created=True)
