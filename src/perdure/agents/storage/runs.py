"""Runs of agents as their callers know them, what they ask people, and the signals that they are sent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.storage.base import Base, page_of, slice_of
from perdure.agents.storage.shapes import (
    AgentRun,
    Approval,
    Page,
    Queued,
    approval_of,
    approval_row,
    run_of,
    run_row,
)
from perdure.agents.storage.texts import check_id
from perdure.engine.agents import approvals, inbox, runs, upkeep
from perdure.engine.agents.approvals import ApprovalDecision, Outcome
from perdure.engine.agents.records import AgentRunStatus
from perdure.model.json import Json, decode, encode

_AT_ONCE = 500


def _names(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else list(values)


class Runs(Base):
    """The part of the storage that knows which runs there are."""

    async def put_run(self, run: AgentRun) -> tuple[AgentRun, bool]:
        """The run with this id, and whether it is new: the same id with the same input is the same run.

        Raises `ConflictError` when the id is that of a run with another input, or of another agent.
        """
        for name in ("run_id", "thread_id", "resource_id"):
            check_id(name, getattr(run, name))
        now = self.now()
        row = run_row(msgspec.structs.replace(run, created_at=run.created_at or now, updated_at=now))
        put = await self._decide(lambda: runs.put(row))
        if isinstance(put, str):
            raise ConflictError(f"the run id {run.run_id!r} was used before, with another input or agent")
        self.tell(run.thread_id and f"thread:{run.thread_id}")
        return run_of(put[0]), put[1]

    async def bind_run(self, run_id: str, engine_run_id: str) -> AgentRun:
        """Notes which run of the engine does the work; the first one stays. Raises `RunNotFoundError`."""
        now = self.now()
        row = await self._decide(lambda: runs.bind(run_id, engine_run_id, now))
        if row is None:
            raise RunNotFoundError(f"there is no run {run_id!r}")
        self.tell(f"run:{run_id}", row.thread_id and f"thread:{row.thread_id}")
        return run_of(row)

    async def run(self, run_id: str) -> AgentRun | None:
        """A run by the id that its caller gave."""
        row = await self._view(lambda: runs.run_by_id(run_id))
        return None if row is None else run_of(row)

    async def run_of_engine(self, engine_run_id: str) -> AgentRun | None:
        """A run by that of the engine."""
        row = await self._view(lambda: runs.run_by_engine(engine_run_id))
        return None if row is None else run_of(row)

    async def child_runs(self, run_id: str) -> list[AgentRun]:
        """The runs of sub-agents below a run, in the order in which they began."""
        below = [run_of(row) for row in await self._view(lambda: runs.children(run_id))]
        # Background tasks stand below their runs, too.
        return [run for run in below if "toolCallId" in run.detail]

    async def set_run_status(
        self,
        run_id: str,
        status: AgentRunStatus,
        *,
        finish_reason: str | None = None,
        keep_for: int | None = None,
    ) -> AgentRun:
        """Notes how a run stands; one that is over stays so. Raises `RunNotFoundError`.

        `keep_for` (ms) is how long a run that is over is remembered; None is for ever.
        """
        now = self.now()
        expires_at = None if keep_for is None else now + keep_for
        row = await self._decide(lambda: runs.set_status(run_id, status, now, finish_reason, expires_at))
        if row is None:
            raise RunNotFoundError(f"there is no run {run_id!r}")
        self.tell(f"run:{run_id}", row.thread_id and f"thread:{row.thread_id}")
        return run_of(row)

    async def runs(
        self,
        *,
        statuses: Sequence[AgentRunStatus] | None = None,
        agent_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        from_: int | None = None,
        to: int | None = None,
        page: int = 0,
        per_page: int | None = 100,
    ) -> Page[AgentRun]:
        """A page of runs, newest first; `from_` and `to` are times (ms) of their beginning, both ends included."""
        limit, offset = slice_of(page, per_page)
        rows, total = await self._view(
            lambda: runs.list_runs(_names(statuses), agent_id, thread_id, resource_id, (from_, to), limit, offset)
        )
        return page_of([run_of(row) for row in rows], total, page, per_page)

    async def active_run(self, thread_id: str, resource_id: str | None = None) -> AgentRun | None:
        """The run of a thread that takes signals now, if there is one."""
        row = await self._view(lambda: runs.active(thread_id, resource_id))
        return None if row is None else run_of(row)

    async def unfinished_runs(self, thread_id: str, resource_id: str | None = None) -> list[AgentRun]:
        """The runs of a thread that are not over, in the order in which they began."""
        return [run_of(row) for row in await self._view(lambda: runs.unfinished(thread_id, resource_id))]

    async def runs_since(self, thread_id: str, resource_id: str | None, at: int, limit: int = 100) -> list[AgentRun]:
        """The runs of a thread that began at or after a time (ms), in that order."""
        return [run_of(row) for row in await self._view(lambda: runs.since(thread_id, resource_id, at, limit))]

    async def reconcile(self) -> int:
        """Ends the runs whose run of the engine, in the same store, is over without their saying so; how many.

        The hourly sweep does so too; who looks for active runs after a restart need not wait for it.
        """
        now, ended = self.now(), 0
        while found := await self._decide(lambda: upkeep.reconcile(now, _AT_ONCE)):
            ended += found
        return ended

    async def delete_run(self, run_id: str) -> bool:
        """Forgets a run with its approvals, signals and tasks; whether there was one."""
        return await self._decide(lambda: runs.delete([run_id])) > 0

    async def begin_step(self, run_id: str, step_id: str) -> int:
        """Notes that a step of a run begins, for steps that must not be done twice; how often it had begun before."""
        return await self._decide(lambda: runs.begin_step(run_id, step_id))

    async def put_approval(self, approval: Approval) -> Approval:
        """Asks; a question that is there already stays as it is."""
        row = approval_row(msgspec.structs.replace(approval, asked_at=approval.asked_at or self.now()))
        put = approval_of(await self._decide(lambda: approvals.put(row)))
        self.tell(f"run:{approval.run_id}")
        return put

    async def approval(self, run_id: str, tool_call_id: str) -> Approval | None:
        """A question by its run and tool call."""
        row = await self._view(lambda: approvals.approval_by_id(run_id, tool_call_id))
        return None if row is None else approval_of(row)

    async def approvals(
        self,
        *,
        run_ids: Sequence[str] | None = None,
        statuses: Sequence[str] | None = None,
        agent_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        page: int = 0,
        per_page: int | None = 100,
    ) -> Page[Approval]:
        """A page of questions, newest first."""
        limit, offset = slice_of(page, per_page)
        rows, total = await self._view(
            lambda: approvals.list_approvals(
                _names(run_ids), _names(statuses), agent_id, thread_id, resource_id, limit, offset
            )
        )
        return page_of([approval_of(row) for row in rows], total, page, per_page)

    async def decide_approval(self, run_id: str, tool_call_id: str, decision: ApprovalDecision) -> Approval:
        """Decides a question, once. The run is told by the event that `decided_event` makes of it.

        Raises `RunNotFoundError` where there is no such question, `ConflictError` when it is decided or was about
        other arguments, and `GoneError` when its time or its run is over.
        """
        now = self.now()
        outcome = await self._decide(lambda: approvals.decide(run_id, tool_call_id, decision, now))
        return self.approval_outcome(run_id, tool_call_id, outcome)

    def approval_outcome(self, run_id: str, tool_call_id: str, outcome: Outcome) -> Approval:
        """What came of a decision, as `decide_approval` tells it: also for one that the engine made."""
        where = f"tool call {tool_call_id!r} of run {run_id!r}"
        if outcome.approval is None:
            raise RunNotFoundError(f"{where} asks nothing")
        self.tell(f"run:{run_id}")
        if outcome.verdict == "decided":
            raise ConflictError(f"{where} is {outcome.approval.status} already")
        if outcome.verdict == "changed":
            raise ConflictError(f"{where} has other arguments than those that were decided on")
        if outcome.verdict == "over":
            raise GoneError(f"{where} asks no more: the run is over")
        if outcome.verdict == "expired":
            raise GoneError(f"{where} asks no more: its time is up")
        return approval_of(outcome.approval)

    async def expire_approval(self, run_id: str, tool_call_id: str) -> bool:
        """Ends a question whose time is up; False when somebody was faster."""
        now = self.now()
        return await self._decide(lambda: approvals.expire(run_id, tool_call_id, now))

    async def close_approvals(self, run_id: str) -> int:
        """Ends whatever a run still asks; how many questions."""
        now = self.now()
        return await self._decide(lambda: approvals.close(run_id, "aborted", now))

    async def put_signal(self, run_id: str, signal_id: str, signal: dict[str, Json]) -> bool:
        """Queues a signal for a run; False when the run takes none (any more)."""
        check_id("signal.id", signal_id)
        now = self.now()
        taken = await self._decide(lambda: inbox.put(run_id, signal_id, encode(signal), now))
        self.tell(f"run:{run_id}")
        return taken

    async def claim_signals(self, run_id: str, step_id: str) -> list[dict[str, Json]]:
        """The signals that a step takes in: what is queued, and what it claimed in an earlier attempt."""
        # Every model call asks, and there is seldom anything: then nothing need be written.
        if await self._view(lambda: inbox.is_idle(run_id, step_id)):
            return []
        now = self.now()
        return [decode(row.body) for row in await self._decide(lambda: inbox.claim(run_id, step_id, now))]

    async def close_inbox(self, run_id: str, step_id: str) -> list[dict[str, Json]]:
        """Closes a run's inbox if nothing is queued; otherwise claims what is for the step, and it stays open."""
        now = self.now()
        return [decode(row.body) for row in await self._decide(lambda: inbox.close(run_id, step_id, now))]

    async def left_signals(self, run_id: str) -> list[dict[str, Json]]:
        """What is queued for a run and was not taken in (yet)."""
        return [decode(row.body) for row in await self._view(lambda: inbox.left(run_id))]

    async def runs_with_left_signals(self, limit: int = 100) -> list[str]:
        """Runs that are over and did not take in everything that was queued for them."""
        return await self._view(lambda: inbox.left_runs(limit))

    async def note_persisted(self, thread_id: str, signal_id: str, signal: dict[str, Json]) -> None:
        """Lets those who follow a thread know of a signal that was stored while no run was active."""
        now = self.now()
        await self._decide(lambda: inbox.note_persisted(signal_id, thread_id, encode(signal), now))
        self.tell(f"thread:{thread_id}")

    async def persisted_since(self, thread_id: str, after: int, limit: int = 100) -> list[Queued]:
        """Signals that were stored in a thread while no run was active there, after a place among all signals."""
        rows = await self._view(lambda: inbox.persisted(thread_id, after, limit))
        return [Queued(row.seq, decode(row.body)) for row in rows]

    async def last_signal(self) -> int:
        """The place of the newest signal."""
        return await self._view(inbox.last_place)
