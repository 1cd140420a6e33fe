"""The server itself is killed while agents whose app it calls are at work: their runs go on once it is there again."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from perdure import App, serve
from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.durable import DurableAgent, create_durable_agent, remote_engine
from perdure.agents.durable.log import ROLLBACK
from perdure.agents.durable.reader import StreamInterruptedError
from perdure.agents.tools import tool
from perdure.client import ServerUnreachableError
from perdure.testing import ScriptedModel
from perdure.testing.script import Asked, Piece, Text, ToolCall, Turn
from tests.support.dev_server import DevServer
from tests.support.hosting import asgi_server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]


class Office:
    """A server that can be killed, and an agent whose app it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: Counter[str] = Counter()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.server = self._started()

    def _started(self) -> DevServer:
        patience = ("--retry-interval", "0.2", "--no-discovery", "--poll-interval", "0")
        return DevServer(self.folder, "--db", str(self.folder / "server.db"), *patience, port=self.port).__enter__()

    def agent(self) -> Agent:
        @tool
        async def add(a: int, b: int) -> int:
            """Adds."""
            self.done["add"] += 1
            return a + b

        @tool(requires_approval=True)
        def refund(cents: int) -> str:
            """Pays back."""
            self.done["refund"] += 1
            return f"{cents} are back"

        words = [Text(f"w{n} ", pause=30) for n in range(20)]
        first: list[Piece] = [*words, ToolCall("add", {"a": 1, "b": 2}, "c1"), ToolCall("refund", {"cents": 5}, "c2")]

        # By the conversation: another attempt gets the same answer.
        def turn(asked: Asked) -> Turn:
            return [Text("all "), Text("done")] if asked.results else first

        model = ScriptedModel(turn)
        return Agent("desk", model=model, tools=[add, refund], version="1")

    async def kill(self) -> None:
        """Ends the server without a word, and starts it anew."""
        await asyncio.to_thread(self.close)
        self.server = await asyncio.to_thread(self._started)

    def close(self) -> None:
        """Ends the server, which has no time to say anything."""
        self.server.stop(signal.SIGKILL)
        self.server.__exit__(None, None, None)

    async def read(self, agent: DurableAgent, after: int) -> AsyncGenerator[Chunk]:
        """A segment of the run, across the deaths of the server."""
        while True:
            try:
                run = await agent.observe("r-1", offset=after)
                async for said in run.full_stream:
                    after = max(after, said.index)
                    yield said
                return
            except (ServerUnreachableError, StreamInterruptedError, aiohttp.ClientError):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("at", ["text-delta", "tool-call", "suspended"])
async def test_a_run_outlives_its_server(tmp_path: Path, at: str) -> None:
    office, app = Office(tmp_path), App("office")
    url = f"http://127.0.0.1:{office.port}"
    try:
        async with remote_engine(url, store=tmp_path / "agents.db") as engine:
            desk = create_durable_agent(agent=office.agent(), app=app, engine=engine)
            async with asgi_server(serve(app, is_dev=True, base_url=url)) as at_url:
                async with aiohttp.ClientSession() as http, http.put(f"{at_url}/api/inngest") as answer:
                    assert answer.status == 200, await answer.text()
                await desk.begin(await desk.prepare("go", run_id="r-1"))
                heard: list[Chunk] = []
                killed = False
                while not heard or heard[-1].type != "finish":
                    async for said in office.read(desk, max((item.index for item in heard), default=0)):
                        heard.append(said)
                        if said.type == at and not killed:
                            killed = True
                            await office.kill()
                    if heard[-1].type == "suspended":
                        await (await desk.approve_tool_call("r-1")).close()
                assert killed and office.done["refund"] == 1
                # A tool whose result the server did not come to record is carried out again, and no other.
                assert office.done["add"] in ((1, 2) if at == "tool-call" else (1,))
                whole = [said async for said in office.read(desk, 0)]
                assert ROLLBACK not in {said.type for said in whole}
                text = "".join(said.payload["text"] for said in whole if said.type == "text-delta")
                assert text == "".join(f"w{n} " for n in range(20)) + "all done"
    finally:
        office.close()
