"""The peer of `bench.agents`: the same chat of one tool on pydantic-ai with DBOS, and on pydantic-ai alone.

Run by `python -m bench.agents --peer PYTHON`, with an interpreter that has `pydantic-ai-slim` and `dbos`; it prints one
line of JSON with the ms of each chat. The model answers at once, so what is measured is theirs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from dbos import DBOS, DBOSConfig
from pydantic_ai import Agent
from pydantic_ai.durable_exec.dbos import DBOSDurability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

_WARM = 10


def _answered(messages: list[ModelMessage]) -> bool:
    return any(isinstance(part, ToolReturnPart) for part in messages[-1].parts)


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    part = TextPart("Tool said: 3") if _answered(messages) else ToolCallPart("add", {"a": 1, "b": 2}, "call_1")
    return ModelResponse(parts=[part])


async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    if _answered(messages):
        for word in ("Tool ", "said: ", "3"):
            yield word
    else:
        yield {0: DeltaToolCall("add", '{"a": 1, "b": 2}', "call_1")}


async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


async def main(folder: Path, turns: int) -> None:
    logging.disable(logging.CRITICAL)
    url = f"sqlite:///{folder / 'dbos.db'}"
    DBOS(config=DBOSConfig(name="bench", system_database_url=url, console_log_level="ERROR"))
    model = FunctionModel(answer, stream_function=stream)
    bare = Agent(model, name="bare", tools=[add])
    durable = Agent(model, name="durable", tools=[add], capabilities=[DBOSDurability()])

    # Outside of a workflow nothing of it is durable.
    @DBOS.workflow()
    async def chat() -> str:
        return (await durable.run("!tool add")).output

    async def plain() -> str:
        return (await bare.run("!tool add")).output

    DBOS.launch()
    try:
        found: dict[str, list[float]] = {"durable": [], "bare": []}
        for turn in range(_WARM + turns):
            for name, call in (("durable", chat()), ("bare", plain())):
                begun = time.perf_counter()
                assert await call == "Tool said: 3"
                if turn >= _WARM:
                    found[name].append((time.perf_counter() - begun) * 1000)
    finally:
        DBOS.destroy()
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
