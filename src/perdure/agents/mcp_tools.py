"""Toolsets of MCP servers: what such a server offers, as tools of an agent.

Every listing and every call makes a connection of its own and ends it: a durable run may go on in another process, and
a connection that is kept would not be there. The package `mcp` is loaded at the first use (extra `perdure[agents]`).

Invariant: names have the server's prefix, so tools of two servers never take each other's place.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

from perdure.agents.context import ToolContext, ToolError
from perdure.agents.tools import ApprovalRule, CrashPolicy, Tool
from perdure.model.config import Duration
from perdure.model.errors import ConfigError, PerdureError
from perdure.model.json import Json

_PAGES: Final = 100


class McpError(PerdureError):
    """An MCP server cannot be reached, or answers what it should not."""


class McpToolset:
    """The tools of one MCP server.

    `server` is a URL (streamable HTTP), a command as a list, or a function that gives what `mcp.Client` takes.
    `prefix` stands before the names, with `_` between. `only` leaves the others out. `requires_approval`, `timeout`,
    `retries` and `on_crash` are those of all its tools.

    >>> files = McpToolset(["mcp-files", "--root", "/srv"], prefix="files", requires_approval=True)
    >>> files.prefix
    'files'
    """

    def __init__(
        self,
        server: str | Sequence[str] | Callable[[], Json],
        *,
        prefix: str,
        only: Collection[str] | None = None,
        requires_approval: ApprovalRule = False,
        timeout: Duration | None = "60s",
        retries: int = 0,
        on_crash: CrashPolicy = "retry",
    ) -> None:
        if not prefix:
            raise ConfigError("McpToolset", ["prefix: must not be empty: it keeps names of servers apart"])
        self.prefix = prefix
        self._server = server
        self._only = None if only is None else frozenset(only)
        self._options: dict[str, Json] = {
            "requires_approval": requires_approval,
            "timeout": timeout,
            "retries": retries,
            "on_crash": on_crash,
        }

    async def tools(self) -> dict[str, Tool]:
        """What the server offers now. Raises `McpError`."""
        listed: list[Json] = []
        async with self._connected() as client:
            cursor: str | None = None
            for _ in range(_PAGES):
                page = await client.list_tools(cursor=cursor)
                listed += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
        wanted = [item for item in listed if self._only is None or item.name in self._only]
        return {found.name: found for found in map(self._tool, wanted)}

    def _tool(self, item: Json) -> Tool:
        async def execute(args: dict[str, Json], ctx: ToolContext) -> Json:
            async with self._connected() as client:
                return result_of(await client.call_tool(item.name, args))

        name = f"{self.prefix}_{item.name}"
        return Tool(name, item.description or "", dict(item.input_schema), execute, **self._options)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Json]:
        client_class, target = _client(self._server)
        failure: BaseException | None = None
        try:
            async with client_class(target) as client:
                try:
                    yield client
                except Exception as error:
                    # Kept, so that it comes out as it is, and not in the group that the connection's end makes of it.
                    failure = error
                    raise
        except Exception as error:
            # Transports are of many kinds, and fail in as many ways.
            if failure is not None:
                raise failure from None
            raise McpError(f"MCP server {self.prefix!r} cannot be reached: {_innermost(error)}") from error


def result_of(answer: Json) -> Json:
    """What a tool of an MCP server answered: its structured content, its text, or its parts. Raises `ToolError`."""
    texts = [part.text for part in answer.content if getattr(part, "type", None) == "text"]
    if answer.is_error:
        raise ToolError("\n".join(texts) or "the tool failed", code="MCP_TOOL_ERROR")
    if answer.structured_content is not None:
        return answer.structured_content
    if len(texts) == len(answer.content):
        return "\n".join(texts)
    return [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in answer.content]


def _client(server: str | Sequence[str] | Callable[[], Json]) -> tuple[Json, Json]:
    try:
        import mcp  # optional: the extra "agents"
    except ImportError as error:
        raise McpError('tools of MCP servers need the package mcp: pip install "perdure[agents]"') from error
    if callable(server):
        return mcp.Client, server()
    if isinstance(server, str):
        return mcp.Client, server
    command, *args = server
    return mcp.Client, mcp.StdioServerParameters(command=command, args=args)


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
