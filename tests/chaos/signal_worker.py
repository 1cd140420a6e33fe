"""The process that is killed with an agent that is sent signals while it works: its tool sends them, into its thread.

A template like `agent_worker`. A life begins the run, or waits for its end; a tool that is done again sends the same
signals again. At the end it writes what the thread holds.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path

import msgspec

from perdure import App, Node, embedded
from perdure.agents.agent import Agent
from perdure.agents.durable import AgentRuns, DurableAgent, create_durable_agent
from perdure.agents.errors import RunNotFoundError
from perdure.agents.memory import Memory
from perdure.agents.signals import Signals
from perdure.agents.storage import storage_of
from perdure.agents.tools import Tool
from perdure.model.ids import UlidFactory
from perdure.model.json import Json
from tests.chaos.agent_worker import Life, MortalModel, MortalStore, die, note_to, serve

RUN = "the one"
HERE: Json = {"thread_id": "t", "resource_id": "u"}
SENT = ({"id": "s1", "type": "alert", "contents": "fire"}, {"id": "s2", "type": "alert", "contents": "flood"})


async def live(life: Life) -> None:
    folder = Path(life.folder)
    note = partial(note_to, folder / "ledger", life.number)
    sending: list[Signals] = []

    async def report(args: dict[str, Json], ctx: Json) -> Json:
        for each in SENT:
            await sending[0].send_signal("desk", each, **HERE)
        note("end tool")
        if life.at == "after report":
            die()
        return "sent"

    tool = Tool("report", "Sends signals.", {"type": "object"}, report)
    agent = Agent("desk", model=MortalModel(note, life.chunk), tools=[tool], memory=Memory(), version="1")
    app = App("chaos")
    durable = create_durable_agent(agent=agent, app=app)
    async with embedded(app, db=MortalStore(folder / "chaos.db", life), retry_interval=10) as node:
        ids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)
        sending.append(Signals(storage_of(node), AgentRuns(durable, ids=ids)))
        await _to_the_end(durable, node, sending[0], folder)


async def _to_the_end(durable: DurableAgent, node: Node, signals: Signals, folder: Path) -> None:
    try:
        run = await durable.observe(RUN)
    except RunNotFoundError:
        run = await durable.stream("!tool report {}", run_id=RUN, memory={"thread": "t", "resource": "u"})
    result = await run.output.result()
    while (await durable.get_run(RUN)).status == "running":
        await asyncio.sleep(0.005)
    storage = storage_of(node)
    messages = (await storage.messages("t", per_page=None)).items
    end = {
        "text": result.text,
        "messages": [[message.role, message.id, message.text] for message in messages],
        "runs": [each.run_id for each in (await storage.runs()).items],
        "left": await storage.runs_with_left_signals(),
    }
    (folder / "end").write_bytes(msgspec.json.encode(end))


if __name__ == "__main__":
    serve(live)
