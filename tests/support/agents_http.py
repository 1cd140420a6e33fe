"""A server of agents: some whose runs end with their requests, one whose runs survive; models follow directives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from perdure import App, Context, Node, embedded
from perdure.agents import Agent, Memory, ToolContext, create_durable_agent, tool
from perdure.agents.chunks import Chunk
from perdure.agents.memory import WorkingMemory
from perdure.agents.messages import Message
from perdure.agents.processors import ProcessorContext
from perdure.agents.tools import Tool
from perdure.model.json import Json, decode
from perdure.testing import HashingEmbedder, ScriptedModel


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


@tool(name="progressTool")
def progress_tool(n: int, ctx: ToolContext) -> dict[str, int]:
    """Emits progress"""
    for step in range(n):
        ctx.writer.write({"step": step})
    ctx.writer.custom("progress", {"done": n})
    return {"done": n}


@tool(name="bgAsk", background=True, resume_schema={"type": "object", "required": ["answer"]})
def bg_ask(question: str, ctx: ToolContext) -> Json:
    """Asks in the background"""
    if ctx.resume_data is None:
        ctx.suspend({"question": question})
    return ctx.resume_data["answer"]


@tool(name="bgFail", background=True)
def bg_fail() -> None:
    """Fails in the background"""
    raise ValueError("background exploded")


TOOLS = [weather, find_user, delete_thing, ask_human, fail_tool, progress_tool]


def later_tools() -> list[Tool]:
    """Tools that go on in the background. One that is asked for "gated ..." waits until `release` is called for it."""
    gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @tool(background=True)
    async def research(topic: str, ctx: ToolContext) -> dict[str, str]:
        """Researches a topic"""
        ctx.writer.write({"progress": "half"})
        if topic.startswith("gated"):
            await gates[topic].wait()
        return {"topic": topic, "summary": f"All about {topic}"}

    @tool
    async def hold(topic: str) -> str:
        """Waits until it is let go"""
        await gates[topic].wait()
        return "held"

    @tool
    async def release(topic: str) -> bool:
        """Lets research go on"""
        gates[topic].set()
        return True

    return [research, hold, release, bg_ask, bg_fail, weather]


class Guard:
    """Lets nothing in that is forbidden."""

    id = "guard"

    def process_input(self, messages: list[Message], ctx: ProcessorContext) -> None:
        """Looks at what the user says."""
        if any("FORBIDDEN" in message.text for message in messages):
            ctx.abort("Forbidden word", metadata={"word": "FORBIDDEN"})


class Outguard:
    """Lets no secret out."""

    id = "outguard"

    def process_output_stream(self, chunk: Chunk, ctx: ProcessorContext) -> Chunk:
        """Looks at what the model says."""
        if "SECRET" in str(chunk.payload.get("text")):
            ctx.abort("Secret leaked")
        return chunk


def agents_app() -> App:
    """The app with its agents: those whose names begin with `durable` are durable, the others plain."""
    app, later = App("desk"), later_tools()
    hold = next(each for each in later if each.name == "hold")
    text = "You are a helpful assistant."
    mine = Agent(
        "my-agent", name="My Agent", description="The main test agent", model=ScriptedModel(), instructions=text,
        tools=[*TOOLS, hold], memory=Memory(), max_steps=5,
    )  # fmt: skip
    app.add_agent(mine)
    app.add_agent(Agent("plain-agent", name="Plain", model=ScriptedModel()))
    notes = WorkingMemory(template="# User\n- Name:")
    app.add_agent(Agent("noted-agent", model=ScriptedModel(), memory=Memory(working_memory=notes, generate_title=True)))
    seeking = Memory(semantic_recall=True, embedder=HashingEmbedder())
    app.add_agent(Agent("seeking-agent", model=ScriptedModel(), memory=seeking))
    guards: Json = {"input_processors": [Guard()], "output_processors": [Outguard()]}
    app.add_agent(Agent("guard-agent", name="Guarded", model=ScriptedModel(), **guards))
    researcher = Agent("researcher", name="Researcher", model=ScriptedModel(), tools=[delete_thing])
    parts: Json = {"agents": {"researcher": researcher}, "tools": TOOLS, "memory": Memory()}
    app.add_agent(Agent("network-agent", name="Network Agent", model=ScriptedModel(), **parts))
    app.add_agent(Agent("bg-agent", name="Background Agent", model=ScriptedModel(), tools=later, memory=Memory()))

    @app.function("upper")
    async def upper(ctx: Context) -> dict[str, str]:
        return {"upper": str(ctx.event.data["text"]).upper()}

    chief: Json = {"agents": {"researcher": researcher}, "workflows": {"upper": upper}}
    app.add_agent(Agent("supervisor", name="Supervisor", model=ScriptedModel(), **chief))
    durable = Agent("durable-agent", name="Durable Agent", model=ScriptedModel(), tools=[*TOOLS, hold], memory=Memory())
    create_durable_agent(agent=durable, app=app)
    beside = Agent("durable-bg", name="Durable Background", model=ScriptedModel(), tools=later, memory=Memory())
    create_durable_agent(agent=beside, app=app)
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
