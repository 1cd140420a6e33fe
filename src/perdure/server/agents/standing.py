"""Handlers that tell where one durable run stands, and end it, without reading its stream.

The protocol has no such routes; those who come back by a run's id alone, such as clients of MCP for a task, ask here.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.errors import RunNotFoundError
from perdure.model.json import Json
from perdure.server.agents.callers import check_run
from perdure.server.agents.registry import Agents, ServedAgent
from perdure.server.agents.shapes import iso
from perdure.server.envelope import ApiError, reply


class StandingHandlers:
    """Handlers over the agents of a node."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def run(self, request: Request) -> Response:
        """`GET /api/agents/{agent}/runs/{run}`: its status, and the id of the run that carries it out."""
        served = self._durable(request)
        await check_run(request, request.path_params["run"])
        try:
            run = await served.run.get_run(request.path_params["run"])
        except RunNotFoundError as error:
            raise ApiError(404, str(error)) from error
        told: dict[str, Json] = {
            "runId": run.run_id,
            "agentId": run.agent_id,
            "status": run.status,
            "finishReason": run.finish_reason,
            "threadId": run.thread_id,
            "resourceId": run.resource_id,
            "engineRunId": run.engine_run_id,
            "createdAt": iso(run.created_at),
            "updatedAt": iso(run.updated_at),
        }
        return reply({name: value for name, value in told.items() if value is not None})

    async def abort(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/runs/{run}/abort`: ends it; harmless when it is over."""
        served = self._durable(request)
        await check_run(request, request.path_params["run"])
        try:
            aborted = await served.run.abort(request.path_params["run"])
        except RunNotFoundError as error:
            raise ApiError(404, str(error)) from error
        return reply({"aborted": aborted})

    def _durable(self, request: Request) -> ServedAgent:
        served = self._agents.one(request.path_params["agent"])
        if not served.durable:
            raise ApiError(404, "Only durable agents know their runs")
        return served
