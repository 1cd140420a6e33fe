"""Handlers that look into what agents remember: pages of a thread's messages, and search by meaning.

What is found by search is told with the messages before and after it. An agent without semantic recall finds nothing,
for its messages have no vectors.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.memory import Memory, SemanticRecall
from perdure.agents.memory.settings import applied
from perdure.agents.messages import Message
from perdure.agents.storage.shapes import Include, Match
from perdure.model.json import InvalidJsonError, Json, decode
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.requests import page_of
from perdure.server.agents.shapes import iso, stored_message
from perdure.server.agents.threads import Threads
from perdure.server.envelope import reply

_PART: Final = "query parameters"
_INCLUDED: Final = 100


class RecallHandlers(Threads):
    """Handlers over the memories of the agents of a node."""

    async def messages(self, request: Request) -> Response:
        """`GET /api/memory/threads/{thread}/messages`: page 0 has the newest, in the order in which they came."""
        storage, thread = await self._thread(request)
        page, per_page = page_of(request, 40)
        order, dates = _object(request, "orderBy"), _object(request, "filter").get("dateRange") or {}
        found = await storage.messages(
            thread.id,
            page=page,
            per_page=per_page,
            newest=str(order.get("direction") or "DESC").upper() != "ASC",
            after=_millis(dates, "start"),
            before=_millis(dates, "end"),
            include=_included(request),
        )
        # What is included is found by ids, which may be those of anybody's messages.
        asker = request.query_params.get("resourceId")
        shown = [each for each in found.items if each.thread_id == thread.id or not asker or each.resource_id == asker]
        counted = {"total": found.total, "page": page, "perPage": per_page, "hasMore": found.has_more}
        return reply({"messages": list(map(stored_message, shown)), **counted, "uiMessages": None})

    async def search(self, request: Request) -> Response:
        """`GET /api/memory/search`: messages of a resource, or of a thread, that are near in meaning to a text."""
        memory = self._memory(request, None)
        asked = request.query_params
        query, resource = asked.get("searchQuery"), asked.get("resourceId")
        for name, value in (("searchQuery", query), ("resourceId", resource)):
            if not value:
                raise InvalidRequest(name, f"{name} is required", _PART)
        thread = None
        if asked.get("threadId"):
            thread = (await self._thread(request, asked["threadId"]))[1].id
        recall = _recall(memory, _object(request, "memoryConfig"), in_thread=thread is not None)
        results: list[Json] = []
        if recall is not None:
            matches = await memory.search(query or "", thread or "", resource or "", recall)
            results = [found for each in matches if (found := await _told(memory, each, recall)) is not None]
        scope = "thread" if recall is not None and recall.scope == "thread" else "resource"
        kind = "text" if recall is None else "semantic"
        told = {"results": results, "count": len(results), "query": query}
        return reply({**told, "searchScope": scope, "searchType": kind})


def _recall(memory: Memory, config: dict[str, Json], *, in_thread: bool) -> SemanticRecall | None:
    """How to look; None where nothing can be found."""
    if memory.embedder is None:
        return None
    chosen = {key: value for key, value in config.items() if key == "semanticRecall"}
    recall = applied(memory.settings, chosen, can_recall=True).recall
    if recall is None:
        return None
    return msgspec.structs.replace(recall, scope="thread" if in_thread else "resource")


async def _told(memory: Memory, match: Match, recall: SemanticRecall) -> dict[str, Json] | None:
    near = await memory.storage.around([Include(match.message_id, recall.before, recall.after)])
    place = next((place for place, message in enumerate(near) if message.id == match.message_id), None)
    if place is None:
        # It was deleted since.
        return None
    thread = await memory.storage.thread(match.thread_id)
    title = "" if thread is None else thread.title
    beside = {"before": list(map(_shown, near[:place])), "after": list(map(_shown, near[place + 1 :]))}
    return {**_shown(near[place]), "threadId": match.thread_id, "threadTitle": title, "context": beside}


def _shown(message: Message) -> dict[str, Json]:
    told = {"id": message.id, "role": message.role, "content": message.text}
    return {**told, "createdAt": iso(message.created_at)}


def _included(request: Request) -> list[Include]:
    """Messages that are wanted with their neighbours, whatever the page is."""
    shown = _query(request, "include") or []
    if not isinstance(shown, list) or not all(isinstance(each, dict) and each.get("id") for each in shown):
        raise InvalidRequest("include", "must be a list of objects with an id", _PART)
    if len(shown) > _INCLUDED:
        raise InvalidRequest("include", f"must be at most {_INCLUDED} messages", _PART)
    beside = ("withPreviousMessages", "withNextMessages")
    counts = [[each.get(name) or 0 for name in beside] for each in shown]
    if not all(type(count) is int and 0 <= count <= 1000 for pair in counts for count in pair):
        raise InvalidRequest("include", f"{beside[0]} and {beside[1]} must be whole numbers up to 1000", _PART)
    return [Include(str(each["id"]), *pair) for each, pair in zip(shown, counts, strict=True)]


def _millis(dates: Json, name: str) -> int | None:
    shown = dates.get(name) if isinstance(dates, dict) else None
    if not shown:
        return None
    try:
        return int(datetime.fromisoformat(str(shown)).timestamp() * 1000)
    except ValueError as error:
        raise InvalidRequest(f"filter.dateRange.{name}", "must be a date", _PART) from error


def _object(request: Request, name: str) -> dict[str, Json]:
    found = _query(request, name)
    if found is not None and not isinstance(found, dict):
        raise InvalidRequest(name, "must be an object", _PART)
    return found or {}


def _query(request: Request, name: str) -> Json:
    """A field of the query that is JSON."""
    shown = request.query_params.get(name)
    if not shown:
        return None
    try:
        return decode(shown)
    except InvalidJsonError as error:
        raise InvalidRequest(name, str(error), _PART) from error
