"""Handlers of background tasks: listed, looked at, ended, answered, and followed, whichever agent's they are.

Tasks of durable agents are in the store, whichever process carries them out; those of plain agents are in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.background.told import task_json
from perdure.agents.chunks import Chunk
from perdure.agents.errors import RunNotFoundError
from perdure.agents.storage import Task
from perdure.agents.tasks.asking import merged
from perdure.engine.agents.records import SETTLED, TaskStatus
from perdure.engine.agents.tasks import TaskOrder
from perdure.model.json import Json
from perdure.server.agents.callers import check_owner, may_use
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.registry import Agents, ServedAgent
from perdure.server.agents.requests import body_of, date_of, page_of
from perdure.server.agents.streams import SILENCE, EventStream, frame
from perdure.server.envelope import ApiError, reply

_STATUSES: Final = get_args(TaskStatus)
_DATES: Final = {"createdAt": "created_at", "startedAt": "started_at", "completedAt": "completed_at"}
_GLANCE: Final = 0.5
"""How often (seconds) one looks for tasks that another process has begun."""
_NO_TASK: Final = "Background task not found"
_LATEST: Final = 100
_AT_ONCE: Final = 1000


class BackgroundHandlers:
    """Handlers over the agents of a node. `silence`: after how many seconds a stream says a comment."""

    def __init__(self, agents: Agents, silence: float = SILENCE) -> None:
        self._agents = agents
        self._silence = silence

    async def tasks(self, request: Request) -> Response:
        """`GET /api/background-tasks`: oldest first, unless the query says otherwise."""
        page, per_page = page_of(request, 100)
        order: TaskOrder = _one_of(request, "orderBy", get_args(TaskOrder), "createdAt")
        descending = _one_of(request, "orderDirection", ("asc", "desc"), "asc") == "desc"
        chosen, takes = self._chosen(request), _filter(request)
        if takes is None and len(chosen) == 1 and chosen[0].durable:
            # The store knows how to turn pages.
            how = {"order_by": order, "descending": descending, "page": page, "per_page": per_page}
            part = await chosen[0].run.list_background_tasks(**_chosen_by(request), **how)
            return reply({"tasks": list(map(task_json, part.items)), "total": part.total})
        every = [task for served in chosen for task in await _all(served, request)]
        found = every if takes is None else list(filter(takes, every))
        found.sort(key=lambda task: (getattr(task, _DATES[order]) or 0, task.id), reverse=descending)
        shown = found[page * per_page : (page + 1) * per_page]
        return reply({"tasks": list(map(task_json, shown)), "total": len(found)})

    async def task(self, request: Request) -> Response:
        """`GET /api/background-tasks/{task}`."""
        return reply(task_json((await self._asked(request))[1]))

    async def cancel(self, request: Request) -> Response:
        """`POST /api/background-tasks/{task}/cancel`: whether there was something to end."""
        served, task = await self._asked(request)
        return reply({"cancelled": await served.run.cancel_background_task(task.id)})

    async def resume(self, request: Request) -> Response:
        """`POST /api/background-tasks/{task}/resume`: the data that a suspended task waits for."""
        served, task = await self._asked(request)
        body = await body_of(request)
        if "resumeData" not in body:
            raise InvalidRequest("resumeData", "resumeData is required")
        return reply(task_json(await served.run.resume_background_task(task.id, body["resumeData"])))

    async def stream(self, request: Request) -> Response:
        """`GET /api/background-tasks/stream`: what tasks say that go on, and those that come; all of one, if named."""
        asked = request.query_params.get("taskId")
        if asked:
            served, task = await self._asked(request, asked)
            chunks: AsyncGenerator[Chunk] = served.run.stream_background_task(task.id)
        else:
            chunks = merged(self._known(request), self._said_by)

        async def close(_: bool) -> None:
            await chunks.aclose()

        return EventStream(self._framed(chunks), close, self._silence)

    async def _framed(self, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[bytes]:
        with self._agents.backend.streams.until_hung_up() as hung_up:
            leaving = asyncio.create_task(hung_up.wait())
            try:
                while True:
                    following = asyncio.ensure_future(anext(chunks, None))
                    try:
                        await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        if not following.done():
                            following.cancel()
                            await asyncio.wait([following])
                    said = None if following.cancelled() else following.result()
                    if said is None:
                        return
                    yield frame(said)
            finally:
                leaving.cancel()

    async def _known(self, request: Request) -> AsyncGenerator[list[str]]:
        """The ids of tasks that are of interest, again and again: those that go on now, and all that begin later."""
        since, takes = self._agents.backend.clock.now(), _filter(request)
        while True:
            found = [
                task.id
                for served in self._chosen(request)
                for task in await _all(served, request, since=since)
                if (takes is None or takes(task)) and (task.status not in SETTLED or task.created_at >= since)
            ]
            yield found
            await asyncio.sleep(_GLANCE)

    async def _said_by(self, task_id: str) -> AsyncGenerator[Chunk]:
        served, _ = await self._found(task_id)
        async with aclosing(served.run.stream_background_task(task_id)) as chunks:
            async for said in chunks:
                yield said

    def _chosen(self, request: Request) -> list[ServedAgent]:
        agent = request.query_params.get("agentId")
        found = [served for served in self._agents.all() if agent in (None, "", served.id)]
        found = [served for served in found if may_use(request.scope, served.app)]
        return [served for served in found if hasattr(served.run, "list_background_tasks")]

    async def _asked(self, request: Request, id: str | None = None) -> tuple[ServedAgent, Task]:
        """The task with an id, or the one in the path. Raises `ApiError` (404), `AccessDeniedError`."""
        served, task = await self._found(id or request.path_params["task"])
        if not may_use(request.scope, served.app):
            raise ApiError(404, _NO_TASK)
        check_owner(request, task.resource_id)
        return served, task

    async def _found(self, task_id: str) -> tuple[ServedAgent, Task]:
        """The task with this id, and whose it is. Raises `ApiError` (404)."""
        for served in self._agents.all():
            if hasattr(served.run, "get_background_task"):
                try:
                    return served, await served.run.get_background_task(task_id)
                except RunNotFoundError:
                    continue
        raise ApiError(404, _NO_TASK)


async def _all(served: ServedAgent, request: Request, *, since: int | None = None) -> list[Task]:
    """The tasks of an agent. With `since` (ms) those that go on, and the latest."""
    chosen = {**_chosen_by(request), "per_page": _AT_ONCE}
    if since is not None:
        going = set(_STATUSES) - SETTLED
        found = (await served.run.list_background_tasks(**{**chosen, "statuses": going})).items
        latest = await served.run.list_background_tasks(**{**chosen, "per_page": _LATEST}, descending=True)
        return list({task.id: task for task in [*found, *latest.items]}.values())
    tasks: list[Task] = []
    page = 0
    while True:
        part = await served.run.list_background_tasks(**chosen, page=page)
        tasks += part.items
        if not part.has_more:
            return tasks
        page += 1


def _chosen_by(request: Request) -> dict[str, Json]:
    asked = request.query_params
    return {
        "run_id": asked.get("runId") or None,
        "thread_id": asked.get("threadId") or None,
        "resource_id": asked.get("resourceId") or None,
        "tool_name": asked.get("toolName") or None,
        "statuses": _statuses(request),
    }


def _statuses(request: Request) -> list[str] | None:
    shown = request.query_params.get("status")
    if not shown:
        return None
    statuses = shown.split(",")
    for status in statuses:
        if status not in _STATUSES:
            raise InvalidRequest("status", f"must be one of {', '.join(_STATUSES)}", "query parameters")
    return statuses


def _filter(request: Request) -> Callable[[Task], bool] | None:
    """What the store does not choose by: the call, and times. None where the query names none of them."""
    call = request.query_params.get("toolCallId")
    name = _DATES[_one_of(request, "dateFilterBy", tuple(_DATES), "createdAt")]
    since, until = date_of(request, "fromDate"), date_of(request, "toDate")
    if not call and since is None and until is None:
        return None

    def takes(task: Task) -> bool:
        if call and task.tool_call_id != call:
            return False
        if since is None and until is None:
            return True
        at: int | None = getattr(task, name)
        return at is not None and (since is None or at >= since) and (until is None or at <= until)

    return takes


def _one_of(request: Request, name: str, allowed: tuple[str, ...], otherwise: str) -> Json:
    shown = request.query_params.get(name) or otherwise
    if shown not in allowed:
        raise InvalidRequest(name, f"must be one of {', '.join(allowed)}", "query parameters")
    return shown
