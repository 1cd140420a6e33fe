"""What a run of an agent says, piece by piece: `read_chunk` makes a typed chunk of a frame of the agents protocol.

Every chunk has its `type`, `run_id`, `payload` and, untouched, `raw`; kinds that programs ask for have a class of their
own, so that `match` tells them apart. Invariant: a kind that is not known is an `AgentChunk`, never an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.model.json import Json


class AgentChunk:
    """One piece. `index` is its place in the run's log, where the stream tells it."""

    __slots__ = ("index", "raw")

    def __init__(self, raw: dict[str, Json], index: int | None = None) -> None:
        self.raw = raw
        self.index = index

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.raw!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgentChunk) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash((self.type, self.run_id, self.index))

    @property
    def type(self) -> str:
        """The kind, as `text-delta`."""
        return str(self.raw.get("type"))

    @property
    def run_id(self) -> str | None:
        """The run that says it."""
        run_id: str | None = self.raw.get("runId")
        return run_id

    @property
    def payload(self) -> dict[str, Json]:
        """The content; empty for kinds that have it elsewhere."""
        payload: Json = self.raw.get("payload")
        return payload if isinstance(payload, dict) else {}


class Start(AgentChunk):
    """A run begins."""

    __slots__ = ()

    @property
    def message_id(self) -> str | None:
        """The id of the message of the assistant."""
        id: str | None = self.payload.get("messageId")
        return id


class TextDelta(AgentChunk):
    """More of the text."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """What is added."""
        return str(self.payload.get("text") or "")


class ReasoningDelta(TextDelta):
    """More of what the model thinks."""

    __slots__ = ()


class OfCall(AgentChunk):
    """Something about a call of a tool."""

    __slots__ = ()

    @property
    def tool_call_id(self) -> str:
        """Which call."""
        return str(self.payload.get("toolCallId"))

    @property
    def tool_name(self) -> str:
        """The tool's name."""
        return str(self.payload.get("toolName"))

    @property
    def args(self) -> Json:
        """What the tool is called with."""
        return self.payload.get("args")


class ToolCall(OfCall):
    """The model calls a tool."""

    __slots__ = ()


class ToolResult(OfCall):
    """What a tool has returned."""

    __slots__ = ()

    @property
    def result(self) -> Json:
        """The value."""
        return self.payload.get("result")


class ToolError(OfCall):
    """A tool has failed."""

    __slots__ = ()

    @property
    def error(self) -> Json:
        """What went wrong, as an object."""
        return self.payload.get("error")


class ToolDenied(OfCall):
    """A call was declined."""

    __slots__ = ()

    @property
    def reason(self) -> str | None:
        """Why, if somebody has said so."""
        reason: str | None = (self.payload.get("approval") or {}).get("reason")
        return reason


class ToolOutput(OfCall):
    """What a tool says while it works."""

    __slots__ = ()

    @property
    def output(self) -> Json:
        """The value; a chunk, where the tool is an agent or a function."""
        output: Json = self.payload.get("output")
        return read_chunk(output) if isinstance(output, dict) and isinstance(output.get("type"), str) else output


class ApprovalRequest(OfCall):
    """Somebody must approve a call, or decline it."""

    __slots__ = ()

    @property
    def resume_schema(self) -> Json:
        """The JSON Schema of the answer."""
        return self.payload.get("resumeSchema")


class Suspended(ApprovalRequest):
    """A tool waits for data."""

    __slots__ = ()

    @property
    def suspend_payload(self) -> Json:
        """What the tool says about it."""
        return self.payload.get("suspendPayload")


class ObjectChunk(AgentChunk):
    """The structured answer so far, and at last the whole one (`object-result`)."""

    __slots__ = ()

    @property
    def object(self) -> Json:
        """The value."""
        return self.raw.get("object")


class DataChunk(AgentChunk):
    """Something of an application's own (`data-*`), and signals."""

    __slots__ = ()

    @property
    def data(self) -> Json:
        """The value."""
        return self.raw.get("data")


class BackgroundTask(AgentChunk):
    """Something about a background task."""

    __slots__ = ()

    @property
    def task_id(self) -> str:
        """Which task."""
        return str(self.payload.get("taskId"))


class ErrorChunk(AgentChunk):
    """The run, or an attempt of it, has failed."""

    __slots__ = ()

    @property
    def message(self) -> str:
        """What went wrong."""
        error: Json = self.payload.get("error")
        return str(error.get("message") if isinstance(error, dict) else error)


class StepFinish(AgentChunk):
    """A step is over."""

    __slots__ = ()

    @property
    def reason(self) -> str | None:
        """Why: `stop`, `tool-calls`, `length`, `error`, ..."""
        reason: str | None = (self.payload.get("stepResult") or {}).get("reason")
        return reason

    @property
    def usage(self) -> dict[str, Json]:
        """The tokens."""
        return (self.payload.get("output") or {}).get("usage") or {}


class Finish(StepFinish):
    """The run is over; the tokens are those of all steps."""

    __slots__ = ()


_KINDS: Final[dict[str, Callable[[dict[str, Json], int | None], AgentChunk]]] = {
    "start": Start,
    "text-delta": TextDelta,
    "reasoning-delta": ReasoningDelta,
    "tool-call": ToolCall,
    "tool-result": ToolResult,
    "tool-error": ToolError,
    "tool-output-denied": ToolDenied,
    "tool-output": ToolOutput,
    "tool-call-approval": ApprovalRequest,
    "tool-call-suspended": Suspended,
    "object": ObjectChunk,
    "object-result": ObjectChunk,
    "error": ErrorChunk,
    "step-finish": StepFinish,
    "finish": Finish,
}


def read_chunk(raw: dict[str, Json], index: int | None = None) -> AgentChunk:
    """A frame as a typed chunk.

    >>> read_chunk({"type": "text-delta", "runId": "r", "payload": {"text": "Hi"}}).text
    'Hi'
    """
    kind = str(raw.get("type"))
    if kind.startswith("data-"):
        return DataChunk(raw, index)
    if kind.startswith("background-task-"):
        return BackgroundTask(raw, index)
    return _KINDS.get(kind, AgentChunk)(raw, index)
