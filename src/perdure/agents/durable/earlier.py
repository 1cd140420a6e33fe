"""What earlier runs of a thread still ask, when a later run has the answer (`auto_resume_suspended_tools`)."""

from __future__ import annotations

from typing import Final

from perdure.agents.durable.body import Body
from perdure.agents.durable.decisions import Given, decide
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.listing import mended
from perdure.agents.errors import ConflictError, GoneError
from perdure.agents.storage import AgentRun, Approval
from perdure.model.json import Json

ANSWERED: Final = "Answered in a later message: the tool was called again with the answer"


class EarlierRuns:
    """The runs of a thread before one of its runs."""

    def __init__(self, engine: Engine, body: Body, run_id: str, thread_id: str, resource_id: str | None) -> None:
        self._engine = engine
        self._body = body
        self._run_id = run_id
        self._thread_id = thread_id
        self._resource_id = resource_id

    async def answered(self, tool_name: str, args: Json) -> None:
        """Closes the question of a tool that is called again with its answer, so that nobody answers it once more.

        A run that waits for nothing else is ended: the later one has taken its place.
        """
        row = await self._question(tool_name, args)
        run = None if row is None else await self._engine.storage.run(row.run_id)
        if row is None or run is None:
            return
        open_ones = await self._engine.storage.approvals(run_ids=[run.run_id], statuses=["pending"], per_page=None)
        if len(open_ones.items) > 1:
            await self._decline(run, row)
        elif run.engine_run_id is not None:
            await self._engine.cancel(run.engine_run_id)
            await mended(self._engine, run)

    async def _question(self, tool_name: str, args: Json) -> Approval | None:
        """The newest one about the same arguments, or else the newest one of the tool."""
        page = await self._engine.storage.approvals(
            agent_id=self._body.id,
            thread_id=self._thread_id,
            resource_id=self._resource_id,
            statuses=["pending"],
            per_page=None,
        )
        asked = [row for row in page.items if (row.kind, row.tool_name) == ("suspension", tool_name)]
        earlier = [row for row in asked if row.run_id != self._run_id]
        return max(earlier, key=lambda row: (row.args == args, row.asked_at), default=None)

    async def _decline(self, run: AgentRun, row: Approval) -> None:
        try:
            await decide(self._engine, self._body, run, {row.tool_call_id: Given(False, reason=ANSWERED)})
        except (ConflictError, GoneError):
            # Somebody was faster: it is closed either way.
            return
