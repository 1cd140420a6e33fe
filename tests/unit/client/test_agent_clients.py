"""What the clients of agents decide by themselves: typed chunks, tools of the caller, the next request."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncGenerator, Mapping
from typing import Literal

import msgspec
import pytest

from perdure.client import ApiError, StreamError
from perdure.client.agents import (
    AgentChunk,
    AgentClient,
    ApprovalRequest,
    ClientTool,
    DataChunk,
    Finish,
    Suspended,
    TextDelta,
    ToolError,
    ToolOutput,
    ToolResult,
)
from perdure.client.agents.chunks import read_chunk
from perdure.client.agents.result import read_result
from perdure.client.agents.tools import tools_by_name
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from tests.support.blocking_client import FILE, formatted, source

CALL = {"toolCallId": "c1", "toolName": "paint", "args": {"color": "red"}}


def said(type: str, **payload: Json) -> dict[str, Json]:
    return {"type": type, "runId": "r1", "from": "AGENT", "payload": payload}


def finished(reason: str) -> dict[str, Json]:
    return said("finish", stepResult={"reason": reason}, output={"usage": {"totalTokens": 3}})


class Script:
    """A server that answers as it is told to, and remembers what it was asked."""

    def __init__(self, *answers: Json) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Json]] = []

    async def ask(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        query: Mapping[str, Json] | None = None,
        patient: bool = False,
    ) -> Json:
        self.asked.append((f"{method} {path}", body))
        return self.answers.pop(0)

    async def frames(
        self, method: str, path: str, body: Json = None, *, query: Mapping[str, Json] | None = None, after: str = ""
    ) -> AsyncGenerator[tuple[str | None, Json]]:
        self.asked.append((f"{method} {path} {after}".strip(), body))
        for index, each in enumerate(self.answers.pop(0)):
            if isinstance(each, Exception):
                raise each
            yield str(index + int(after or -1) + 1), each


def test_kinds_of_chunks_have_classes_of_their_own() -> None:
    assert isinstance(read_chunk(said("text-delta", text="Hi")), TextDelta)
    asked = read_chunk(said("tool-call-approval", **CALL, resumeSchema="{}"))
    assert isinstance(asked, ApprovalRequest) and asked.tool_name == "paint" and asked.args == {"color": "red"}
    waits = read_chunk(said("tool-call-suspended", **CALL, suspendPayload=1))
    assert isinstance(waits, Suspended) and waits.suspend_payload == 1
    nested = read_chunk(said("tool-output", **CALL, output=said("text-delta", text="in")))
    assert isinstance(nested, ToolOutput) and isinstance(nested.output, TextDelta)
    own = read_chunk({"type": "data-progress", "data": 7})
    assert isinstance(own, DataChunk) and own.data == 7 and own.run_id is None and own.payload == {}
    assert type(read_chunk({"type": "of-tomorrow"})) is AgentChunk
    end = read_chunk(finished("stop"))
    assert isinstance(end, Finish) and (end.reason, end.usage) == ("stop", {"totalTokens": 3})


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Place(msgspec.Struct):
    x: int
    y: int = 0


async def test_a_function_is_a_tool() -> None:
    def paint(color: Literal["red", "blue"], size: Size, place: Place, times: int = 2) -> list[Json]:
        """Paints."""
        return [color, size, place.x, times]

    tool = ClientTool(paint)
    schema = tool.input_schema
    assert tool.to_json()["description"] == "Paints." and schema["required"] == ["color", "size", "place"]
    assert schema["properties"]["times"] == {"type": "integer"} and "Place" in schema["$defs"]
    assert await tool.call({"color": "red", "size": "large", "place": {"x": 1}}) == ["red", "large", 1, 2]
    with pytest.raises(msgspec.ValidationError, match="size"):
        await tool.call({"color": "red", "size": "huge", "place": {"x": 1}})
    anything = ClientTool(lambda **given: given, name="any")
    assert anything.input_schema == {"type": "object"} and await anything.call({"a": 1}) == {"a": 1}
    assert tools_by_name({"brush": paint})["brush"].name == "brush"
    with pytest.raises(ConfigError, match="must be a parameter with a name"):
        ClientTool(lambda *colors: colors, name="any")


async def test_a_stream_goes_on_with_what_the_callers_tools_return() -> None:
    asking = [said("step-start"), said("text-delta", text="Wait. "), said("tool-call", **CALL), finished("tool-calls")]
    server = Script(asking, [said("text-delta", text="Done."), finished("stop")])
    stream = AgentClient(server, "desk").stream("go", client_tools={"paint": lambda color: color.upper()}, max_steps=3)
    async with stream:
        results = [chunk async for chunk in stream if isinstance(chunk, ToolResult)]
    assert [chunk.result for chunk in results] == ["RED"]
    assert (stream.text, stream.finish_reason, stream.run_id) == ("Wait. Done.", "stop", "r1")
    (_, first), (path, second) = server.asked
    assert path == "POST /api/agents/desk/stream" and second["maxSteps"] == 3
    assert first["clientTools"]["paint"]["inputSchema"]["required"] == ["color"]
    user, assistant, tool = second["messages"]
    assert user == {"role": "user", "content": "go"}
    assert [part["type"] for part in assistant["content"]] == ["text", "tool-call"]
    assert tool["content"][0]["result"] == "RED" and tool["content"][0]["input"] == {"color": "red"}


async def test_with_a_thread_only_results_are_sent() -> None:
    server = Script([said("tool-call", **CALL), finished("tool-calls")], [finished("stop")])

    async def paint(color: str) -> None:
        raise ValueError(f"no {color} left")

    memory = {"thread": "t", "resource": "u"}
    stream = AgentClient(server, "desk").stream("go", client_tools=[paint], memory=memory)
    (failed,) = [chunk async for chunk in stream if isinstance(chunk, ToolError)]
    assert failed.error == {"name": "ValueError", "message": "no red left"}
    (message,) = server.asked[1][1]["messages"]
    assert message["role"] == "tool" and message["content"][0]["result"] == {"error": "no red left"}


async def test_calls_that_nobody_here_carries_out_are_left_to_the_program() -> None:
    other = {**CALL, "toolCallId": "c2", "toolName": "other"}
    server = Script([said("tool-call", **CALL), said("tool-call", **other), finished("tool-calls")])
    stream = AgentClient(server, "desk").stream("go", client_tools={"paint": lambda color: color})
    assert (await stream.until_end()).finish_reason == "tool-calls" and len(server.asked) == 1


async def test_generate_goes_on_likewise() -> None:
    step = {"text": "", "toolCalls": [said("tool-call", **CALL)], "content": []}
    server = Script({"finishReason": "tool-calls", "steps": [step]}, {"finishReason": "stop", "text": "Done."})
    result = await AgentClient(server, "desk").generate("go", client_tools={"paint": lambda color: color})
    assert result.text == "Done." and result.raw["finishReason"] == "stop"
    assert [each["role"] for each in server.asked[1][1]["messages"]] == ["user", "assistant", "tool"]
    with pytest.raises(ApiError, match="is this a perdure server"):
        read_result([])


async def test_the_version_of_an_agent_is_sent_with_its_runs() -> None:
    server = Script([finished("stop")], {"id": "desk"})
    agent = AgentClient(server, "desk", version_id="v7")
    await agent.stream("go", request_context={"plan": "gold"}).until_end()
    assert server.asked[0][1]["requestContext"] == {"agentVersionId": "v7", "plan": "gold"}


async def test_a_reader_comes_back_behind_the_last_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_pause(_: float) -> None:
        pass

    monkeypatch.setattr(asyncio, "sleep", no_pause)
    broken = [said("text-delta", text="a"), said("text-delta", text="b"), StreamError("lost")]
    server = Script(broken, [said("text-delta", text="c"), finished("stop")])
    reader = AgentClient(server, "desk").observe("r1")
    assert "".join([chunk.text async for chunk in reader if isinstance(chunk, TextDelta)]) == "abc"
    assert [path for path, _ in server.asked] == [
        "GET /api/agents/desk/runs/r1/stream",
        "GET /api/agents/desk/runs/r1/stream 1",
    ]


async def test_a_subscription_carries_tools_out_and_sends_what_came_of_them() -> None:
    run = [said("tool-call", **CALL), finished("tool-calls"), StreamError("lost")]
    server = Script(run, {"accepted": True})
    agent = AgentClient(server, "desk")
    heard = agent.subscribe_to_thread("t", "u", client_tools={"paint": lambda color: color}, patience=0.0)
    kinds = []
    with pytest.raises(StreamError):
        async for chunk in heard:
            kinds.append(chunk.type)
    assert kinds == ["tool-call", "finish", "tool-result"]
    path, body = server.asked[1]
    assert path.endswith("/send-tool-approval") and body["toolCallId"] == "c1" and body["approved"]
    assert [part["type"] for part in body["messages"][0]["content"]] == ["tool-call", "tool-result"]
    assert body["streamOptions"]["memory"] == {"thread": "t", "resource": "u"}


def test_the_blocking_client_is_the_async_one() -> None:
    assert FILE.read_text(encoding="utf-8") == formatted(source()), "run python -m tests.support.blocking_client"
