"""The child runs of a durable run, as rows: sub-agents that carry out a task inside of it.

A child stands under its parent's run of the engine, so that it ends when that does, however it ends.
"""

from __future__ import annotations

from perdure.agents.declared import DeclaredAgent
from perdure.agents.durable.engines import Engine
from perdure.agents.errors import ConflictError
from perdure.agents.journal import Delegation
from perdure.agents.storage import AgentRun
from perdure.engine.agents.records import AgentRunStatus

STATUSES: dict[str, AgentRunStatus] = {"error": "failed", "abort": "aborted"}
"""How a run stands that ended for this reason; finished for all others."""


class KeptChildren:
    """Keeps the child runs of one run. `keep_for` (ms) is how long they are remembered once they are over."""

    def __init__(self, engine: Engine, engine_run_id: str, keep_for: int | None) -> None:
        self._engine = engine
        self._engine_run_id = engine_run_id
        self._keep_for = keep_for

    async def begun(self, delegation: Delegation, agent: DeclaredAgent, parent_run_id: str) -> None:
        """Puts a child run down; one that is there already stays as it is."""
        data = delegation.data
        await self._engine.storage.put_run(
            AgentRun(
                delegation.run_id,
                agent.id,
                agent.version,
                delegation.id,
                data.get("threadId"),
                data.get("resourceId"),
                parent_run_id=parent_run_id,
                engine_run_id=self._engine_run_id,
                detail={"toolCallId": delegation.tool_call_id},
                inbox_closed=True,
            )
        )

    async def over(self, run_id: str, reason: str) -> None:
        """Notes how a child run ended."""
        status = STATUSES.get(reason, "finished")
        await self._engine.storage.set_run_status(run_id, status, finish_reason=reason, keep_for=self._keep_for)


def refuse_child(run: AgentRun) -> None:
    """A child run is read, answered and ended by way of its parent. Raises `ConflictError`."""
    if run.parent_run_id is not None:
        raise ConflictError(
            f"run {run.run_id!r} is a part of run {run.parent_run_id!r}: its chunks are in the stream of that one, "
            "which is also where its questions are answered and where it is ended"
        )
