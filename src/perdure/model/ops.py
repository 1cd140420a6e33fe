"""Operations that a run reports, and the memos it gets back: the words of part C.5 of the protocol.

An `Op` says what a handler did or wants next. A `Memo` is the recorded outcome of a step, which every later replay
of the handler sees instead of doing the step again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.model.errors import ErrorInfo
from perdure.model.json import Json

STEP_RUN: Final = "StepRun"
STEP_ERROR: Final = "StepError"
STEP_FAILED: Final = "StepFailed"
SLEEP: Final = "Sleep"
WAIT_FOR_EVENT: Final = "WaitForEvent"
WAIT_FOR_SIGNAL: Final = "WaitForSignal"
INVOKE: Final = "InvokeFunction"
SEND_EVENT: Final = "SendEvent"
SEND_SIGNAL: Final = "SendSignal"

# What only apps on other servers report.
STEP_PLANNED: Final = "StepPlanned"
STEP_RAW: Final = "Step"
"""An old form of StepRun, whose data is the memo as it is."""
GATEWAY: Final = "Gateway"
AI_GATEWAY: Final = "AIGateway"
DEFER_ADD: Final = "DeferAdd"
DEFER_ABORT: Final = "DeferAbort"
NONE: Final = "None"
DISCOVERY_REQUEST: Final = "DiscoveryRequest"
RUN_COMPLETE: Final = "RunComplete"
RUN_ERROR: Final = "RunError"
"""The function failed; it may be tried again."""


class Op(msgspec.Struct, gc=False):
    """One operation of a step.

    `id` is the step hash, `name` the id that the user gave. `data` is the encoded result (StepRun), `error` the
    failure (StepError: may be retried; StepFailed: final); where `data` is given as well, it is that failure as JSON,
    as another server reported it. `opts` by op:
    StepRun/StepError/StepFailed {"type"?: "step.fetch" | "step.ai.wrap" | "step.ai.infer", "input"?: any};
    Sleep {"until": ms}; WaitForEvent {"event", "if"?: text, "timeout": ms}; WaitForSignal {"signal", "timeout": ms,
    "conflict": "fail" | "replace"}; InvokeFunction {"function_id", "data", "user"?, "v"?, "meta"?, "timeout"?: ms};
    SendEvent {"events": [..]}; SendSignal {"signal", "data"}; Gateway {"url", "method", "headers", "body"};
    AIGateway {"url", "headers", "auth_key", "format", "body"}; DeferAdd {"fn_slug", "input", "meta"?};
    DeferAbort {"target_hashed_id"}. Those of other servers may have {"parallelMode": "race"} too. `metadata` are
    notes that an app attaches to the step. `timed`: its app said when it began, so that is the same however often it
    is told.
    """

    op: str
    id: str
    name: str
    opts: dict[str, Json] | None = None
    data: bytes | None = None
    error: ErrorInfo | None = None
    attempt: int = 0
    started_at: int = 0
    ended_at: int = 0
    timed: bool = False
    no_retry: bool = False
    retry_after: int | None = None
    metadata: Json = None


class Memo(msgspec.Struct, frozen=True, gc=False):
    """The recorded outcome of a step: JSON bytes of its value, or of the `ErrorInfo` when `failed`."""

    data: bytes
    failed: bool = False


class Retry(msgspec.Struct, frozen=True, gc=False):
    """The step may be attempted again now, as attempt number `attempt` (from 0)."""

    attempt: int


class OpenStep(msgspec.Struct, frozen=True, gc=False):
    """A step that a replay finds begun but not decided: it waits, or its attempts are not used up."""

    status: int
    attempt: int
