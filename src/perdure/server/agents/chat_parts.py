"""What a run says as parts of a message of the AI SDK: one frame of the agents protocol in, parts out.

Pure: `UiParts` takes the frames that `Frames` tells and gives the chunks that `useChat` and `readUIMessageStream` read,
as `toAISdkStream` of `@mastra/ai-sdk` makes them. Formats are `v5` and `v6`; the second one knows approvals.

Invariant: a chunk that the format does not know is never told, because its parser ends the message there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Literal, TypeAlias

from perdure.model.json import Json, encode
from perdure.server.agents.chat_nested import WorkflowParts
from perdure.server.agents.chat_network import NetworkParts
from perdure.server.agents.shapes import NOT_APPROVED

Format: TypeAlias = Literal["v5", "v6"]
FORMATS: Final = ("v5", "v6")
Part: TypeAlias = dict[str, Json]

_SECRET: Final = frozenset({"requestBodyValues", "responseHeaders", "responseBody", "stack", "data", "prompt"})
"""Fields of errors of providers that have prompts or keys in them."""
_REASONS: Final = frozenset({"stop", "length", "content-filter", "tool-calls", "error", "other"})
_BACKGROUND: Final = "background-task-"


class UiParts:
    """Translates one stream. `message_id`: of the message that goes on; None where the run's own is told.

    `answered` are calls whose questions are being answered by the same request, so that nobody is asked again.
    """

    def __init__(
        self,
        format: Format,
        *,
        message_id: str | None = None,
        reasoning: bool = False,
        sources: bool = False,
        answered: Collection[str] = (),
    ) -> None:
        self._format = format
        self._message_id = message_id
        self._reasoning = reasoning
        self._sources = sources
        self._answered = answered
        self._held: list[dict[str, Json]] = []
        self._open: dict[str, str] = {}
        self._tripped = False
        self._finished = False
        self._workflows = WorkflowParts()
        self._network = NetworkParts(nested=True)

    def of(self, frame: dict[str, Json]) -> list[Part]:
        """What is told of a frame. A start is held back until the id of its message is certain."""
        kind: str = frame["type"]
        if kind == "start" or (self._held and kind.startswith("data-")):
            self._held.append(frame)
            return []
        held = self._release(frame if kind == "step-start" else None)
        return [*held, *self._told(frame)]

    def end(self) -> list[Part]:
        """What is told when there are no more frames."""
        told = self._release(None)
        if self._tripped and not self._finished:
            told.append({"type": "finish", "finishReason": "other"})
        return told

    def _release(self, step: dict[str, Json] | None) -> list[Part]:
        held, self._held = self._held, []
        if held and step is not None and (id := (step.get("payload") or {}).get("messageId")):
            held[0] = {**held[0], "payload": {**(held[0].get("payload") or {}), "messageId": id}}
        return [part for frame in held for part in self._told(frame)]

    def _told(self, frame: dict[str, Json]) -> list[Part]:
        kind: str = frame["type"]
        if kind.startswith("data-"):
            return [data_part(frame)]
        payload: dict[str, Json] = frame.get("payload") or {}
        if kind.startswith(_BACKGROUND):
            return [_background(frame, payload)]
        name = _TOLD.get(kind)
        if name is None:
            return []
        tell: Callable[[dict[str, Json], dict[str, Json]], list[Part]] = getattr(self, name)
        return tell(frame, payload)

    def _start(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        id = self._message_id or payload.get("messageId")
        return [{"type": "start"} if id is None else {"type": "start", "messageId": id}]

    def _step_start(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        return [{"type": "start-step"}]

    def _step_finish(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        return [{"type": "finish-step"}]

    def _said(self, frame: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        """Text and thoughts: the words are `delta` there."""
        kind: str = frame["type"]
        if kind.startswith("reasoning") and not self._reasoning:
            return []
        part: Part = {"type": kind, "id": payload.get("id")}
        if kind.endswith("-delta"):
            part["delta"] = payload.get("text") or ""
        elif kind.endswith("-start"):
            self._open[kind.removesuffix("start") + "end"] = str(part["id"])
        else:
            self._open.pop(kind, None)
        return [_noted(part, payload)]

    def _source(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        if not self._sources:
            return []
        kind = payload.get("sourceType", "url")
        kept = {"type": f"source-{kind}", "sourceId": payload.get("id"), "title": payload.get("title")}
        more = {"url": "url"} if kind == "url" else {"mediaType": "mimeType", "filename": "filename"}
        part = {**kept, **{name: payload.get(field) for name, field in more.items()}}
        return [_noted({key: value for key, value in part.items() if value is not None}, payload)]

    def _file(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        data, mime = payload.get("data") or "", payload.get("mimeType") or "application/octet-stream"
        linked = data.startswith(("data:", "http:", "https:"))
        return [{"type": "file", "mediaType": mime, "url": data if linked else f"data:{mime};base64,{data}"}]

    def _input_start(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        named = {"toolCallId": payload.get("toolCallId"), "toolName": payload.get("toolName")}
        return [{"type": "tool-input-start", **named, "dynamic": bool(payload.get("dynamic"))}]

    def _input_delta(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        text = payload.get("argsTextDelta") or ""
        return [{"type": "tool-input-delta", "toolCallId": payload.get("toolCallId"), "inputTextDelta": text}]

    def _call(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        named = {"toolCallId": payload.get("toolCallId"), "toolName": payload.get("toolName")}
        return [_noted({"type": "tool-input-available", **named, "input": payload.get("args")}, payload)]

    def _result(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        call = {"toolCallId": payload.get("toolCallId"), "output": payload.get("result")}
        return [_noted({"type": "tool-output-available", **call}, payload)]

    def _failed(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        call = payload.get("toolCallId")
        return [{"type": "tool-output-error", "toolCallId": call, "errorText": error_text(payload.get("error"))}]

    def _denied(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        call = payload.get("toolCallId")
        if self._format == "v6":
            return [{"type": "tool-output-denied", "toolCallId": call}]
        # The older format knows no such end of a call, and its parser would give the whole message up.
        reason = (payload.get("approval") or {}).get("reason") or NOT_APPROVED
        return [{"type": "tool-output-error", "toolCallId": call, "errorText": reason}]

    def _question(self, frame: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        call = payload.get("toolCallId")
        if call in self._answered:
            return []
        kind = f"data-{frame['type']}"
        names = ["toolCallId", "toolName", "suspendPayload" if kind.endswith("suspended") else "args", "resumeSchema"]
        data = {"state": kind, "runId": frame.get("runId"), **{name: payload.get(name) for name in names}}
        part: Part = {"type": kind, "id": call, "data": data}
        if self._format == "v5" or kind.endswith("suspended"):
            return [part]
        request = {"type": "tool-approval-request", "approvalId": f"{frame.get('runId')}::{call}", "toolCallId": call}
        return [request, part]

    def _output(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        """What a tool says while it works: parts of its own, or how a function goes on. Sub-agents are not told."""
        output: Json = payload.get("output")
        while isinstance(output, dict) and output.get("type") == "tool-output":
            output = (output.get("payload") or {}).get("output")
        if not isinstance(output, dict):
            return []
        if output.get("from") == "WORKFLOW":
            return self._workflows.of(output)
        if output.get("from") == "NETWORK":
            return self._network.of(output)
        return [data_part(output)] if str(output.get("type")).startswith("data-") else []

    def _object(self, frame: dict[str, Json], _: dict[str, Json]) -> list[Part]:
        return [{"type": "data-structured-output", "data": {"object": frame.get("object")}}]

    def _tripwire(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        self._tripped = True
        names = ("reason", "retry", "metadata", "processorId")
        return [{"type": "data-tripwire", "data": {name: payload[name] for name in names if name in payload}}]

    def _rollback(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        """A message cannot be taken back: its open texts are closed, and whoever listens is told what happened."""
        closed: list[Part] = [{"type": kind, "id": id} for kind, id in self._open.items()]
        self._open.clear()
        return [*closed, {"type": "data-step-rollback", "data": payload, "transient": True}]

    def _error(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        return [{"type": "error", "errorText": error_text(payload.get("error"))}]

    def _abort(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        return [{"type": "abort"}]

    def _finish(self, _: dict[str, Json], payload: dict[str, Json]) -> list[Part]:
        self._finished = True
        reason: Json = (payload.get("stepResult") or {}).get("reason")
        return [{"type": "finish", "finishReason": reason if reason in _REASONS else "other"}]


_TOLD: Final = {
    "start": "_start",
    "step-start": "_step_start",
    "step-finish": "_step_finish",
    **dict.fromkeys(("text-start", "text-delta", "text-end"), "_said"),
    **dict.fromkeys(("reasoning-start", "reasoning-delta", "reasoning-end"), "_said"),
    "source": "_source",
    "file": "_file",
    "tool-call-input-streaming-start": "_input_start",
    "tool-call-delta": "_input_delta",
    "tool-call": "_call",
    "tool-result": "_result",
    "tool-error": "_failed",
    "tool-output-denied": "_denied",
    "tool-call-approval": "_question",
    "tool-call-suspended": "_question",
    "tool-output": "_output",
    "object-result": "_object",
    "tripwire": "_tripwire",
    "step-rollback": "_rollback",
    "error": "_error",
    "abort": "_abort",
    "finish": "_finish",
}
"""The method of `UiParts` for each kind of frame that is told."""


def data_part(frame: dict[str, Json]) -> Part:
    """A part of an application's own, without what the protocol adds to it."""
    part: Part = {"type": frame["type"], "data": frame.get("data")}
    return part if frame.get("id") is None else {**part, "id": frame["id"]}


def error_text(error: Json) -> str:
    """An error as a text: what it says, without what a provider was asked.

    >>> error_text({"message": "no", "requestBodyValues": {"prompt": "secret"}})
    '{"message":"no"}'
    """
    if not isinstance(error, dict):
        return str(error)
    return encode(_open(error)).decode()


def _open(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _open(each) for key, each in value.items() if key not in _SECRET}
    return [_open(each) for each in value] if isinstance(value, list) else value


def _noted(part: Part, payload: dict[str, Json]) -> Part:
    noted: Json = payload.get("providerMetadata")
    return part if noted is None else {**part, "providerMetadata": noted}


def _background(frame: dict[str, Json], payload: dict[str, Json]) -> Part:
    kind = f"data-{frame['type']}"
    data = {**payload, "state": kind, "runId": frame.get("runId") or payload.get("runId")}
    id = payload.get("taskId") or payload.get("toolCallId")
    return {"type": kind, "data": data} if id is None else {"type": kind, "id": id, "data": data}
