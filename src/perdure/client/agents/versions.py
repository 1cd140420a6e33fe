"""The stored versions of an agent: the same for one that is stored and for one whose code a stored record overrides."""

from __future__ import annotations

from urllib.parse import quote

from perdure.client.agents.connection import Connection
from perdure.client.agents.options import as_query, paged
from perdure.model.json import Json


class Versions:
    """What can be asked about the versions of an agent."""

    def __init__(self, connection: Connection, agent_id: str) -> None:
        self._connection = connection
        self._stored = f"/api/stored/agents/{quote(agent_id, safe='')}"

    async def list_versions(
        self,
        *,
        page: int | None = None,
        per_page: int | None = None,
        order_by: str | None = None,
        direction: str | None = None,
    ) -> dict[str, Json]:
        """A page of versions, the latest first: `{"versions": [...], "total", "page", "perPage", "hasMore"}`."""
        return await self._version("GET", "", query=as_query(**paged(page, per_page, order_by, direction)))

    async def create_version(self, *, change_message: str | None = None) -> dict[str, Json]:
        """Makes a version of what is active now."""
        return await self._version("POST", "", {} if change_message is None else {"changeMessage": change_message})

    async def get_version(self, version_id: str) -> dict[str, Json]:
        """A version."""
        return await self._version("GET", f"/{quote(version_id, safe='')}")

    async def activate_version(self, version_id: str) -> dict[str, Json]:
        """Makes a version the one that runs take."""
        return await self._version("POST", f"/{quote(version_id, safe='')}/activate")

    async def restore_version(self, version_id: str) -> dict[str, Json]:
        """Makes a new version with what an old one has; it is not active."""
        return await self._version("POST", f"/{quote(version_id, safe='')}/restore")

    async def delete_version(self, version_id: str) -> dict[str, Json]:
        """Forgets a version that is not active."""
        return await self._version("DELETE", f"/{quote(version_id, safe='')}")

    async def compare_versions(self, from_id: str, to_id: str) -> dict[str, Json]:
        """In which fields two versions differ: `{"diffs": [{"field", "previousValue", "currentValue"}], ...}`."""
        return await self._version("GET", "/compare", query={"from": from_id, "to": to_id})

    async def _version(
        self, method: str, below: str, body: Json = None, *, query: dict[str, Json] | None = None
    ) -> dict[str, Json]:
        path = f"{self._stored}/versions{below}"
        found: dict[str, Json] = await self._connection.ask(method, path, body, query=query)
        return found
