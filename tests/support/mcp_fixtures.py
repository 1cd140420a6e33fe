"""What the conformance suite of MCP wants of a server: tools by certain names, here real functions of perdure.

So the suite tests runs as tasks: each call is a run, its questions are signals, and its failures those of a function.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure import App, Context, NonRetriableError, embedded, step
from perdure.model.json import Json
from perdure.server import Guard, make_app
from perdure.server.mcp.asking import Ask, inside
from perdure.server.mcp.door import McpDoor
from perdure.server.mcp.functions import function_tool
from perdure.server.mcp.native import offering
from perdure.server.mcp.offering import Caller, InputNeeded, Offering, Tool
from tests.support import mcp_diagnostics, mcp_questions
from tests.support.hosting import asgi_server

_SLOW: dict[str, Json] = {
    "type": "object",
    "properties": {"seconds": {"type": "number"}, "label": {"type": "string"}},
    "required": ["seconds"],
}
_NAME_FORM: Json = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_FORM: Json = {"type": "object", "properties": {"confirm": {"type": "boolean"}}}


class ProtocolError(NonRetriableError):
    """The call itself is wrong."""


async def ask(ctx: Context, name: str, message: str) -> Json:
    """Asks whoever called: by the two steps that docs/mcp.md tells of."""
    await step.run(f"ask {name}", lambda: {"message": message, "requestedSchema": _FORM})
    answer = await step.wait_for_signal(name, signal=f"mcp/{ctx.run_id}/{name}", timeout="1d")
    return answer


def fixture_app() -> App:
    """The functions."""
    app = App("fixture")

    @app.function("greet")
    async def greet(ctx: Context) -> str:
        return f"Hello, {ctx.event.data['name']}!"

    @app.function("slow_compute")
    async def slow_compute(ctx: Context) -> str:
        seconds = ctx.event.data["seconds"]
        if seconds:
            await step.sleep("work", f"{int(seconds * 1000)}ms")
        return f"computed {ctx.event.data.get('label', '')}"

    @app.function("failing_job", retries=0)
    async def failing_job(ctx: Context) -> None:
        await step.sleep("work", "1s")
        raise NonRetriableError("it cannot be done")

    @app.function("protocol_error_job", retries=0)
    async def protocol_error_job(ctx: Context) -> None:
        raise ProtocolError("the call makes no sense")

    @app.function("confirm_delete")
    async def confirm_delete(ctx: Context) -> str:
        await ask(ctx, "confirm", f"Delete {ctx.event.data.get('filename')}?")
        return "deleted"

    @app.function("multi_input")
    async def multi_input(ctx: Context) -> str:
        await asyncio.gather(ask(ctx, "first", "The first?"), ask(ctx, "second", "The second?"))
        return "both"

    return app


def fixtures(asking: Ask) -> Offering:
    """What a server offers, with the tools of the suite."""
    name: dict[str, Json] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    own = offering(asking)
    tasks = own.tasks
    assert tasks is not None
    made = [
        function_tool(asking, tasks, "fixture-slow_compute", "slow_compute", input_schema=_SLOW),
        function_tool(asking, tasks, "fixture-failing_job", "failing_job", needs_task=True),
        function_tool(asking, tasks, "fixture-protocol_error_job", "protocol_error_job"),
        function_tool(asking, tasks, "fixture-confirm_delete", "confirm_delete"),
        function_tool(asking, tasks, "fixture-multi_input", "multi_input"),
    ]
    # One that is never a task.
    greet = function_tool(asking, tasks, "fixture-greet", "greet", input_schema=name)
    plain = type(greet)(
        name=greet.name, description=greet.description, call=greet.call, input_schema=greet.input_schema
    )
    composed = function_tool(asking, tasks, "fixture-greet", "test_tool_with_task", needs_task=True)
    return msgspec.structs.replace(
        own,
        name="fixtures",
        tools=[*own.tools, *made, plain, asking_first(composed), *mcp_diagnostics.tools(), *mcp_questions.tools()],
        resources=[*own.resources, *mcp_diagnostics.resources()],
        prompts=[*own.prompts, *mcp_diagnostics.prompts()],
    )


def asking_first(tool: Tool) -> Tool:
    """A tool that asks for the name before it starts its task."""
    begin = tool.start
    assert begin is not None
    question = {"method": "elicitation/create", "params": {"message": "Who are you?", "requestedSchema": _NAME_FORM}}

    async def start(given: dict[str, Json], caller: Caller) -> str:
        answer = caller.responses.get("user_name")
        if answer is None:
            raise InputNeeded({"user_name": question})
        return await begin({"name": answer["content"]["name"]}, caller)

    return msgspec.structs.replace(tool, start=start)


@asynccontextmanager
async def fixture_server(folder: Path) -> AsyncGenerator[str, None]:
    """Serves the fixtures on a free port; the URL of MCP."""
    async with embedded(fixture_app(), db=str(folder / "fixtures.db")) as node:
        application: ASGIApp = make_app(node)
        guard = Guard(local_only=True)
        door = McpDoor(lambda key: fixtures(inside(lambda: application)))

        class Endpoint:
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                refusal = guard.refusal("/mcp", scope, node.clock.now)
                if refusal is not None:
                    await refusal(scope, receive, send)
                else:
                    await door.serve("", scope, receive, send)

        async with asgi_server(Starlette(routes=[Route("/mcp", Endpoint())])) as url:
            yield f"{url}/mcp"
