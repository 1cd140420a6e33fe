"""Agents that are stored, not written: records that can be changed while a server runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from perdure.client.agents.connection import Connection
from perdure.client.agents.options import as_query, paged
from perdure.client.agents.versions import Versions
from perdure.model.json import Json

RecordStatus: TypeAlias = Literal["draft", "published", "archived"]
_STORED = "/api/stored/agents"


class StoredAgentClient(Versions):
    """One stored agent."""

    def __init__(self, connection: Connection, id: str) -> None:
        super().__init__(connection, id)
        self.id = id

    async def details(
        self, *, status: RecordStatus | None = None, request_context: Mapping[str, Json] | None = None
    ) -> dict[str, Json]:
        """The record, with the configuration of the active version, or of the latest one (`status="draft"`)."""
        return await self._ask("GET", "", query=as_query(status=status, requestContext=request_context))

    async def update(self, changes: Mapping[str, Json]) -> dict[str, Json]:
        """Changes fields, in the spelling of the protocol; the new version is active only with `autoPublish`."""
        return await self._ask("PATCH", "", dict(changes))

    async def delete(self) -> dict[str, Json]:
        """Forgets the agent and its versions."""
        return await self._ask("DELETE", "")

    async def export(self) -> dict[str, Json]:
        """The agent as a document that another server takes."""
        return await self._ask("GET", "/export")

    async def dependents(self) -> dict[str, Json]:
        """Which stored agents name this one."""
        return await self._ask("GET", "/dependents")

    async def _ask(
        self, method: str, below: str, body: Json = None, *, query: Mapping[str, Json] | None = None
    ) -> dict[str, Json]:
        found: dict[str, Json] = await self._connection.ask(method, self._stored + below, body, query=query)
        return found


class StoredAgents:
    """The stored agents of a server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def agent(self, id: str) -> StoredAgentClient:
        """One of them; nothing is asked yet."""
        return StoredAgentClient(self._connection, id)

    async def list(
        self,
        *,
        status: RecordStatus | None = None,
        author_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        page: int | None = None,
        per_page: int | None = None,
        order_by: str | None = None,
        direction: str | None = None,
    ) -> dict[str, Json]:
        """A page of records: `{"agents": [...], "total", "page", "perPage", "hasMore"}`; published ones by default."""
        chosen = {"status": status, "authorId": author_id}
        fields = {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
        query = as_query(**chosen, **fields, **paged(page, per_page, order_by, direction))
        found: dict[str, Json] = await self._connection.ask("GET", _STORED, query=query)
        return found

    async def create(self, record: Mapping[str, Json]) -> dict[str, Json]:
        """Stores an agent: `name`, `instructions`, `model`, and more, in the spelling of the protocol."""
        found: dict[str, Json] = await self._connection.ask("POST", _STORED, dict(record))
        return found
