"""The process that is killed with a background task in it: one run until it is idle, read by whoever lives.

As `agent_worker`: it prints its pid, lives a life, and is killed in it. The task's tool goes on until somebody has
heard that the model is done, so that every life sees the same.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec

from perdure import App, embedded
from perdure.agents.agent import Agent
from perdure.agents.context import ToolContext
from perdure.agents.durable import DurableAgent, create_durable_agent
from perdure.agents.errors import RunNotFoundError
from perdure.agents.memory import Memory
from perdure.agents.tools import tool
from perdure.model.json import Json
from perdure.model.json import decode as from_json
from tests.chaos.agent_worker import RUN, Life, MortalModel, MortalStore, die, note_to, serve
from tests.chaos.worker import append, lines

PROMPT = '!tool research {"topic": "sun"}'
THREAD: dict[str, Json] = {"thread": "t", "resource": "u"}


async def live(life: Life) -> None:
    folder = Path(life.folder)
    note = partial(note_to, folder / "ledger", life.number)
    heard = folder / "heard"

    @tool(background=True)
    async def research(topic: str, ctx: ToolContext) -> dict[str, str]:
        """Finds out."""
        note("begin tool:call_1")
        if life.at == "in research":
            die()
        while not (folder / "go").exists():
            await asyncio.sleep(0.005)
        ctx.writer.write({"progress": "all"})
        note("end tool:call_1")
        if life.at == "after research":
            die()
        return {"topic": topic}

    agent = Agent("desk", model=MortalModel(note, life.chunk), tools=[research], memory=Memory(), version="1")
    app = App("chaos")
    durable = create_durable_agent(agent=agent, app=app, compact_after=None)
    async with embedded(app, db=MortalStore(folder / "chaos.db", life), retry_interval=10):
        await _read(durable, life, heard)
        await _write_end(durable, folder)


async def _read(durable: DurableAgent, life: Life, heard: Path) -> None:
    places = [from_json(line)[0] for line in lines(heard)]
    try:
        run = await durable.observe(RUN, offset=max([0, *places]))
    except RunNotFoundError:
        run = await durable.stream(PROMPT, run_id=RUN, until_idle=True, memory=THREAD)
    async for said in run.full_stream:
        if said.type == "finish":
            # Before it is put down as heard: the next life reads on from after it.
            (heard.parent / "go").touch()
        append(heard, msgspec.json.encode([said.index, said.step, said]).decode())
        if said.type == "finish":
            pending = said.payload.get("backgroundTaskPending")
            if life.at == ("waiting" if pending else "finish"):
                die()


async def _write_end(durable: DurableAgent, folder: Path) -> None:
    run = await durable.observe(RUN)
    result = await run.output.result()
    chunks = [[said.index, said.step, said] async for said in run.full_stream]
    task = (await durable.list_background_tasks()).items
    async with asyncio.timeout(10):
        while (await durable.get_run(RUN)).status == "running":
            await asyncio.sleep(0.005)
    thread = (await durable.engine.storage.messages("t")).items
    end: dict[str, Json] = {
        "chunks": chunks,
        "text": result.text,
        "reason": result.finish_reason,
        "tasks": [[item.status, item.result] for item in task],
        "thread": [[message.id, message.role, message.parts] for message in thread],
    }
    (folder / "end").write_bytes(msgspec.json.encode(end))


if __name__ == "__main__":
    serve(live)
