"""`AgentsApi`: what a client has about agents. It is the part of `Client` that needs nothing but a connection."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from urllib.parse import quote

from perdure.client.agents.agent import AgentClient, Status
from perdure.client.agents.connection import Connection
from perdure.client.agents.memory import MemoryClient
from perdure.client.agents.options import as_query
from perdure.client.agents.stored import StoredAgents
from perdure.client.agents.tasks import BackgroundTasks
from perdure.model.json import Json


class AgentsApi:
    """Agents, their tools, memories and tasks."""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """What requests are made with."""

    async def agents(
        self, request_context: Mapping[str, Json] | None = None, *, partial: bool = False
    ) -> dict[str, dict[str, Json]]:
        """All agents by id; `partial` without the schemas of their tools."""
        query = as_query(requestContext=request_context, partial="true" if partial else None)
        found: dict[str, dict[str, Json]] = await self.connection.ask("GET", "/api/agents", query=query)
        return found

    def agent(self, id: str, *, version_id: str | None = None, status: Status | None = None) -> AgentClient:
        """One agent; nothing is asked yet. `version_id`, or `status`: the stored version of it that is meant.

        >>> async def ask(client: AgentsApi) -> str:
        ...     return (await client.agent("desk").generate("Where is my order?")).text
        """
        return AgentClient(self.connection, id, version_id=version_id, status=status)

    async def model_providers(self) -> dict[str, Json]:
        """The providers of models that the server knows: `{"providers": [...]}`."""
        found: dict[str, Json] = await self.connection.ask("GET", "/api/agents/providers")
        return found

    async def tools(self) -> dict[str, Json]:
        """All tools by id."""
        found: dict[str, Json] = await self.connection.ask("GET", "/api/tools")
        return found

    async def tool(self, tool_id: str) -> dict[str, Json]:
        """One tool."""
        found: dict[str, Json] = await self.connection.ask("GET", f"/api/tools/{quote(tool_id, safe='')}")
        return found

    async def execute_tool(self, tool_id: str, data: Json) -> Json:
        """One call of a tool, outside of any run."""
        return await self.connection.ask("POST", f"/api/tools/{quote(tool_id, safe='')}/execute", {"data": data})

    @property
    def memory(self) -> MemoryClient:
        """What agents remember."""
        return MemoryClient(self.connection)

    @property
    def stored_agents(self) -> StoredAgents:
        """Agents that are stored."""
        return StoredAgents(self.connection)

    @property
    def background_tasks(self) -> BackgroundTasks:
        """Calls of tools that go on beside their runs."""
        return BackgroundTasks(self.connection)
