"""Steps that call tools of MCP servers: recorded like every step, and tried again when they fail.

The package `mcp` is loaded by the first call. Headers, where credentials are, are not recorded; the tool's name and
its arguments are, for the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from perdure.model.errors import PerdureError
from perdure.model.json import Json
from perdure.sdk import arguments
from perdure.sdk.arguments import StepArgumentError

if TYPE_CHECKING:
    from mcp_types import CallToolResult

_TIMEOUT = 60.0


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server over HTTP: its address, what to send with each request, and how long a call may take (seconds).

    >>> McpServer(url="https://tools.example/mcp", headers={"authorization": "Bearer ..."}).url
    'https://tools.example/mcp'
    """

    url: str
    headers: Mapping[str, str] = {}
    timeout: float = _TIMEOUT

    def __repr__(self) -> str:
        # Headers hold credentials.
        return f"McpServer(url={self.url!r})"


class ToolCallError(PerdureError):
    """A tool that failed, by what it said itself."""


class Calls(Protocol):
    """The steps that a call becomes one of."""

    def call(
        self,
        id: str,
        call: Callable[..., Json],
        args: tuple[Json, ...],
        kwargs: dict[str, Json],
        opts: dict[str, Json] | None = None,
    ) -> Coroutine[Json, Json, Json]:
        """See `CallSteps.call`."""
        ...


class McpSteps:
    """Steps that call tools."""

    def __init__(self, steps: Calls) -> None:
        self._steps = steps

    def call(
        self, id: str, server: McpServer | str, tool: str, given: Mapping[str, Json] | None = None, /
    ) -> Coroutine[Json, Json, Json]:
        """Calls a tool once, and gives its structured result, or else its text.

        A tool that says that it failed, and a server that does not answer, are errors, and retried. `server` is an
        address or an `McpServer`.

        >>> async def handler(ctx):
        ...     return await step.mcp.call("look", "https://tools.example/mcp", "search", {"text": "shoes"})
        """
        arguments.check_id(id)
        target = McpServer(url=server) if isinstance(server, str) else server
        if not target.url.startswith(("http://", "https://")):
            raise StepArgumentError(id, "server", f"must be an address of HTTP or an McpServer, got {server!r}")
        name = arguments.text(id, "tool", tool)
        content = arguments.json_object(id, "given", dict(given or {}))
        opts = {"type": "step.mcp.call", "input": [{"url": target.url, "tool": name, "arguments": content}]}
        return self._steps.call(id, call_tool, (target, name, content), {}, opts)


async def call_tool(server: McpServer, tool: str, given: dict[str, Json]) -> Json:
    """Calls a tool; raises `ToolCallError` for one that failed, and `OSError` for a server that does not answer."""
    try:
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client
        from mcp.shared.exceptions import MCPError
    except ImportError as error:
        raise PerdureError("step.mcp.call needs the package mcp: pip install 'perdure[mcp]'") from error

    try:
        async with httpx2.AsyncClient(headers=dict(server.headers), timeout=server.timeout) as http:
            transport = streamable_http_client(server.url, http_client=http)
            async with Client(transport, mode="auto", read_timeout_seconds=server.timeout) as client:
                result = await client.call_tool(tool, given)
    except Exception as error:
        cause = _innermost(error)
        if isinstance(cause, MCPError):
            raise ToolCallError(f"{tool}: {cause}") from error
        if isinstance(cause, httpx2.HTTPError | OSError | TimeoutError):
            raise OSError(f"no answer from {server.url}: {str(cause) or type(cause).__name__}") from error
        raise
    return value_of(tool, result)


def _innermost(error: BaseException) -> BaseException:
    """The error itself, of those that task groups wrap."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def value_of(tool: str, result: CallToolResult) -> Json:
    """What a result gives: its structured content, or its text. Raises `ToolCallError`."""
    texts = [block.text for block in result.content if block.type == "text"]
    if result.is_error:
        raise ToolCallError(f"{tool}: {' '.join(texts) or 'it failed, and did not say why'}")
    if result.structured_content is not None:
        return result.structured_content
    return "\n".join(texts)
