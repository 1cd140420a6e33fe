"""What a server answers, as Structs. Times are RFC 3339 text in UTC with milliseconds, durations whole ms.

`status` of a run is QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED or SKIPPED; of a span RUNNING, WAITING,
COMPLETED, FAILED or CANCELLED (the root: as its run).
"""

from __future__ import annotations

import msgspec

from perdure.model.json import Json


class FunctionRef(msgspec.Struct):
    """A function by its id within its app, with the name shown to people."""

    id: str
    name: str


class AppRef(msgspec.Struct):
    """An app by its id."""

    id: str


class TriggerInfo(msgspec.Struct, rename="camel"):
    """What started a run: the internal ids of its events, the cron expression if it was a tick."""

    event_ids: list[str] = []
    cron: str | None = None


class RunInfo(msgspec.Struct, rename="camel"):
    """A run. `output` is there for a run that has ended, if it was asked for: the result, or the error."""

    id: str
    status: str
    function: FunctionRef
    app: AppRef
    trigger: TriggerInfo
    queued_at: str
    started_at: str | None = None
    ended_at: str | None = None
    duration_ms: str | None = None
    output: Json = None

    @property
    def function_id(self) -> str:
        """The function's slug, `<app>-<function>`."""
        return f"{self.app.id}-{self.function.id}"

    @property
    def ended(self) -> bool:
        return self.status not in ("QUEUED", "RUNNING")


class RunPage(msgspec.Struct):
    """Runs, newest first; `cursor` gets the next page, None at the end."""

    runs: list[RunInfo]
    cursor: str | None


class ReplayInfo(msgspec.Struct, rename="camel"):
    """A replay: how many runs it started, and how many could not be started again."""

    id: str
    run_count: int
    skipped_count: int
    created_at: str
    ended_at: str


class Span(msgspec.Struct, rename="camel"):
    """A node of a trace: the run, a step, or an attempt. `step_op` is RUN, SLEEP, WAIT_FOR_EVENT, INVOKE, ..."""

    id: str
    name: str
    status: str
    queued_at: str
    started_at: str | None = None
    ended_at: str | None = None
    duration_ms: str | None = None
    step_op: str | None = None
    step_id: str | None = None
    input: Json = None
    output: Json = None
    children: list[Span] = []
