"""OpenAI's two protocols as a stub speaks them: requests read, answers built, whole or as frames of a stream.

Sources: the API reference of Chat Completions (`chat.completion.chunk`) and of Responses (`response.*` events). Only
what clients read is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.testing.script import (
    Asked,
    Fail,
    Finish,
    Piece,
    Reasoning,
    Source,
    Spent,
    Text,
    ToolCall,
    shown,
    slices,
    words,
)

CREATED: Final = 1_767_225_600
"""When every answer was made: a stub has no clock (seconds; 2026-01-01)."""

_REASONS: Final = {"tool-calls": "tool_calls", "content-filter": "content_filter"}


@dataclass(slots=True)
class Said:
    """What of an answer has been said, for its whole form at the end."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    reason: str = ""
    spent: Spent = field(default_factory=Spent)

    def take(self, piece: Piece) -> None:
        """Counts a piece in."""
        if isinstance(piece, Text):
            self.text += piece.text
        elif isinstance(piece, Reasoning):
            self.reasoning += piece.text
        elif isinstance(piece, ToolCall):
            self.calls.append(piece)
        elif isinstance(piece, Source):
            self.sources.append(piece)
        elif isinstance(piece, Finish):
            self.reason = piece.reason
        elif isinstance(piece, Spent):
            self.spent = piece

    @property
    def finish_reason(self) -> str:
        """As Chat Completions names it."""
        reason = self.reason or ("tool-calls" if self.calls else "stop")
        return _REASONS.get(reason, reason)


def args_text(call: ToolCall) -> str:
    """A call's arguments as JSON text; those of a script that are no JSON stay as they are."""
    return call.args if isinstance(call.args, str) else encode(call.args).decode()


def error_body(fail: Fail) -> dict[str, Json]:
    """The body of an error."""
    kind = (
        "rate_limit_error" if fail.status == 429 else "server_error" if fail.status >= 500 else "invalid_request_error"
    )
    return {"error": {"message": fail.message, "type": kind, "param": None, "code": None}}


def asked_in_chat(body: dict[str, Json], request: int) -> Asked:
    """What `POST /v1/chat/completions` asks."""
    wanted = (body.get("response_format") or {}).get("json_schema") or {}
    tools = [tool["function"]["name"] for tool in body.get("tools") or []]
    asked = Asked([], request=request, tools=tools, schema=wanted.get("schema"))
    for message in body.get("messages") or []:
        role = message.get("role")
        if role == "tool":
            asked.results.append(_result(message.get("content")))
            continue
        if role == "user":
            asked.results.clear()
        asked.messages.append(
            {"role": "system" if role == "developer" else role, "text": _text(message.get("content"))}
        )
        asked.calls += len(message.get("tool_calls") or [])
    return asked


def asked_in_responses(body: dict[str, Json], request: int) -> Asked:
    """What `POST /v1/responses` asks."""
    wanted = (body.get("text") or {}).get("format") or {}
    asked = Asked(
        [{"role": "system", "text": body["instructions"]}] if body.get("instructions") else [],
        request=request,
        tools=[tool["name"] for tool in body.get("tools") or [] if tool.get("type") == "function"],
        schema=wanted.get("schema"),
    )
    given = body.get("input") or []
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        kind = item.get("type", "message")
        if kind == "function_call_output":
            asked.results.append(_result(item.get("output")))
        elif kind == "function_call":
            asked.calls += 1
        elif kind == "message":
            role = "system" if item["role"] == "developer" else item["role"]
            if role == "user":
                asked.results.clear()
            asked.messages.append({"role": role, "text": _text(item.get("content"))})
    return asked


def chat_whole(said: Said, model: str, id: str) -> dict[str, Json]:
    """An answer of Chat Completions that is not streamed."""
    message: dict[str, Json] = {"role": "assistant", "content": said.text or None}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    if said.calls:
        message["tool_calls"] = [_chat_call(call, index) for index, call in enumerate(said.calls)]
    if said.sources:
        message["annotations"] = [_annotation(source, said.text) for source in said.sources]
    choice = {"index": 0, "message": message, "finish_reason": said.finish_reason, "logprobs": None}
    return {**_chat_head("chat.completion", model, id), "choices": [choice], "usage": chat_usage(said.spent)}


def chat_start(model: str, id: str) -> dict[str, Json]:
    """The first frame of a stream."""
    return chat_delta({"role": "assistant", "content": ""}, model, id)


def chat_frames(piece: Piece, said: Said, model: str, id: str) -> Iterator[dict[str, Json]]:
    """The frames of a piece; `said` holds those before it."""
    if isinstance(piece, Text):
        for word in words(piece.text):
            yield chat_delta({"content": word}, model, id)
    elif isinstance(piece, Reasoning):
        for word in words(piece.text):
            yield chat_delta({"reasoning_content": word}, model, id)
    elif isinstance(piece, Source):
        yield chat_delta({"annotations": [_annotation(piece, said.text)]}, model, id)
    elif isinstance(piece, ToolCall):
        index = len(said.calls)
        head = _chat_call(ToolCall(piece.name, "", piece.id), index)
        yield chat_delta({"tool_calls": [head]}, model, id)
        for text in slices(args_text(piece)):
            yield chat_delta({"tool_calls": [{"index": index, "function": {"arguments": text}}]}, model, id)


def chat_end(said: Said, model: str, id: str, *, with_usage: bool) -> Iterator[dict[str, Json]]:
    """The last frames."""
    yield chat_delta({}, model, id, said.finish_reason)
    if with_usage:
        head = _chat_head("chat.completion.chunk", model, id)
        yield {**head, "choices": [], "usage": chat_usage(said.spent)}


def chat_delta(delta: dict[str, Json], model: str, id: str, finish_reason: str | None = None) -> dict[str, Json]:
    """One frame."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return {**_chat_head("chat.completion.chunk", model, id), "choices": [choice]}


def chat_usage(spent: Spent) -> dict[str, Json]:
    """Tokens as Chat Completions counts them."""
    return {
        "prompt_tokens": spent.input_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.input_tokens + spent.output_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": spent.reasoning_tokens},
    }


def _chat_head(kind: str, model: str, id: str) -> dict[str, Json]:
    return {"id": id, "object": kind, "created": CREATED, "model": model, "system_fingerprint": "stub"}


def _chat_call(call: ToolCall, index: int) -> dict[str, Json]:
    return {
        "index": index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": args_text(call)},
    }


def _annotation(source: Source, text: str) -> dict[str, Json]:
    cited = {"url": source.url, "title": source.title, "start_index": 0, "end_index": max(len(text), 1)}
    return {"type": "url_citation", "url_citation": cited}


def _text(content: Json) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _result(content: Json) -> dict[str, Json]:
    """A tool's result: clients send it as text, mostly of JSON."""
    text = _text(content)
    try:
        return shown(decode(text))
    except InvalidJsonError:
        return shown(text)
