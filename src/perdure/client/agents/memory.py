"""What agents remember: threads, their messages, and working memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from perdure.client.agents.connection import Connection
from perdure.client.agents.options import as_body, as_query, paged
from perdure.model.json import Json, encode


class ThreadClient:
    """A thread. `agent_id`: whose memory is meant, where several agents have one."""

    def __init__(
        self, connection: Connection, id: str, *, agent_id: str | None = None, resource_id: str | None = None
    ) -> None:
        self.id = id
        self._connection = connection
        self._whose = {"agentId": agent_id, "resourceId": resource_id}
        self._path = f"/api/memory/threads/{quote(id, safe='')}"

    async def get(self) -> dict[str, Json]:
        """The thread: `id`, `resourceId`, `title`, `metadata`, `createdAt`, `updatedAt`."""
        return await self._ask("GET", "")

    async def update(self, *, title: str | None = None, metadata: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """Changes the title, or the metadata."""
        return await self._ask("PATCH", "", as_body({"title": title, "metadata": metadata}))

    async def delete(self) -> dict[str, Json]:
        """Forgets the thread and its messages."""
        return await self._ask("DELETE", "")

    async def messages(self, *, page: int | None = None, per_page: int | None = None) -> dict[str, Json]:
        """A page of messages; page 0 has the newest, in the order in which they came."""
        return await self._ask("GET", "/messages", query={"page": page, "perPage": per_page})

    async def delete_messages(self, message_ids: Sequence[str]) -> dict[str, Json]:
        """Forgets messages."""
        found: dict[str, Json] = await self._connection.ask(
            "POST", "/api/memory/messages/delete", {"messageIds": list(message_ids)}, query=as_query(**self._whose)
        )
        return found

    async def clone(
        self,
        *,
        new_thread_id: str | None = None,
        resource_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        message_limit: int | None = None,
    ) -> dict[str, Json]:
        """Copies the thread: `{"thread", "messageIdMap", "clonedMessages"}`."""
        body = {"newThreadId": new_thread_id, "resourceId": resource_id, "title": title, "metadata": metadata}
        options = None if message_limit is None else {"messageLimit": message_limit}
        return await self._ask("POST", "/clone", as_body({**body, "options": options}))

    async def transfer(self, resource_id: str) -> dict[str, Json]:
        """Gives the thread to another resource."""
        return await self._ask("POST", "/transfer", {"resourceId": resource_id})

    async def working_memory(self) -> dict[str, Json]:
        """What the agent has noted: `{"workingMemory", "source", "workingMemoryTemplate", "threadExists"}`."""
        return await self._ask("GET", "/working-memory")

    async def set_working_memory(self, notes: str, *, resource_id: str | None = None) -> dict[str, Json]:
        """Writes over what the agent has noted."""
        return await self._ask("POST", "/working-memory", as_body({"workingMemory": notes, "resourceId": resource_id}))

    async def _ask(
        self, method: str, below: str, body: Json = None, query: Mapping[str, Json] | None = None
    ) -> dict[str, Json]:
        asked = as_query(**self._whose, **(query or {}))
        found: dict[str, Json] = await self._connection.ask(method, self._path + below, body, query=asked)
        return found


class MemoryClient:
    """The memories of the agents of a server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def thread(self, id: str, *, agent_id: str | None = None, resource_id: str | None = None) -> ThreadClient:
        """One thread; nothing is asked yet."""
        return ThreadClient(self._connection, id, agent_id=agent_id, resource_id=resource_id)

    async def threads(
        self,
        *,
        resource_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        page: int | None = None,
        per_page: int | None = None,
        order_by: str | None = None,
        direction: str | None = None,
    ) -> dict[str, Json]:
        """A page of threads, newest first: `{"threads": [...], "total", "page", "perPage", "hasMore"}`."""
        chosen = {"resourceId": resource_id, "agentId": agent_id}
        shown = None if metadata is None else encode(dict(metadata)).decode()
        return await self._get("/threads", **chosen, metadata=shown, **paged(page, per_page, order_by, direction))

    async def create_thread(
        self,
        agent_id: str,
        resource_id: str,
        *,
        thread_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Makes a thread."""
        named = {"agentId": agent_id, "resourceId": resource_id, "threadId": thread_id}
        body = as_body({**named, "title": title, "metadata": metadata})
        return await self._post("/threads", agent_id, body)

    async def save_messages(self, agent_id: str, messages: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """Keeps messages; each has a `threadId` and a `resourceId`."""
        return await self._post("/save-messages", agent_id, {"messages": [dict(each) for each in messages]})

    async def search(
        self, query: str, *, agent_id: str, resource_id: str, thread_id: str | None = None
    ) -> dict[str, Json]:
        """Messages that fit a text: `{"results": [...], "count", "searchScope", "searchType"}`."""
        named = {"agentId": agent_id, "resourceId": resource_id, "threadId": thread_id}
        return await self._get("/search", searchQuery=query, **named)

    async def status(self, agent_id: str) -> dict[str, Json]:
        """Whether an agent remembers."""
        return await self._get("/status", agentId=agent_id)

    async def config(self, agent_id: str) -> dict[str, Json]:
        """How an agent remembers."""
        return await self._get("/config", agentId=agent_id)

    async def _get(self, below: str, **query: Json) -> dict[str, Json]:
        found: dict[str, Json] = await self._connection.ask("GET", "/api/memory" + below, query=as_query(**query))
        return found

    async def _post(self, below: str, agent_id: str, body: Json) -> dict[str, Json]:
        found: dict[str, Json] = await self._connection.ask(
            "POST", "/api/memory" + below, body, query={"agentId": agent_id}
        )
        return found
