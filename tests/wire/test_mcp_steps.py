"""`step.mcp.call`: tools of an MCP server as steps, recorded and retried."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from perdure import App, Context, McpServer, RunFailedError, embedded, step
from perdure.model.json import Json
from perdure.server.mcp.door import McpDoor
from perdure.server.mcp.offering import Answer, Caller, Offering, Tool, ToolError
from perdure.sync import step as plain_step
from perdure.testing import VirtualClock
from tests.support.hosting import asgi_server

CALLS: list[tuple[str, dict[str, Json], str]] = []


def tools() -> Offering:
    """A server that counts, and whose first tool fails at first."""

    async def add(given: dict[str, Json], caller: Caller) -> Answer:
        CALLS.append(("add", given, caller.headers.get("authorization", "")))
        if len(CALLS) == 1:
            raise ToolError("not yet")
        return Answer({"sum": given["a"] + given["b"]})

    async def say(given: dict[str, Json], caller: Caller) -> Answer:
        return Answer(text="hello")

    schema: dict[str, Json] = {"type": "object"}
    return Offering(
        name="tools",
        version="1",
        tools=[
            Tool(name="add", description="Adds.", call=add, input_schema=schema),
            Tool(name="say", description="Says.", call=say, input_schema=schema),
        ],
    )


class Endpoint:
    def __init__(self) -> None:
        self._door = McpDoor(lambda key: tools())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door.serve("", scope, receive, send)


@pytest.fixture
async def url() -> AsyncGenerator[str, None]:
    CALLS.clear()

    async def broken(request: object) -> Response:
        return Response("<h1>", 500)

    async with asgi_server(Starlette(routes=[Route("/mcp", Endpoint()), Route("/no", broken, methods=["POST"])])) as at:
        yield f"{at}/mcp"


async def test_a_tool_is_called_once_and_retried_when_it_fails(url: str) -> None:
    app = App("shop")

    @app.function("calls", retries=3)
    async def calls(ctx: Context) -> Json:
        server = McpServer(url=url, headers={"authorization": "Bearer secret"})
        found = await step.mcp.call("add", server, "add", {"a": 1, "b": 2})
        await step.sleep("pause", "1h")
        return [found, await step.mcp.call("say", url, "say")]

    @app.function("blocking")
    def blocking(ctx: Context) -> Json:
        return plain_step.mcp.call("say", url, "say")

    async with embedded(app, db=":memory:", clock=VirtualClock()) as engine:
        run = await engine.trigger("shop-calls")
        other = await engine.trigger("shop-blocking")
        await engine.drain()
        assert await run.result() == [{"sum": 3}, "hello"]
        assert await other.result() == "hello"
    assert [call for call, _, _ in CALLS] == ["add", "add"]
    assert CALLS[1] == ("add", {"a": 1, "b": 2}, "Bearer secret")


@pytest.mark.parametrize(
    ("tool", "path", "told"),
    [("nothing", "/mcp", "Unknown tool: nothing"), ("say", "/no", "say|no answer"), ("say", ":1", "no answer from")],
)
async def test_what_goes_wrong_is_an_error_of_the_step(url: str, tool: str, path: str, told: str) -> None:
    app = App("shop")
    target = url.replace("/mcp", path) if path != ":1" else "http://127.0.0.1:1/mcp"

    @app.function("calls", retries=0)
    async def calls(ctx: Context) -> Json:
        return await step.mcp.call("say", McpServer(url=target, timeout=5), tool)

    async with embedded(app, db=":memory:", clock=VirtualClock()) as engine:
        run = await engine.trigger("shop-calls")
        await engine.drain()
        with pytest.raises(RunFailedError, match=told):
            await run.result()


async def test_a_wrong_address_fails_where_it_is_written() -> None:
    app = App("shop")

    @app.function("calls", retries=0)
    async def calls(ctx: Context) -> Json:
        return await step.mcp.call("say", "tools.example", "say")

    async with embedded(app, db=":memory:", clock=VirtualClock()) as engine:
        run = await engine.trigger("shop-calls")
        await engine.drain()
        with pytest.raises(RunFailedError, match="must be an address of HTTP"):
            await run.result()
