"""A task outlives the server that it was told of by: killed in the middle, it is finished by the next one."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx2

from perdure.model.json import Json
from tests.support.dev_server import DevServer
from tests.support.mcp import Rpc

APP = """
from pathlib import Path
from perdure import App, Context, step
app = App("shop")

def note(name: str) -> str:
    with Path("notes.txt").open("a") as notes:
        notes.write(name + "\\n")
    return name

@app.function("order")
async def order(ctx: Context) -> dict:
    first = await step.run("first", lambda: note("first"))
    await step.sleep("pause", "1500ms")
    second = await step.run("second", lambda: note("second"))
    return {"done": [first, second], "id": ctx.event.data["id"]}
"""
AGENTS = """
from perdure import App
from perdure.agents import Agent, create_durable_agent
from perdure.testing import ScriptedModel
app = App("desk")
create_durable_agent(agent=Agent("writer", model=ScriptedModel()), app=app)
"""
KNOWS_TASKS: Json = {
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}
}


async def get(rpc: Rpc, task_id: str) -> Json:
    """Where a task stands."""
    asking = Rpc(rpc.http, rpc.path, **{"mcp-name": task_id})
    return await asking.result("tasks/get", taskId=task_id, meta=KNOWS_TASKS)


async def test_a_client_gets_its_result_after_the_server_was_killed(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "shop.py").write_text(APP)

    def server() -> DevServer:
        arguments = ("shop.py", "--db", "shop.db", "--no-discovery", "--no-reload")
        return DevServer(tmp_path, *arguments, port=free_port)

    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{free_port}", timeout=20) as http:
        rpc = Rpc(http, "/mcp?toolsets=run")
        with server() as first:
            task = await rpc.result("tools/call", name="run_shop-order", arguments={"id": 7}, meta=KNOWS_TASKS)
            assert task["resultType"] == "task" and task["status"] == "working"
            while (await get(rpc, task["taskId"])).get("statusMessage") != "pause":
                await asyncio.sleep(0.05)
            first.stop(signal.SIGKILL)
        with server():
            while (found := await get(rpc, task["taskId"]))["status"] == "working":
                await asyncio.sleep(0.1)
    assert found["status"] == "completed"
    assert found["result"]["structuredContent"] == {"done": ["first", "second"], "id": 7}
    assert (tmp_path / "notes.txt").read_text().split() == ["first", "second"]


async def test_an_agents_answer_comes_after_the_server_was_killed(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "desk.py").write_text(AGENTS)

    def server() -> DevServer:
        arguments = ("desk.py", "--db", "desk.db", "--no-discovery", "--no-reload")
        return DevServer(tmp_path, *arguments, port=free_port)

    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{free_port}", timeout=30) as http:
        rpc = Rpc(http, "/mcp?toolsets=agents")
        with server() as first:
            asked = {"message": "!slow 12 100"}
            task = await rpc.result("tools/call", name="ask_writer", arguments=asked, meta=KNOWS_TASKS)
            assert (task["resultType"], (await get(rpc, task["taskId"]))["status"]) == ("task", "working")
            first.stop(signal.SIGKILL)
        async with asyncio.timeout(60):
            with server():
                while (found := await get(rpc, task["taskId"]))["status"] == "working":
                    await asyncio.sleep(0.1)
    assert found["status"] == "completed"
    assert len(found["result"]["structuredContent"]["text"].split()) == 12
