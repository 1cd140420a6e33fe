"""A server of agents: some whose runs end with their requests, one whose runs survive; models follow directives."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from perdure import App, Node, embedded
from perdure.agents import Agent, Memory, ToolContext, create_durable_agent, tool
from perdure.model.json import Json, decode
from perdure.testing import ScriptedModel


@tool
def weather(city: str) -> dict[str, object]:
    """Get weather for a city"""
    return {"city": city, "temperature": 21}


@tool(name="findUser")
def find_user(name: str) -> dict[str, object]:
    """Find a user by name"""
    return {"name": name, "email": f"{name.lower()}@example.com"}


@tool(name="deleteThing", requires_approval=True)
def delete_thing(thing: str) -> dict[str, object]:
    """Deletes a thing"""
    return {"deleted": thing}


@tool(name="askHuman", resume_schema={"type": "object", "properties": {"answer": {"type": "string"}}})
def ask_human(question: str, ctx: ToolContext) -> Json:
    """Asks the human"""
    if ctx.resume_data is None:
        ctx.suspend({"question": question})
    return {"question": question, "answer": ctx.resume_data["answer"]}


@tool(name="failTool")
def fail_tool() -> None:
    """Always fails"""
    raise ValueError("tool exploded")


TOOLS = [weather, find_user, delete_thing, ask_human, fail_tool]


def agents_app() -> App:
    """The app with its agents: `my-agent` and `plain-agent` are plain, `durable-agent` is durable."""
    app = App("desk")
    text = "You are a helpful assistant."
    mine = Agent(
        "my-agent", name="My Agent", description="The main test agent", model=ScriptedModel(), instructions=text,
        tools=TOOLS, memory=Memory(), max_steps=5,
    )  # fmt: skip
    app.add_agent(mine)
    app.add_agent(Agent("plain-agent", name="Plain", model=ScriptedModel()))
    noted = Agent("noted-agent", model=ScriptedModel(), memory=Memory(working_memory=True))
    app.add_agent(noted)
    researcher = Agent("researcher", name="Researcher", model=ScriptedModel())
    parts: Json = {"agents": {"researcher": researcher}, "tools": TOOLS, "memory": Memory()}
    app.add_agent(Agent("network-agent", name="Network Agent", model=ScriptedModel(), **parts))
    durable = Agent("durable-agent", name="Durable Agent", model=ScriptedModel(), tools=TOOLS, memory=Memory())
    create_durable_agent(agent=durable, app=app)
    return app


class AgentsServer:
    """What a test works with."""

    def __init__(self, node: Node, http: httpx2.AsyncClient) -> None:
        self.node = node
        self.http = http

    async def post(self, path: str, body: Json, status: int = 200) -> Json:
        """Asks below `/api/agents`; the answer."""
        response = await self.http.post(f"/api/agents/{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    async def get(self, path: str, status: int = 200) -> Json:
        """Asks below `/api`; the answer."""
        response = await self.http.get(f"/api/{path}")
        assert response.status_code == status, response.text
        return response.json()

    async def stream(self, path: str, body: Json) -> list[Json]:
        """Asks below `/api/agents`; the frames, of which the last says that it is done."""
        response = await self.http.post(f"/api/agents/{path}", json=body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return frames_of(response.text)


def frames_of(text: str) -> list[Json]:
    """The contents of frames, up to `[DONE]`; comments are passed over."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert blocks.pop() == "data: [DONE]"
    assert all(block.rpartition("\n")[2].startswith("data: ") for block in blocks)
    return [decode(block.rpartition("\n")[2][6:]) for block in blocks]


def kinds(frames: list[Json]) -> str:
    """The kinds of frames, several of one in a row told once."""
    found: list[str] = []
    for said in frames:
        if not found or found[-1] != said["type"]:
            found.append(said["type"])
    return " ".join(found)


@asynccontextmanager
async def serving_agents(folder: Path) -> AsyncGenerator[AgentsServer]:
    """A started server with the agents."""
    async with embedded(agents_app(), db=folder / "desk.db") as node:
        transport = httpx2.ASGITransport(node.asgi())
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure", timeout=20) as http:
            yield AgentsServer(node, http)
