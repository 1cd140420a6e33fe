"""Results: what chunks add up to, and who may read them how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from perdure.agents.chunks import Chunk, chunk
from perdure.agents.fold import Fold
from perdure.agents.options import Callbacks
from perdure.agents.results import RunOutput
from perdure.agents.structured import ObjectStream
from perdure.agents.tools import tool
from perdure.model.json import Json
from perdure.testing.script import Text, ToolCall
from tests.support.agent_runs import chunks_of, scripted


def rollback(step_id: str, start: int) -> Chunk:
    return chunk("step-rollback", "r", stepId=step_id, fromIndex=start, attempt=0)


def step_start(number: int) -> Chunk:
    return chunk("step-start", "r", stepId=f"llm:{number}", messageId=f"m{number}")


def text(piece: str) -> Chunk:
    return chunk("text-delta", "r", id="t", text=piece)


def call(id: str) -> Chunk:
    return chunk("tool-call", "r", toolCallId=id, toolName="add", args={})


def result(id: str, found: Json) -> Chunk:
    return chunk("tool-result", "r", toolCallId=id, toolName="add", args={}, result=found)


def folded(*said: Chunk) -> Fold:
    fold = Fold()
    for item in said:
        fold.take(item)
    return fold


def test_what_a_model_had_said_is_taken_back() -> None:
    fold = folded(step_start(0), text("par"), text("tial"), rollback("llm:0", 0), step_start(0), text("full"))
    assert fold.text == "full"
    assert len(fold.steps) == 1


def test_what_a_tool_had_said_is_taken_back_and_its_siblings_stay() -> None:
    head = [step_start(0), call("c1"), call("c2"), result("c1", 1), result("c2", 2)]
    fold = folded(*head, rollback("tool:c1", 3))
    assert [item.payload["toolCallId"] for item in fold.steps[0].tool_results] == ["c2"]
    states = [part.tool_invocation.state for part in fold.steps[0].message("r").parts]  # type: ignore[union-attr]
    assert states == ["call", "result"]
    fold.take(result("c1", 3))
    assert fold.steps[0].call_of("c1").result == 3  # type: ignore[union-attr]


async def from_list(said: list[Chunk]) -> AsyncGenerator[Chunk]:
    for item in said:
        await asyncio.sleep(0)
        yield item


FINISH = chunk("finish", "r", stepResult={"reason": "stop"}, output={"usage": {"inputTokens": 1}})


async def test_several_read_the_same_source() -> None:
    output = RunOutput(from_list([step_start(0), text("a"), text("b"), FINISH]), run_id="r")

    async def pieces() -> list[str]:
        return [piece async for piece in output.text_stream]

    texts = tuple(await asyncio.gather(pieces(), pieces(), output.text, output.finish_reason))
    assert texts == (["a", "b"], ["a", "b"], "ab", "stop")
    assert (await output.usage).input_tokens == 1
    assert [item.type async for item in output.full_stream] == ["step-start", "text-delta", "text-delta", "finish"]


async def test_whoever_stops_waiting_tears_nothing_down() -> None:
    gate = asyncio.Event()

    async def slow() -> AsyncGenerator[Chunk]:
        yield text("a")
        await gate.wait()
        yield FINISH

    output = RunOutput(slow(), run_id="r")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await output.text
    gate.set()
    assert await output.text == "a"


async def test_a_reader_reads_no_further_ahead_than_it_is_read() -> None:
    given = 0

    async def endless() -> AsyncGenerator[Chunk]:
        nonlocal given
        while True:
            given += 1
            yield text("x")
            await asyncio.sleep(0)

    output = RunOutput(endless(), run_id="r")
    stream = output.text_stream
    assert await anext(stream) == "x"
    for _ in range(500):
        await asyncio.sleep(0)
    assert given < 100
    await output.close()
    await output.close()


async def test_an_error_of_the_source_reaches_whoever_reads() -> None:
    async def broken() -> AsyncGenerator[Chunk]:
        yield text("a")
        raise ConnectionError("gone")

    output = RunOutput(broken(), run_id="r")
    with pytest.raises(ConnectionError):
        await output.text
    with pytest.raises(ConnectionError):
        await chunks(output)


async def chunks(output: RunOutput) -> list[Chunk]:
    return [item async for item in output.full_stream]


@tool
def add(x: int) -> int:
    """Adds."""
    return x


@tool(requires_approval=True)
def pay(x: int) -> int:
    """Pays."""
    return x


async def test_each_callback_is_called_once_for_each_event() -> None:
    heard: list[str] = []

    async def at_step(step: Json) -> None:
        heard.append(f"step {step.text}")

    agent, _ = scripted(
        [Text("one"), ToolCall("add", {"x": 1}), ToolCall("pay", {"x": 1}, "p")], "two", tools=[add, pay]
    )
    run = await agent.stream(
        "go",
        on_chunk=lambda item: heard.append(item.type),
        on_step_finish=at_step,
        on_finish=lambda found: heard.append(f"finish {found.text}"),
        on_suspended=lambda payload: heard.append(f"suspended {payload['toolCallId']}"),
        on_error=lambda error: heard.append("error"),
    )
    said = await chunks_of(run)
    assert heard == [*(item.type for item in said), "suspended p"]
    heard.clear()
    callbacks = Callbacks(on_step_finish=at_step, on_finish=lambda found: heard.append(f"finish {found.text}"))
    run = await agent.resume_stream({"approved": True}, run_id="run-0", callbacks=callbacks)
    assert await run.output.text == "two"
    assert heard == ["step one", "step two", "finish two"]


async def test_callbacks_are_called_though_nobody_reads() -> None:
    ended = asyncio.Event()
    agent, _ = scripted("hello")
    await agent.stream("go", on_finish=lambda found: ended.set())
    async with asyncio.timeout(1):
        await ended.wait()


def test_objects_while_they_come() -> None:
    whole = '{"a": [1, {"b": "x\\"y"}], "c": null, "d": -1.5e3}'
    for size in (1, 2, 3, 7):
        stream, seen = ObjectStream(), []
        for start in range(0, len(whole), size):
            if (found := stream.feed(whole[start : start + size])) is not None:
                seen.append(found)
        assert seen[-1] == {"a": [1, {"b": 'x"y'}], "c": None, "d": -1500.0}
        assert all(isinstance(found, dict) for found in seen)
