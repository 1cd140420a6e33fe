"""The process that is killed with an agent of pydantic-ai in it: as `agent_worker`, with that body and its model.

The model is a `FunctionModel`, whose streamed pieces are counted instead of its chunks.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import msgspec
from pydantic_ai import Agent, FunctionToolset
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from perdure import App, embedded
from perdure.agents.durable import create_durable_agent
from perdure.agents.pydantic_ai import PydanticBody
from tests.chaos import agent_worker
from tests.chaos.agent_worker import Life, MortalStore, die

Piece = str | dict[int, DeltaToolCall]


def model(life: Life, note: Callable[[str], None]) -> FunctionModel:
    left = life.chunk

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Piece]:
        nonlocal left
        returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        turn = "llm:1" if returned else "llm:0"
        note(f"begin {turn}")
        for piece in answer(returned):
            left -= 1
            if left == 0:
                die()
            yield piece
        note(f"end {turn}")

    return FunctionModel(stream_function=stream)


def answer(returned: list[ToolReturnPart]) -> list[Piece]:
    if not returned:
        return [
            "Let me ",
            "add.",
            {1: DeltaToolCall(name="add", json_args='{"a": 1,', tool_call_id="call_1")},
            {1: DeltaToolCall(json_args=' "b": 2}')},
            {2: DeltaToolCall(name="refund", json_args='{"cents": 5}', tool_call_id="call_2")},
        ]
    told = sorted(f"{part.tool_call_id}={part.content}" for part in returned)
    return ["The ", "tools ", "said ", *told]


def tools(life: Life, note: Callable[[str], None]) -> FunctionToolset[object]:
    toolset = FunctionToolset[object](id="desk")

    def work(name: str, call: str) -> None:
        note(f"begin tool:{call}")
        if life.at == f"in {name}":
            die()
        note(f"end tool:{call}")
        if life.at == f"after {name}":
            die()

    @toolset.tool_plain
    def add(a: int, b: int) -> int:
        work("add", "call_1")
        return a + b

    @toolset.tool_plain(requires_approval=True)
    def refund(cents: int) -> dict[str, int]:
        work("refund", "call_2")
        return {"refunded": cents}

    return toolset


async def live(life: Life) -> None:
    folder = Path(life.folder)
    note = partial(agent_worker.note_to, folder / "ledger", life.number)
    agent = Agent(model(life, note), name="desk", toolsets=[tools(life, note)])
    app = App("chaos")
    durable = create_durable_agent(agent=PydanticBody(agent, version="1"), app=app)
    async with embedded(app, db=MortalStore(folder / "chaos.db", life), retry_interval=10):
        await agent_worker._read(durable, life, folder / "heard")
        await agent_worker._write_end(durable, folder)


def serve() -> None:
    for line in sys.stdin:
        life = msgspec.json.decode(line, type=Life)
        pid = os.fork()
        if pid == 0:
            _be_born(life)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be_born(life: Life) -> None:
    # The pipes are the template's.
    os.close(0)
    os.dup2(2, 1)
    try:
        asyncio.run(live(life))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    serve()
