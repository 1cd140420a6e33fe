"""Handlers of what agents remember: threads, their messages, and working memory.

Which agent's memory is meant, `agentId` in the query says; threads and messages are found without it, too, for the
agents of a node keep theirs in one place. A `resourceId` in the query must be the one that a thread belongs to.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.errors import AccessDeniedError, ThreadNotFoundError
from perdure.agents.inputs import read_messages
from perdure.agents.memory import Memory
from perdure.agents.memory.working import DEFAULT_TEMPLATE, template_of
from perdure.agents.storage import AgentStorage
from perdure.agents.storage.shapes import Thread
from perdure.model.json import InvalidJsonError, Json, decode
from perdure.server.agents.callers import check_owner, may_use, resource_of
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.registry import Agents
from perdure.server.agents.requests import body_of, page_of, text
from perdure.server.agents.shapes import iso, stored_message
from perdure.server.envelope import ApiError, reply


class Threads:
    """Finds the memory and the thread that a request means."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def _memory(self, request: Request, agent: Json) -> Memory:
        """The memory that is meant. Raises `ApiError` where an agent has none."""
        id = _named(request) or agent
        if not isinstance(id, str) or not id:
            raise InvalidRequest("agentId", "agentId is required", "query parameters")
        served = self._agents.one(id)
        if not may_use(request.scope, served.app):
            raise ApiError(404, f"Agent with id {id} not found")
        found = served.memory
        if found is None:
            raise ApiError(400, "Memory is not initialized")
        return found

    def _storage(self, request: Request) -> AgentStorage:
        """Where threads are: of the agent that is named, or of the first that remembers."""
        if _named(request):
            return self._memory(request, None).storage
        for served in self._agents.all():
            found = served.memory
            if found is not None:
                return found.storage
        raise ApiError(400, "Memory is not initialized")

    async def _thread(self, request: Request, id: str | None = None) -> tuple[AgentStorage, Thread]:
        """The thread that is meant, and where it is kept. Raises `ThreadNotFoundError`, `AccessDeniedError`."""
        storage = self._storage(request)
        thread = await storage.thread(id or request.path_params["thread"])
        if thread is None:
            raise ThreadNotFoundError("Thread not found")
        asker = request.query_params.get("resourceId")
        if asker and asker != thread.resource_id:
            raise AccessDeniedError("Access denied: thread belongs to a different resource")
        return storage, thread


class ThreadHandlers(Threads):
    """Handlers over the memories of the agents of a node."""

    async def threads(self, request: Request) -> Response:
        """`GET /api/memory/threads`."""
        asked = request.query_params
        page, per_page = page_of(request, 100)
        order = asked.get("orderBy[field]") or "createdAt"
        if order not in ("createdAt", "updatedAt"):
            raise InvalidRequest("orderBy.field", "must be createdAt or updatedAt", "query parameters")
        found = await self._storage(request).threads(
            resource_id=asked.get("resourceId") or None,
            metadata=_metadata(asked.get("metadata")),
            order_by="updatedAt" if order == "updatedAt" else "createdAt",
            descending=(asked.get("orderBy[direction]") or "DESC").upper() != "ASC",
            page=page,
            per_page=per_page,
        )
        counted = {"total": found.total, "page": page, "perPage": per_page, "hasMore": found.has_more}
        return reply({"threads": list(map(_shown, found.items)), **counted})

    async def create(self, request: Request) -> Response:
        """`POST /api/memory/threads`."""
        body = await body_of(request)
        memory = self._memory(request, body.get("agentId"))
        resource = text(body, "resourceId")
        title = text(body, "title") if body.get("title") is not None else ""
        id = text(body, "threadId") if body.get("threadId") is not None else None
        made = await memory.storage.create_thread(resource, id=id, title=title, metadata=_object(body, "metadata"))
        shown = _shown(made)
        if made.metadata is None:
            del shown["metadata"]
        return reply(shown)

    async def thread(self, request: Request) -> Response:
        """`GET /api/memory/threads/{thread}`."""
        return reply(_shown((await self._thread(request))[1]))

    async def update(self, request: Request) -> Response:
        """`PATCH /api/memory/threads/{thread}`."""
        storage, thread = await self._thread(request)
        body = await body_of(request)
        changed = await storage.update_thread(
            thread.id,
            title=text(body, "title") if body.get("title") is not None else None,
            metadata=_object(body, "metadata"),
            resource_id=text(body, "resourceId") if body.get("resourceId") is not None else None,
        )
        return reply(_shown(changed))

    async def delete(self, request: Request) -> Response:
        """`DELETE /api/memory/threads/{thread}`."""
        storage, thread = await self._thread(request)
        await storage.delete_thread(thread.id)
        return reply({"result": "Thread deleted"})

    async def clone(self, request: Request) -> Response:
        """`POST /api/memory/threads/{thread}/clone`."""
        storage, thread = await self._thread(request)
        body = await body_of(request)
        limit = (_object(body, "options") or {}).get("messageLimit")
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidRequest("options.messageLimit", "must be a whole number, at least 0")
        made = await storage.clone_thread(
            thread.id,
            new_id=text(body, "newThreadId") if body.get("newThreadId") is not None else None,
            resource_id=text(body, "resourceId") if body.get("resourceId") is not None else None,
            title=text(body, "title") if body.get("title") is not None else None,
            metadata=_object(body, "metadata"),
            message_limit=limit,
        )
        messages = list(map(stored_message, made.messages))
        return reply({"thread": _shown(made.thread), "messageIdMap": made.message_ids, "clonedMessages": messages})

    async def transfer(self, request: Request) -> Response:
        """`POST /api/memory/threads/{thread}/transfer`: the thread and its messages become another resource's."""
        storage, thread = await self._thread(request)
        resource = text(await body_of(request), "resourceId")
        return reply(_shown(await storage.update_thread(thread.id, resource_id=resource)))

    async def save_messages(self, request: Request) -> Response:
        """`POST /api/memory/save-messages`."""
        body = await body_of(request)
        memory = self._memory(request, body.get("agentId"))
        given = body.get("messages")
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise InvalidRequest("messages", "Invalid input: expected array")
        lost = [item for item in given if not item.get("threadId") or not item.get("resourceId")]
        if lost:
            told = f"All messages must have threadId and resourceId fields. Found {len(lost)} invalid message(s)."
            raise ApiError(400, told)
        ids = memory.storage.ids
        read = [read_messages([item], new_id=lambda _: ids(), now=memory.storage.now()) for item in given]
        messages = [message for found in read for message in found]
        if len(messages) < len(given):
            raise ApiError(400, "messages: a result of a tool belongs into the message that has the call")
        for message, item in zip(messages, given, strict=True):
            message.thread_id, message.resource_id = str(item["threadId"]), str(item["resourceId"])
        return reply({"messages": list(map(stored_message, await memory.storage.save_messages(messages)))})

    async def delete_messages(self, request: Request) -> Response:
        """`POST /api/memory/messages/delete`: ids, or objects with an id."""
        given = (await body_of(request)).get("messageIds")
        ids: list[Json] = [
            item.get("id") if isinstance(item, dict) else item
            for item in ([given] if not isinstance(given, list) else given)
        ]
        if not ids or not all(isinstance(id, str) and id for id in ids):
            raise InvalidRequest("messageIds", "Invalid input: expected ids of messages")
        storage = self._storage(request)
        for id in ids if resource_of(request) is not None else []:
            message = await storage.message(id)
            check_owner(request, None if message is None else message.resource_id)
        await storage.delete_messages(ids)
        return reply({"success": True, "message": f"{len(ids)} message{'s'[: len(ids) > 1]} deleted successfully"})

    async def working_memory(self, request: Request) -> Response:
        """`GET /api/memory/threads/{thread}/working-memory`."""
        memory = self._memory(request, None)
        thread = await memory.storage.thread(request.path_params["thread"])
        resource = request.query_params.get("resourceId") or (None if thread is None else thread.resource_id)
        if thread is not None and thread.resource_id != resource:
            raise AccessDeniedError("Access denied: thread belongs to a different resource")
        if resource is None:
            raise ThreadNotFoundError("Thread not found")
        shown = memory.config()["workingMemory"]
        notes = None if not shown["enabled"] else await memory.working_memory(request.path_params["thread"], resource)
        template = None if memory.settings.working is None else template_of(memory.settings.working)
        told: dict[str, Json] = {"workingMemory": notes, "source": shown.get("scope", "resource")}
        return reply({**told, "workingMemoryTemplate": template, "threadExists": thread is not None})

    async def set_working_memory(self, request: Request) -> Response:
        """`POST /api/memory/threads/{thread}/working-memory`."""
        body = await body_of(request)
        memory = self._memory(request, None)
        notes = text(body, "workingMemory")
        thread = await memory.storage.thread(request.path_params["thread"])
        if thread is None:
            raise ThreadNotFoundError("Thread not found")
        if body.get("resourceId", thread.resource_id) != thread.resource_id:
            raise AccessDeniedError("Access denied: thread belongs to a different resource")
        await memory.set_working_memory(thread.id, thread.resource_id, notes)
        return reply({"success": True})

    async def status(self, request: Request) -> Response:
        """`GET /api/memory/status`."""
        found = self._agents.one(_named(request) or "").memory
        return reply({"result": False} if found is None else {"result": True, "memoryType": "local"})

    async def config(self, request: Request) -> Response:
        """`GET /api/memory/config`."""
        found = self._agents.one(_named(request) or "").memory
        if found is None:
            return reply({"config": None})
        config = found.config()
        config["workingMemory"].setdefault("template", DEFAULT_TEMPLATE)
        return reply({"config": {**config, "observationalMemory": {"enabled": False}}})

    async def observational(self, request: Request) -> Response:
        """`GET /api/memory/observational-memory`, `POST .../buffer-status`: agents here keep no observations."""
        named = await body_of(request) if request.method == "POST" else dict(request.query_params)
        self._agents.one(text(named, "agentId"))
        return reply({"record": None} if request.method == "POST" else {"record": None, "history": []})


def _named(request: Request) -> str | None:
    """The agent that a query names: a network is an agent, too."""
    return request.query_params.get("agentId") or request.query_params.get("networkId")


def _shown(thread: Thread) -> dict[str, Json]:
    named = {"id": thread.id, "resourceId": thread.resource_id, "title": thread.title, "metadata": thread.metadata}
    return {**named, "createdAt": iso(thread.created_at), "updatedAt": iso(thread.updated_at)}


def _object(body: dict[str, Json], field: str) -> dict[str, Json] | None:
    value: Json = body.get(field)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(field, "Invalid input: expected record")
    found: dict[str, Json] | None = value
    return found


def _metadata(shown: str | None) -> dict[str, Json] | None:
    if not shown:
        return None
    try:
        found: Json = decode(shown)
    except InvalidJsonError as error:
        raise InvalidRequest("metadata", str(error), "query parameters") from error
    if not isinstance(found, dict):
        raise InvalidRequest("metadata", "must be an object", "query parameters")
    return found
