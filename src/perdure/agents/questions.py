"""Lanes: what goes on in a run of this process, counted, so that it shows when only questions are left.

Readers of a run end their segment at `suspended`, so it must be said once nothing else will be. Readers of a durable
run see that from its log and from the rows of its approvals; there nothing is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from perdure.agents.chunks import Chunk, chunk
from perdure.agents.journal import Journal, Question, shown_ids
from perdure.agents.said import APPROVAL_SCHEMA
from perdure.model.json import Json, encode


class Lanes:
    """Counts the loops and calls that go on. A run begins with one: its loop."""

    def __init__(self, run_id: str, push: Callable[[Chunk], None]) -> None:
        self._run_id = run_id
        self._push = push
        self._active = 1
        self._open: dict[str, Question] = {}

    def fork(self, calls: int) -> None:
        """A loop waits for so many calls."""
        self._active += calls - 1
        self._look()

    def join(self) -> None:
        """A loop goes on after its calls."""
        self._active += 1

    def finished(self) -> None:
        """A call is done."""
        self._active -= 1
        self._look()

    def waits(self, question: Question) -> None:
        """A call waits for somebody, and has said so."""
        self._open[question.place] = question
        self._active -= 1
        self._look()

    def goes_on(self, question: Question) -> None:
        """A call waits no longer."""
        del self._open[question.place]
        self._active += 1

    def _look(self) -> None:
        if self._active or not self._open:
            return
        ids = shown_ids(self._open)
        questions = [told_question(question, ids[place]) for place, question in self._open.items()]
        self._push(chunk("suspended", self._run_id, **questions[0], questions=questions))


@runtime_checkable
class Counted(Protocol):
    """A journal that counts."""

    @property
    def lanes(self) -> Lanes | None: ...


def lanes_of(journal: Journal) -> Lanes | None:
    """Where a journal counts; None where it does not."""
    return journal.lanes if isinstance(journal, Counted) else None


def announcement(run_id: str, question: Question, shown_id: str | None = None) -> Chunk:
    """The chunk that tells of a question."""
    approval, schema = question.kind == "approval", question.resume_schema
    shown = None if schema is None else encode(schema).decode()
    return chunk(
        "tool-call-approval" if approval else "tool-call-suspended",
        run_id,
        toolCallId=shown_id or question.tool_call_id,
        toolName=question.tool_name,
        args=question.args,
        argsHash=question.args_hash,
        suspendPayload=question.payload,
        resumeSchema=APPROVAL_SCHEMA if approval else shown,
    )


def told_question(question: Question, shown_id: str) -> dict[str, Json]:
    """A question as `suspended` tells it."""
    schema = APPROVAL_SCHEMA if question.kind == "approval" else question.resume_schema
    told: dict[str, Json] = {
        "toolCallId": shown_id,
        "toolName": question.tool_name,
        "args": question.args,
        "argsHash": question.args_hash,
        "type": question.kind,
        "suspendPayload": question.payload,
        "resumeSchema": schema,
    }
    return {key: value for key, value in told.items() if value is not None}
