"""Handlers that tell of agents, and of their tools, and carry out one call of a tool."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.context import ToolContext, ToolSuspended, Writer
from perdure.agents.schemas import ShapeError
from perdure.agents.tools import Tool
from perdure.model.json import Json, encode
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
        found = self._agents.all()
        return reply({each.id: await agent_details(each, context, listed=True, partial=partial) for each in found})

    async def agent(self, request: Request) -> Response:
        """`GET /api/agents/{agent}`."""
        return reply(await agent_details(self._agents.one(request.path_params["agent"]), context_of(request)))

    async def tool(self, request: Request) -> Response:
        """`GET /api/agents/{agent}/tools/{tool}`."""
        return reply(tool_details(self._tool(request)[1]))

    async def execute(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/tools/{tool}/execute`: one call, outside of any run. Nobody is asked first."""
        served, tool = self._tool(request)
        body = await body_of(request)
        if "data" not in body:
            raise InvalidRequest("data", "data is required")
        try:
            args = tool.read_args(body["data"])
        except ShapeError as error:
            return reply(_refused(tool.name, body["data"], error))
        context = _context(served, tool, body.get("requestContext"))
        try:
            return reply(await tool.call(args, context))
        except ToolSuspended as error:
            raise ApiError(400, f"tool {tool.name!r} waits for somebody: call it in a run of the agent") from error
        except ApiError:
            raise
        except Exception as error:
            # A tool is the user's code, and may fail in any way.
            raise ApiError(500, str(error) or type(error).__name__) from error

    def _tool(self, request: Request) -> tuple[ServedAgent, Tool]:
        served = self._agents.one(request.path_params["agent"])
        tool = None if served.declared is None else served.declared.tools.get(request.path_params["tool"])
        if tool is None:
            raise ApiError(404, "Tool not found")
        return served, tool


def _context(served: ServedAgent, tool: Tool, context: Json) -> ToolContext:
    run_id, call = f"call-{uuid.uuid4()}", "call"
    return ToolContext(
        run_id=run_id,
        agent_id=served.id,
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


def _refused(name: str, data: Json, error: ShapeError) -> dict[str, Json]:
    """The arguments do not fit: an answer, for models and people can mend them."""
    fields: dict[str, Json] = {}
    for fault in error.faults:
        fields.setdefault(fault.path, {"errors": [], "fields": {}})["errors"].append(fault.message)
    listed = "\n".join(f"- {fault}" for fault in error.faults)
    shown = encode(data).decode()
    text = f"Tool input validation failed for {name}. Correct these and call it again:\n{listed}"
    text += f"\n\nProvided arguments: {shown}"
    return {"error": True, "message": text, "validationErrors": {"errors": [], "fields": fields}}
