"""The process that is killed with a durable agent in it: one run, read and approved by whoever lives.

Run as a script it is a template: for each line of JSON on its input (a `Life`) it forks a process that lives that
life, prints its pid, waits for it, and prints how it ended.

A life takes up the one run, or begins it, and reads its stream on from where the last life had come to; what it hears
is on the disk before it reads on. It approves what is asked. Models and tools write to a ledger when they begin and
when they end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import aiohttp
import msgspec

from perdure import App, embedded
from perdure import serve as serve_app
from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.durable import DurableAgent, create_durable_agent, remote_engine
from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.models import Answer, Call, Prompt
from perdure.agents.tools import Tool, tool
from perdure.model.json import Json
from perdure.model.json import decode as from_json
from perdure.store.sqlite import SqliteStore
from perdure.testing import ScriptedModel
from tests.chaos.worker import append, kill_at_commit, lines
from tests.support.hosting import asgi_server

RUN = "the one"
PROMPT = '!tools add {"a": 1, "b": 2} | refund {"cents": 5}'

# The bar is written so that it parts calls of the sub-agent's model, and not of its parent's.
INSIDE = "!tool agent-desk " + msgspec.json.encode({"prompt": PROMPT}).decode().replace("|", r"\u007c")


class Life(msgspec.Struct):
    """What one process does. It kills itself `before` or `after` (`when`) its n-th commit, before its n-th chunk of a
    model, when a tool has begun or ended, when it has heard that the run is suspended, or when it hears of the end.

    With the URL of a `server` the app is served to it, instead of carrying its runs out itself. With `inside` all this
    is done by a sub-agent of the one whose run it is.
    """

    folder: str
    number: int
    commit: int = 0
    when: str = "before"
    chunk: int = 0
    at: str = ""
    on_crash: str = "retry"
    server: str = ""
    inside: bool = False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class MortalModel(ScriptedModel):
    """Dies before its n-th chunk."""

    def __init__(self, note: Callable[[str], None], chunk: int) -> None:
        super().__init__()
        self._note = note
        self._left = chunk

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        turn = sum(len(message.step_texts) for message in prompt.messages if message.role == "assistant")
        self._note(f"begin llm:{turn}")
        say = call.say

        def mortal(said: Chunk) -> None:
            self._left -= 1
            if self._left == 0:
                die()
            say(said)

        call.say = mortal
        try:
            return await super().ask(prompt, call)
        finally:
            self._note(f"end llm:{turn}")


class MortalStore(SqliteStore):
    """The store, with the hook set before anything is committed."""

    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path)
        self._life = life

    async def open(self) -> None:
        await super().open()
        if self._life.commit:
            kill_at_commit(self._require(), self._life)  # type: ignore[arg-type]


def tools(life: Life, note: Callable[[str], None]) -> list[Tool]:
    def work(name: str, call: str) -> None:
        note(f"begin tool:{call}")
        if life.at == f"in {name}":
            die()
        note(f"end tool:{call}")
        if life.at == f"after {name}":
            die()

    policy: Json = life.on_crash

    @tool(on_crash=policy)
    def add(a: int, b: int) -> int:
        """Adds."""
        work("add", "call_1")
        return a + b

    @tool(on_crash=policy, requires_approval=True)
    def refund(cents: int) -> dict[str, int]:
        """Pays back."""
        work("refund", "call_2")
        return {"refunded": cents}

    return [add, refund]


async def live(life: Life) -> None:
    folder = Path(life.folder)
    note = partial(note_to, folder / "ledger", life.number)
    agent = Agent("desk", model=MortalModel(note, life.chunk), tools=tools(life, note), version="1")
    if life.inside:
        agent = Agent("boss", model=ScriptedModel(), agents={"desk": agent}, version="1")
    app = App("chaos")
    if life.server:
        await _served(app, agent, life, folder)
        return
    durable = create_durable_agent(agent=agent, app=app)
    async with embedded(app, db=MortalStore(folder / "chaos.db", life), retry_interval=10):
        await _read(durable, life, folder / "heard")
        await _write_end(durable, folder)


async def _served(app: App, agent: Agent, life: Life, folder: Path) -> None:
    async with remote_engine(life.server, store=folder / "agents.db") as engine:
        durable = create_durable_agent(agent=agent, app=app, engine=engine)
        async with asgi_server(serve_app(app, is_dev=True, base_url=life.server)) as url:
            async with aiohttp.ClientSession() as http, http.put(f"{url}/api/inngest") as answer:
                assert answer.status == 200, await answer.text()
            await _read(durable, life, folder / "heard")
            await _write_end(durable, folder)


def note_to(ledger: Path, life: int, what: str) -> None:
    append(ledger, f"{what} {life}")


async def _read(durable: DurableAgent, life: Life, heard: Path) -> None:
    """Hears the run to its end, and approves what it asks."""
    places = [from_json(line)[0] for line in lines(heard)]
    try:
        run = await durable.observe(RUN, offset=max([0, *places]))
    except RunNotFoundError:
        run = await durable.stream(INSIDE if life.inside else PROMPT, run_id=RUN)
    while True:
        asked: list[dict[str, Json]] = []
        async for said in run.full_stream:
            if said.type == "finish" and life.at == "finish":
                die()
            if said.type == "suspended":
                asked = said.payload["questions"]
            else:
                append(heard, msgspec.json.encode([said.index, said.step, said]).decode())
        if not asked:
            return
        if life.at == "suspended":
            die()
        try:
            run = await durable.decide_tool_calls(RUN, {question["toolCallId"]: True for question in asked})
        except (ConflictError, GoneError):
            run = await durable.observe(RUN, offset=run.cursor)


async def _write_end(durable: DurableAgent, folder: Path) -> None:
    run = await durable.observe(RUN)
    result = await run.output.result()
    chunks = [[said.index, said.step, said] async for said in run.full_stream]
    while (await durable.get_run(RUN)).status == "running":
        await asyncio.sleep(0.005)
    end = {"chunks": chunks, "text": result.text, "reason": result.finish_reason}
    (folder / "end").write_bytes(msgspec.json.encode({**end, "messages": [m.text for m in result.messages]}))


def serve(living: Callable[[Life], Coroutine[None, None, None]] = live) -> None:
    for line in sys.stdin:
        life = msgspec.json.decode(line, type=Life)
        pid = os.fork()
        if pid == 0:
            _be_born(living(life))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be_born(living: Coroutine[None, None, None]) -> None:
    # The pipes are the template's.
    os.close(0)
    os.dup2(2, 1)
    try:
        asyncio.run(living)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    serve()
