"""`subscriptions/listen` of the newest revision: a stream that tells what changes: resources, tasks, lists of tools.

What a client listens to is looked at, as often as `standing.pause` says. It is told of changes from the moment on at
which its stream begins; whoever misses something reads it anew.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from perdure.model.json import Json, encode
from perdure.server.mcp import task_handlers
from perdure.server.mcp.offering import NoTaskError, Offering
from perdure.server.mcp.session_handlers import MAX_WATCHED, Read, look_at
from perdure.server.mcp.sessions import Session
from perdure.server.mcp.standing import pause

MAX_STREAMS = 256
Context: TypeAlias = ServerRequestContext[Json, Json]


def add(server: Server[Json], offering: Offering, read: Read | None) -> None:
    """Lets clients of a server listen."""
    handler = _Listening(read, offering)
    server.add_request_handler("subscriptions/listen", types.SubscriptionsListenRequestParams, handler.listen)


class _Listening:
    def __init__(self, read: Read | None, offering: Offering) -> None:
        self._read = read
        self._tasks = offering.tasks
        self._lists = offering.changes
        self._ending = offering.ending
        self._open = 0

    async def listen(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Tells until the client leaves, or the server is about to stop; the result says that it was that."""
        if self._open >= MAX_STREAMS:
            raise MCPError(types.INTERNAL_ERROR, "too many listen already")
        honored = self._honored(ctx, params.notifications)
        self._open += 1
        try:
            await self._tell(ctx, honored)
        finally:
            self._open -= 1
        return types.SubscriptionsListenResult.model_validate({"_meta": {SUBSCRIPTION_ID_META_KEY: ctx.request_id}})

    def _honored(self, ctx: Context, asked: types.SubscriptionFilter) -> types.SubscriptionFilter:
        """What of that which was asked for will be told. Raises `MCPError`."""
        ids = (asked.model_extra or {}).get("taskIds")
        if ids is not None and not task_handlers.is_declared(ctx):
            raise task_handlers.undeclared("taskIds")
        told: dict[str, Json] = {"toolsListChanged": True} if asked.tools_list_changed else {}
        if asked.resource_subscriptions and self._read is not None:
            told["resourceSubscriptions"] = [str(uri) for uri in asked.resource_subscriptions[:MAX_WATCHED]]
        if isinstance(ids, list) and self._tasks is not None:
            told["taskIds"] = [str(id) for id in ids[:MAX_WATCHED]]
        return types.SubscriptionFilter.model_validate(told)

    async def _tell(self, ctx: Context, honored: types.SubscriptionFilter) -> None:
        meta: dict[str, Json] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        seen = Session("", ctx.protocol_version, {})
        for uri in honored.resource_subscriptions or ():
            assert self._read is not None
            await seen.watch(uri, look_at(self._read, ctx, uri))
        tasks: dict[str, bytes] = dict.fromkeys((honored.model_extra or {}).get("taskIds", ()), b"")
        lists = self._lists()
        told = honored.model_dump(by_alias=True, exclude_none=True)
        await _notify(ctx, "notifications/subscriptions/acknowledged", {"notifications": told}, meta)
        while not self._ending():
            for uri in await seen.changed():
                await _notify(ctx, "notifications/resources/updated", {"uri": uri}, meta)
            for id in tasks:
                task = await self._task(id)
                if task is not None and (now := encode(task)) != tasks[id]:
                    tasks[id] = now
                    await _notify(ctx, "notifications/tasks", task, meta)
            if honored.tools_list_changed and (new := self._lists()) != lists:
                lists = new
                await _notify(ctx, "notifications/tools/list_changed", {}, meta)
            await asyncio.sleep(pause(len(seen.watched) + len(tasks)))

    async def _task(self, id: str) -> dict[str, Json] | None:
        """Where a task stands; None where there is no such task."""
        assert self._tasks is not None
        try:
            return task_handlers.detailed(await self._tasks.get(id))
        except NoTaskError:
            return None


class _Told(types.Notification[Json, str]):
    """A notification of any kind: those of extensions have no type of their own."""


async def _notify(ctx: Context, method: str, params: dict[str, Json], meta: dict[str, Json]) -> None:
    told: Json = _Told(method=method, params={**params, "_meta": meta})
    await ctx.session.send_notification(told, related_request_id=ctx.request_id)
