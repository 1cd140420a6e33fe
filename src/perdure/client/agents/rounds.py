"""One round of a run with tools of the caller: the calls that a stream has told of, their results, the next request.

Without a thread the server has forgotten the conversation, so the next request brings all of it; with one it brings the
results alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from perdure.client.agents.chunks import (
    AgentChunk,
    Finish,
    TextDelta,
    ToolCall,
    ToolDenied,
    ToolError,
    ToolResult,
    read_chunk,
)
from perdure.client.agents.tools import ClientTool
from perdure.model.json import Json


class Round:
    """Gathers the calls of one stream; `tools` are those of the caller, by name."""

    def __init__(self, tools: Mapping[str, ClientTool]) -> None:
        self._tools = tools
        self._before: list[dict[str, Json]] = []
        self._text = ""
        self._calls: dict[str, ToolCall] = {}
        self._results: dict[str, Json] = {}
        self._reason: str | None = None

    def take(self, chunk: AgentChunk) -> None:
        """Takes a chunk of the stream."""
        match chunk:
            case ToolCall():
                self._calls[chunk.tool_call_id] = chunk
            case ToolResult():
                self._results[chunk.tool_call_id] = chunk.result
            case ToolError():
                self._results[chunk.tool_call_id] = {"error": chunk.error}
            case ToolDenied():
                self._results[chunk.tool_call_id] = {"error": chunk.reason or "the call was declined"}
            case TextDelta() if chunk.type == "text-delta":
                self._text += chunk.text
            case Finish():
                self._reason = chunk.reason
            case AgentChunk() if chunk.type == "step-start":
                self._next_step()
            case _:
                pass

    def take_steps(self, steps: Sequence[dict[str, Json]], reason: str) -> None:
        """Takes the steps of a result, and how it has ended."""
        for step in steps:
            self._next_step()
            self._text = step.get("text") or ""
            self._calls = {call.tool_call_id: call for call in map(ToolCall, step.get("toolCalls") or [])}
            for part in step.get("content") or []:
                if part.get("type") == "tool-result":
                    self._results[part["toolCallId"]] = (part.get("output") or {}).get("value")
        self._reason = reason

    def _next_step(self) -> None:
        """What came before is answered already: only the last step waits for the caller."""
        if self._text or self._calls:
            self._before.append(self.said())
        if self._calls:
            self._before.append(self.results())
        self._calls, self._results, self._text = {}, {}, ""

    @property
    def pending(self) -> list[ToolCall]:
        """The calls that nobody has carried out yet."""
        return [call for id, call in self._calls.items() if id not in self._results]

    @property
    def is_ours(self) -> bool:
        """Whether the round is over, and everything that it waits for can be carried out here."""
        waiting = self.pending
        callable_ = [call for call in waiting if call.tool_name in self._tools]
        ours = len(callable_) == len(waiting) and all(self._tools[call.tool_name].is_callable for call in callable_)
        return self._reason == "tool-calls" and bool(waiting) and ours

    async def carried_out(self) -> list[AgentChunk]:
        """Carries out what waits, all at once; the results as chunks."""
        return list(await asyncio.gather(*map(self._carry_out, self.pending)))

    async def _carry_out(self, call: ToolCall) -> AgentChunk:
        told = {key: call.payload.get(key) for key in ("toolCallId", "toolName", "args")}
        said = {"runId": call.run_id, "from": "USER"}
        try:
            result = await self._tools[call.tool_name].call(call.args)
        except Exception as error:
            # It is the caller's own code, and may fail in any way: the model is told.
            name, message = type(error).__name__, str(error)
            self._results[call.tool_call_id] = {"error": message or name}
            failed = {**told, "error": {"name": name, "message": message}}
            return read_chunk({**said, "type": "tool-error", "payload": failed})
        self._results[call.tool_call_id] = result
        return read_chunk({**said, "type": "tool-result", "payload": {**told, "result": result}})

    def next_body(self, body: Mapping[str, Json]) -> dict[str, Json]:
        """The request that goes on with the results."""
        next_ = {key: value for key, value in body.items() if key not in ("resumeData", "toolCallId")}
        if isinstance(body.get("memory"), dict) and body["memory"].get("thread"):
            return {**next_, "messages": [self.results()]}
        return {**next_, "messages": [*as_list(body.get("messages")), *self._before, self.said(), self.results()]}

    def said(self) -> dict[str, Json]:
        """What the assistant has said in the last step, as a message."""
        text = [{"type": "text", "text": self._text}] if self._text else []
        return {"role": "assistant", "content": [*text, *map(_call, self._calls.values())]}

    def results(self) -> dict[str, Json]:
        """What came of the calls, as a message."""
        parts = [_result(call, self._results[id]) for id, call in self._calls.items() if id in self._results]
        return {"role": "tool", "content": parts}

    def exchange(self) -> dict[str, Json]:
        """Calls and results in one message of the assistant."""
        content: list[Json] = []
        for id, call in self._calls.items():
            content += [_call(call), _result(call, self._results.get(id))]
        return {"role": "assistant", "content": content}


def as_list(messages: Json) -> list[Json]:
    """Messages as a list, however they were given."""
    if messages is None:
        return []
    if isinstance(messages, Sequence) and not isinstance(messages, str):
        return list(messages)
    return [messages if isinstance(messages, dict) else {"role": "user", "content": messages}]


def _call(call: ToolCall) -> dict[str, Json]:
    named = {"toolCallId": call.tool_call_id, "toolName": call.tool_name}
    return {"type": "tool-call", **named, "input": call.args or {}}


def _result(call: ToolCall, result: Json) -> dict[str, Json]:
    named = {"toolCallId": call.tool_call_id, "toolName": call.tool_name}
    return {"type": "tool-result", **named, "input": call.args or {}, "result": result}
