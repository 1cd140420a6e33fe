"""Which runs of an agent there are: those that wait for a person, and those that are not over.

The engine knows best whether a run goes on: rows of runs that were cancelled or failed behind the agent's back are
mended when somebody asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec

from perdure.agents.durable.engines import Engine
from perdure.agents.errors import InvalidOptionError
from perdure.agents.journal import shown_ids
from perdure.agents.storage import AgentRun, Approval, Page
from perdure.engine.agents.records import OVER, AgentRunStatus
from perdure.model.errors import NotFoundError
from perdure.model.json import Json
from perdure.model.records import RunStatus

_ENDED: Final[dict[RunStatus, AgentRunStatus]] = {
    RunStatus.COMPLETED: "finished",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "aborted",
    RunStatus.SKIPPED: "aborted",
}
Mend: TypeAlias = Callable[[AgentRun], Awaitable[AgentRun]]
"""Gives a run as it stands; its row may not know yet that it is over."""
_MENDED: Final = 100
"""How often a page is asked for."""


class OpenQuestion(msgspec.Struct):
    """What a run waits for. `asked_at` and `expires_at` in ms."""

    tool_call_id: str
    tool_name: str
    args: Json
    args_hash: str
    type: Literal["approval", "suspension"]
    asked_at: int
    expires_at: int | None = None
    payload: Json = None
    resume_schema: Json = None

    @property
    def requires_approval(self) -> bool:
        """Whether it is a yes or no that is wanted."""
        return self.type == "approval"


class SuspendedRun(msgspec.Struct):
    """A run that waits for people. `suspended_at` (ms) is when it asked first of what is open."""

    run_id: str
    agent_id: str
    suspended_at: int
    tool_calls: list[OpenQuestion]
    thread_id: str | None = None
    resource_id: str | None = None


async def mended(engine: Engine, run: AgentRun, keep_for: int | None = None) -> AgentRun:
    """A run as it stands; one that is found to be over is remembered for so long (ms)."""
    if run.status in OVER or run.engine_run_id is None:
        return run
    try:
        standing = await engine.standing(run.engine_run_id)
    except NotFoundError:
        # The engine has forgotten it, so it had ended.
        return await engine.storage.set_run_status(run.run_id, "failed", finish_reason="unknown", keep_for=keep_for)
    if not standing.status.final:
        return run
    status = _ENDED[standing.status]
    reason = {"failed": "error", "aborted": "abort"}.get(status)
    return await engine.storage.set_run_status(run.run_id, status, finish_reason=reason, keep_for=keep_for)


async def active_runs(
    engine: Engine,
    agent_id: str,
    mend: Mend,
    *,
    thread_id: str | None = None,
    resource_id: str | None = None,
    page: int = 0,
    per_page: int = 100,
) -> Page[AgentRun]:
    """The runs of an agent that are not over, newest first."""
    return await _page(
        engine,
        ["running", "suspended"],
        mend,
        agent_id=agent_id,
        thread_id=thread_id,
        resource_id=resource_id,
        page=page,
        per_page=per_page,
    )


async def _page(engine: Engine, statuses: list[AgentRunStatus], mend: Mend, **chosen: Json) -> Page[AgentRun]:
    """A page of runs, asked for until none of it is over in truth."""
    found = await engine.storage.runs(statuses=statuses, **chosen)
    for _ in range(_MENDED):
        over = [(await mend(run)).status in OVER for run in found.items]
        if not any(over):
            break
        found = await engine.storage.runs(statuses=statuses, **chosen)
    return found


async def suspended_runs(
    engine: Engine,
    agent_id: str,
    mend: Mend,
    *,
    thread_id: str | None = None,
    resource_id: str | None = None,
    from_date: datetime | int | None = None,
    to_date: datetime | int | None = None,
    page: int = 0,
    per_page: int = 100,
) -> Page[SuspendedRun]:
    """The runs of an agent that have open questions, newest first. Dates are datetimes with a zone, or ms."""
    span = (_millis("from_date", from_date), _millis("to_date", to_date))
    found = await _page(
        engine,
        ["suspended"],
        mend,
        agent_id=agent_id,
        thread_id=thread_id,
        resource_id=resource_id,
        from_=span[0],
        to=span[1],
        page=page,
        per_page=per_page,
    )
    ids = [run.run_id for run in found.items]
    asked = (await engine.storage.approvals(run_ids=ids, statuses=["pending"], per_page=None)).items
    shown = [_suspended(run, [row for row in asked if row.run_id == run.run_id]) for run in found.items]
    return Page([run for run in shown if run.tool_calls], found.total, found.page, found.per_page, found.has_more)


async def open_questions(engine: Engine, run: AgentRun) -> list[OpenQuestion]:
    """What a run waits for, the oldest question first."""
    return _questions((await engine.storage.approvals(run_ids=[run.run_id], statuses=["pending"], per_page=None)).items)


def _suspended(run: AgentRun, rows: list[Approval]) -> SuspendedRun:
    questions = _questions(rows)
    since = questions[0].asked_at if questions else run.updated_at
    return SuspendedRun(run.run_id, run.agent_id, since, questions, run.thread_id, run.resource_id)


def _questions(rows: list[Approval]) -> list[OpenQuestion]:
    ids = shown_ids(row.tool_call_id for row in rows)
    return [
        OpenQuestion(
            ids[row.tool_call_id],
            row.tool_name,
            row.args,
            row.args_hash,
            row.kind,
            row.asked_at,
            row.expires_at,
            row.payload,
            row.resume_schema,
        )
        for row in sorted(rows, key=lambda row: (row.asked_at, row.tool_call_id))
    ]


def _millis(name: str, when: datetime | int | None) -> int | None:
    if when is None or type(when) is int:
        return when
    if not isinstance(when, datetime):
        raise InvalidOptionError(f"{name}: must be a datetime, or ms, got {when!r}")
    if when.tzinfo is None:
        raise InvalidOptionError(f"{name}: {when} has no time zone")
    return int(when.timestamp() * 1000)
