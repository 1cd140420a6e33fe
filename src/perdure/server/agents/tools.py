"""Handlers that tell of agents, and of their tools, and carry out one call of a tool."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.context import ToolContext, ToolSuspended, Writer
from perdure.agents.schemas import ShapeError
from perdure.agents.stored.selected import Selector
from perdure.agents.tools import Tool, input_refusal
from perdure.model.json import Json
from perdure.server.agents.callers import may_use
from perdure.server.agents.details import agent_details, tool_details
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.registry import Agents, ServedAgent
from perdure.server.agents.requests import body_of, context_of
from perdure.server.envelope import ApiError, reply


class ToolHandlers:
    """Handlers over the agents of a node."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def agents(self, request: Request) -> Response:
        """`GET /api/agents`: all agents, by id."""
        partial = request.query_params.get("partial") == "true"
        context = context_of(request)
        found = [each for each in self._agents.all() if may_use(request.scope, each.app)]
        return reply({each.id: await agent_details(each, context, listed=True, partial=partial) for each in found})

    async def agent(self, request: Request) -> Response:
        """`GET /api/agents/{agent}`."""
        context = context_of(request)
        return reply(await agent_details(await self._version(request, context), context))

    async def tool(self, request: Request) -> Response:
        """`GET /api/agents/{agent}/tools/{tool}`."""
        return reply(tool_details((await self._tool(request))[1]))

    async def execute(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/tools/{tool}/execute`: one call, outside of any run. Nobody is asked first."""
        served, tool = await self._tool(request)
        return await _executed(request, served.id, tool)

    async def tools(self, request: Request) -> Response:
        """`GET /api/tools`: the tools of all agents, by name; of two with one name, that of the agent made first."""
        return reply({name: tool_details(tool) for name, (_, tool) in self._every(request).items()})

    async def any_tool(self, request: Request) -> Response:
        """`GET /api/tools/{tool}`."""
        return reply(tool_details(self._any(request)[1]))

    async def execute_any(self, request: Request) -> Response:
        """`POST /api/tools/{tool}/execute`: one call, outside of any run. Nobody is asked first."""
        return await _executed(request, *self._any(request))

    def _every(self, request: Request) -> dict[str, tuple[str, Tool]]:
        found: dict[str, tuple[str, Tool]] = {}
        for served in self._agents.all():
            if not may_use(request.scope, served.app):
                continue
            for tool in (served.declared.tools if served.declared is not None else {}).values():
                found.setdefault(tool.name, (served.id, tool))
        return found

    def _any(self, request: Request) -> tuple[str, Tool]:
        found = self._every(request).get(request.path_params["tool"])
        if found is None:
            raise ApiError(404, "Tool not found")
        return found

    async def _version(self, request: Request, context: dict[str, Json]) -> ServedAgent:
        """The agent that is meant, in the version that the query names."""
        asked = request.query_params
        selector = Selector(asked.get("versionId") or None, asked.get("status") or None)
        return await self._agents.chosen(self._agents.one(request.path_params["agent"]), selector, context)

    async def _tool(self, request: Request) -> tuple[ServedAgent, Tool]:
        served = await self._version(request, context_of(request))
        tools = () if served.declared is None else served.declared.tools.values()
        for tool in tools:
            if tool.name == request.path_params["tool"]:
                return served, tool
        raise ApiError(404, "Tool not found")


async def _executed(request: Request, agent_id: str, tool: Tool) -> Response:
    body = await body_of(request)
    if "data" not in body:
        raise InvalidRequest("data", "data is required")
    try:
        args = tool.read_args(body["data"])
    except ShapeError as error:
        return reply(input_refusal(tool.name, body["data"], error))
    context = _context(agent_id, tool, body.get("requestContext"))
    try:
        return reply(await tool.call(args, context))
    except ToolSuspended as error:
        raise ApiError(400, f"tool {tool.name!r} waits for somebody: call it in a run of the agent") from error
    except ApiError:
        raise
    except Exception as error:
        # A tool is the user's code, and may fail in any way.
        raise ApiError(500, str(error) or type(error).__name__) from error


def _context(agent_id: str, tool: Tool, context: Json) -> ToolContext:
    run_id, call = f"call-{uuid.uuid4()}", "call"
    return ToolContext(
        run_id=run_id,
        agent_id=agent_id,
        tool_call_id=call,
        tool_name=tool.name,
        # Nobody listens.
        writer=Writer(lambda _: None, run_id, call, tool.name),
        request_context=context if isinstance(context, dict) else {},
        steps=_at_once,
    )


async def _at_once(name: str, call: Callable[..., Json], *args: Json, **kwargs: Json) -> Json:
    """A step of a tool: nothing is recorded of a call outside of a run."""
    found: Json = call(*args, **kwargs)
    return await found if inspect.isawaitable(found) else found
