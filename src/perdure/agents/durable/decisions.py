"""Deciding what a run asks: which question is meant, who may answer it, and with what.

A decision is single use and bound to the arguments that were shown; a run asks only those of its own agent, in the
version that it began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from perdure.agents.durable.body import Body
from perdure.agents.durable.children import is_child
from perdure.agents.durable.engines import Engine
from perdure.agents.errors import ConflictError, GoneError, InvalidOptionError, RunNotFoundError
from perdure.agents.journal import INSIDE, call_of, shown_ids
from perdure.agents.schemas import Shape, ShapeError
from perdure.agents.storage import AgentRun, Approval
from perdure.engine.agents.approvals import ApprovalDecision
from perdure.model.json import Json, decode

_LOOK: Final = 0.05
_LOOKS: Final = 100
"""How often, and after how many seconds each, a question is looked for that is asked at the top in a moment."""


class Given(msgspec.Struct):
    """A decision as its caller gives it. `args_hash`, where it is given, must be that of the arguments shown.

    `args` replace the arguments of the call. `data` is what a tool that suspended gets.
    """

    approved: bool
    reason: str | None = None
    data: Json = None
    args: Json = None
    by: str | None = None
    args_hash: str | None = None


class Resumed(msgspec.Struct):
    """What `resume` was given: what it means depends on the question."""

    data: Json


async def decide(
    engine: Engine, body: Body, run: AgentRun, answers: Mapping[str | None, Given | Resumed]
) -> list[Approval]:
    """Decides questions of a run by their calls; None means the only one that is open.

    All of them are looked at before the first is decided. Raises `RunNotFoundError`, `ConflictError`, `GoneError`,
    `InvalidOptionError`.
    """
    found = [await _read(engine, body, run, call, answer) for call, answer in answers.items()]
    # One that is decided already raises; it comes first, so that nothing else happens then.
    found.sort(key=lambda item: item[0].status == "pending")
    decided = [await engine.decide(run.run_id, row.tool_call_id, decision) for row, decision in found]
    left = await engine.storage.approvals(run_ids=[run.run_id], statuses=["pending"], per_page=1)
    if not left.total:
        await engine.storage.set_run_status(run.run_id, "running")
    return decided


async def asked_above(
    engine: Engine, run: AgentRun, answers: Mapping[str | None, Given | Resumed]
) -> tuple[AgentRun, dict[str | None, Given | Resumed]]:
    """The run at the top of a sub-agent's run, and the answers as they are given there.

    What a child asks, the run at the top asks a moment later. Raises `RunNotFoundError`.
    """
    prefix, top = "", run
    while is_child(top):
        prefix = f"{top.detail['toolCallId']}{INSIDE}{prefix}"
        above = await engine.storage.run(top.parent_run_id or "")
        if above is None:
            raise RunNotFoundError(f"there is no run {top.parent_run_id!r}, of which {top.run_id!r} is a part")
        top = above
    if not prefix:
        return run, dict(answers)
    own = await engine.storage.approvals(run_ids=[run.run_id], per_page=None)
    given = {(await _question(engine, run, call, None)).tool_call_id: answer for call, answer in answers.items()}
    pending = {prefix + row.tool_call_id for row in own.items if row.status == "pending" and row.tool_call_id in given}
    with engine.storage.watch(f"run:{top.run_id}") as watch:
        for _ in range(_LOOKS):
            page = await engine.storage.approvals(run_ids=[top.run_id], per_page=None)
            if pending <= {row.tool_call_id for row in page.items}:
                break
            await watch.changed(_LOOK)
    return top, {prefix + place: answer for place, answer in given.items()}


async def _read(
    engine: Engine, body: Body, run: AgentRun, tool_call_id: str | None, answer: Given | Resumed
) -> tuple[Approval, ApprovalDecision]:
    row = await _question(engine, run, tool_call_id, answer.args_hash if isinstance(answer, Given) else None)
    given = given_by(row, answer.data) if isinstance(answer, Resumed) else answer
    if row.status == "pending":
        if given.args is not None and not body.edits_args(row.tool_name):
            raise InvalidOptionError(f"args: tool {row.tool_name!r} does not let its arguments be edited")
        given = _checked(row, given)
    return row, ApprovalDecision(given.approved, given.reason, given.data, given.args, given.by, given.args_hash)


def given_by(row: Approval, data: Json) -> Given:
    """The decision that is in the data of `resume`.

    Of an approval: a bool, or an object in which `approved` is one. A tool that suspended gets whatever it is, unless
    it says no where the tool has not declared what it takes.
    """
    if row.kind == "suspension" and not (
        row.resume_schema is None and isinstance(data, dict) and data.get("approved") is False
    ):
        return Given(True, data=data)
    if isinstance(data, bool):
        return Given(data)
    approved = data.get("approved") if isinstance(data, dict) else None
    if not isinstance(approved, bool):
        raise InvalidOptionError(
            'resume_data: an approval is true, false, {"approved": true} or {"approved": false, "reason": ...}'
        )
    texts = {name: data.get(name) for name in ("reason", "by", "argsHash")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise InvalidOptionError(f"resume_data.{name}: must be a text, got {text!r}")
    return Given(approved, texts["reason"], data.get("data"), data.get("args"), texts["by"], texts["argsHash"])


async def _question(engine: Engine, run: AgentRun, tool_call_id: str | None, args_hash: str | None) -> Approval:
    page = await engine.storage.approvals(run_ids=[run.run_id], per_page=None)
    # Newest first, and of one call the last question counts.
    rows = sorted(page.items, key=lambda row: (row.status == "pending", row.asked_at), reverse=True)
    if tool_call_id is not None:
        rows = [row for row in rows if tool_call_id in (row.tool_call_id, call_of(row.tool_call_id))]
        if not rows:
            raise RunNotFoundError(f"tool call {tool_call_id!r} of run {run.run_id!r} asks nothing")
    pending = [row for row in rows if row.status == "pending"]
    if len(pending) > 1:
        pending = [row for row in pending if row.tool_call_id == tool_call_id] or _meant(pending, args_hash)
    if len(pending) > 1:
        calls = ", ".join(sorted(shown_ids(row.tool_call_id for row in pending).values()))
        raise InvalidOptionError(f"tool_call_id: run {run.run_id!r} asks several questions; say which: {calls}")
    if pending:
        return pending[0]
    if tool_call_id is not None:
        return rows[0]
    if run.status in ("finished", "failed", "aborted"):
        raise GoneError(f"run {run.run_id!r} asks nothing: it is over")
    if rows:
        raise ConflictError(f"run {run.run_id!r} asks nothing more: all its questions are decided")
    raise RunNotFoundError(f"run {run.run_id!r} asks nothing")


def _meant(pending: list[Approval], args_hash: str | None) -> list[Approval]:
    """Of several questions those about these arguments; all of them where that does not help."""
    return [row for row in pending if row.args_hash == args_hash] or pending


def _checked(row: Approval, given: Given) -> Given:
    """The decision, its data read by the schema that the question gave for it."""
    schema = row.resume_schema
    if isinstance(schema, str):
        schema = decode(schema)
    if row.kind != "suspension" or not given.approved or not isinstance(schema, dict):
        return given
    try:
        read: Json = Shape(schema).read(given.data)
    except ShapeError as error:
        raise InvalidOptionError(f"resume_data: {error}") from error
    return msgspec.structs.replace(given, data=read)
