"""The tasks extension (SEP-2663): a tool call that takes its time is a task, which the client polls, answers, cancels.

It is for clients of the stateless revision that declare it with the request; others never see a task. The name in a
request's header must be that of the task, which the package does not check for extensions.
"""

from __future__ import annotations

from typing import TypeAlias

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types.jsonrpc import HEADER_MISMATCH, METHOD_NOT_FOUND, MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from perdure.model.json import Json
from perdure.server.mcp.offering import NoTaskError, Task, Tasks
from perdure.server.mcp.results import result

EXTENSION = "io.modelcontextprotocol/tasks"
_POLL = 1000
"""How long a client should wait before it asks again (ms)."""
Context: TypeAlias = ServerRequestContext[Json, Json]


class TaskParams(types.RequestParams):
    """The parameters of requests about one task."""

    task_id: str


class UpdateParams(TaskParams):
    """Those of `tasks/update`."""

    input_responses: dict[str, Json]


def add(server: Server[Json], tasks: Tasks) -> None:
    """Lets a server speak of tasks."""
    handlers = _Handlers(tasks)
    server.extensions[EXTENSION] = {}
    server.add_request_handler("tasks/get", TaskParams, handlers.get)
    server.add_request_handler("tasks/update", UpdateParams, handlers.update)
    server.add_request_handler("tasks/cancel", TaskParams, handlers.cancel)


def is_declared(ctx: Context) -> bool:
    """Whether the client of a request knows tasks."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        # Some older clients declare it too, and cannot read what they get then.
        return False
    declared = ctx.session.client_capabilities
    return declared is not None and EXTENSION in (declared.extensions or {})


def undeclared(what: str) -> MCPError:
    """The error for a client that does not know tasks."""
    needed: Json = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    return MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, f"{what} needs the extension {EXTENSION}", needed)


def created(task: Task) -> dict[str, Json]:
    """The result of a call that became a task."""
    return {"resultType": "task", **_fields(task)}


def _fields(task: Task) -> dict[str, Json]:
    # Runs are kept as long as the server's retention says, which is longer than any client waits.
    fields: dict[str, Json] = {
        "taskId": task.id,
        "status": task.status,
        "createdAt": task.created,
        "lastUpdatedAt": task.updated,
        "ttlMs": None,
        "pollIntervalMs": _POLL,
    }
    return fields | {"statusMessage": task.message} if task.message else fields


def detailed(task: Task) -> dict[str, Json]:
    """Where a task stands, with what it asks for, or what came of it."""
    shown = _fields(task)
    if task.status == "input_required":
        shown["inputRequests"] = dict(task.inputs)
    elif task.status == "completed" and task.answer is not None:
        given = result(task.answer).model_dump(by_alias=True, mode="json", exclude_none=True)
        shown["result"] = {"resultType": "complete", **given}
    elif task.status == "failed":
        shown["error"] = {"code": types.INTERNAL_ERROR, "message": task.error}
    return shown


class _Handlers:
    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def get(self, ctx: Context, params: TaskParams) -> dict[str, Json]:
        _check(ctx, params)
        try:
            task = await self._tasks.get(params.task_id)
        except NoTaskError as error:
            raise _unknown(params) from error
        return {"resultType": "complete", **detailed(task)}

    async def update(self, ctx: Context, params: UpdateParams) -> dict[str, Json]:
        _check(ctx, params)
        try:
            await self._tasks.update(params.task_id, params.input_responses)
        except NoTaskError as error:
            raise _unknown(params) from error
        return {"resultType": "complete"}

    async def cancel(self, ctx: Context, params: TaskParams) -> dict[str, Json]:
        _check(ctx, params)
        try:
            await self._tasks.cancel(params.task_id)
        except NoTaskError as error:
            raise _unknown(params) from error
        return {"resultType": "complete"}


def _check(ctx: Context, params: TaskParams) -> None:
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(METHOD_NOT_FOUND, "Method not found")
    if not is_declared(ctx):
        raise undeclared(ctx.method)
    headers = getattr(ctx.request, "headers", None)
    name = headers.get("mcp-name") if headers is not None else None
    if headers is not None and name != params.task_id:
        raise MCPError(HEADER_MISMATCH, f"Mcp-Name {name!r} is not the taskId of the body")


def _unknown(params: TaskParams) -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"Unknown task: {params.task_id}")
