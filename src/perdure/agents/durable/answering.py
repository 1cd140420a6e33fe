"""Answering what a run asks: the part of a durable agent that people use."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.agents.durable import listing
from perdure.agents.durable.base import DurableBase
from perdure.agents.durable.decisions import Given, Resumed, asked_above, decide
from perdure.agents.durable.listing import OpenQuestion
from perdure.agents.durable.reading import check_reading, drained
from perdure.agents.durable.run import DurableRun
from perdure.agents.errors import ConflictError, InvalidOptionError
from perdure.agents.results import Result
from perdure.agents.storage import Approval
from perdure.model.json import Json


class Answering(DurableBase):
    """A question is decided once, for the arguments that were shown, by way of the agent that asked it."""

    async def resume(
        self, run_id: str, resume_data: Json, *, tool_call_id: str | None = None, **reading: Json
    ) -> DurableRun:
        """Answers what a run asks, and reads on from there.

        For an approval `resume_data` is a bool, or `{"approved": ..., "reason": ..., "args": ...}`; for a tool that
        suspended it is what the tool waits for. Without `tool_call_id` the run must have one open question.

        Raises `RunNotFoundError`, `ConflictError` when it is decided already, `GoneError` when its time or the run is
        over, `InvalidOptionError` when the data does not fit.
        """
        return await self._decide(run_id, {tool_call_id: Resumed(resume_data)}, reading)

    async def resume_stream(
        self, resume_data: Json, *, run_id: str, tool_call_id: str | None = None, **reading: Json
    ) -> DurableRun:
        """`resume`, by names."""
        return await self.resume(run_id, resume_data, tool_call_id=tool_call_id, **reading)

    async def resume_generate(
        self, resume_data: Json, *, run_id: str, tool_call_id: str | None = None, **reading: Json
    ) -> Result:
        """`resume`, and waits for the end of the segment."""
        return await drained(await self.resume(run_id, resume_data, tool_call_id=tool_call_id, **reading))

    async def approve_tool_call(
        self,
        run_id: str,
        tool_call_id: str | None = None,
        *,
        args: Json = None,
        args_hash: str | None = None,
        data: Json = None,
        by: str | None = None,
        **reading: Json,
    ) -> DurableRun:
        """Lets a tool call happen, with other arguments if `args` are given, and reads on."""
        given = Given(True, data=data, args=args, by=by, args_hash=args_hash)
        return await self._decide(run_id, {tool_call_id: given}, reading)

    async def decline_tool_call(
        self,
        run_id: str,
        tool_call_id: str | None = None,
        *,
        reason: str | None = None,
        args_hash: str | None = None,
        by: str | None = None,
        **reading: Json,
    ) -> DurableRun:
        """Does not let a tool call happen; the model is told the reason. Reads on."""
        given = Given(False, reason=reason, by=by, args_hash=args_hash)
        return await self._decide(run_id, {tool_call_id: given}, reading)

    async def approve_tool_call_generate(self, run_id: str, tool_call_id: str | None = None, **options: Json) -> Result:
        """`approve_tool_call`, and waits for the end of the segment."""
        return await drained(await self.approve_tool_call(run_id, tool_call_id, **options))

    async def decline_tool_call_generate(self, run_id: str, tool_call_id: str | None = None, **options: Json) -> Result:
        """`decline_tool_call`, and waits for the end of the segment."""
        return await drained(await self.decline_tool_call(run_id, tool_call_id, **options))

    async def decide_tool_calls(self, run_id: str, decisions: Mapping[str, Json], **reading: Json) -> DurableRun:
        """Decides several questions of a run, all or some of them: `{tool_call_id: True | False | {...}}`. Reads on."""
        if not decisions:
            raise InvalidOptionError("decisions: must have at least one tool call")
        return await self._decide(run_id, {call: Resumed(data) for call, data in decisions.items()}, reading)

    async def approvals(self, run_id: str) -> list[Approval]:
        """Everything that a run has asked, and how it was decided; oldest first."""
        run = await self._known(run_id)
        page = await self.engine.storage.approvals(run_ids=[run.run_id], per_page=None)
        return sorted(page.items, key=lambda row: (row.asked_at, row.tool_call_id))

    async def open_questions(self, run_id: str) -> list[OpenQuestion]:
        """What a run waits for."""
        run = await self.get_run(run_id)
        return await listing.open_questions(self.engine, run)

    async def _decide(
        self, run_id: str, decisions: Mapping[str | None, Given | Resumed], reading: dict[str, Json]
    ) -> DurableRun:
        how = check_reading(reading)
        engine = self.engine
        run = await self._mended(await self._known(run_id))
        accepted = self._settings.accepts_versions
        if run.agent_version != self.version and accepted is not None and run.agent_version not in accepted:
            raise ConflictError(
                f"run {run_id!r} began with version {run.agent_version!r} of agent {self.id!r}, and this is version "
                f"{self.version!r}: make the agent with accepts_versions to let it go on with runs of other versions"
            )
        # What was said before is not told again to who decides now.
        after = 0 if run.engine_run_id is None else await engine.last_offset(run.engine_run_id)
        top, answers = await asked_above(engine, run, decisions)
        await decide(engine, self._body_of(run), top, answers)
        return await self._read(run, after, how)
