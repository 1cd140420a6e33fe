"""Background tasks of agents: calls of tools that go on beside the runs that have made them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from urllib.parse import quote

from perdure.client.agents.connection import Connection
from perdure.client.agents.options import as_query
from perdure.model.json import Json

_TASKS = "/api/background-tasks"


class BackgroundTasks:
    """The background tasks of a server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(
        self,
        *,
        agent_id: str | None = None,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        status: str | None = None,
        tool_name: str | None = None,
        page: int | None = None,
        per_page: int | None = None,
    ) -> dict[str, Json]:
        """A page of tasks: `{"tasks": [...], "total": n}`."""
        of = {"agentId": agent_id, "runId": run_id, "threadId": thread_id, "resourceId": resource_id}
        query = as_query(**of, status=status, toolName=tool_name, page=page, perPage=per_page)
        return await self._ask("GET", "", query=query)

    async def get(self, task_id: str) -> dict[str, Json]:
        """A task."""
        return await self._ask("GET", f"/{quote(task_id, safe='')}")

    async def cancel(self, task_id: str) -> bool:
        """Ends a task; whether it was still going on."""
        return bool((await self._ask("POST", f"/{quote(task_id, safe='')}/cancel", {}))["cancelled"])

    async def resume(self, task_id: str, resume_data: Json) -> dict[str, Json]:
        """Gives a suspended task what it waits for."""
        return await self._ask("POST", f"/{quote(task_id, safe='')}/resume", {"resumeData": resume_data})

    async def stream(
        self,
        *,
        agent_id: str | None = None,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        task_id: str | None = None,
    ) -> AsyncGenerator[dict[str, Json]]:
        """What becomes of tasks, as it happens; it does not end by itself."""
        of = {"agentId": agent_id, "runId": run_id, "threadId": thread_id, "resourceId": resource_id}
        frames = self._connection.frames("GET", f"{_TASKS}/stream", query=as_query(**of, taskId=task_id))
        try:
            async for _, raw in frames:
                yield raw
        finally:
            await frames.aclose()

    async def _ask(
        self, method: str, below: str, body: Json = None, *, query: dict[str, Json] | None = None
    ) -> dict[str, Json]:
        found: dict[str, Json] = await self._connection.ask(method, _TASKS + below, body, query=query)
        return found
