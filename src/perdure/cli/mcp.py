"""`perdure mcp`: how agents reach a server, and, with --stdio, the way for those that start a process of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from perdure.cli.capability.needs import need
from perdure.cli.connection import chosen_environment, url_option
from perdure.cli.output import print_json
from perdure.model.json import Json

if TYPE_CHECKING:
    from perdure.server.mcp.agents import AgentTold
    from perdure.server.mcp.asking import Ask


@click.command("mcp")
@url_option
@click.option("--stdio", is_flag=True, help="Speak MCP over standard input and output, for the server at --url.")
@click.option("--toolsets", default="", metavar="NAME,...", help="Offer these toolsets alone, such as runs,diagnose.")
@click.option("--read-only", is_flag=True, help="Offer no tool that changes anything.")
def command(url: str, stdio: bool, toolsets: str, read_only: bool) -> None:
    """Let agents operate a server by the Model Context Protocol.

    Every server has it at /mcp. Without --stdio this prints what goes into the settings of an agent.

    \b
    perdure mcp
    perdure mcp --stdio --url http://127.0.0.1:8288 --read-only
    """
    if not stdio:
        query = "&".join([*([f"toolsets={toolsets}"] if toolsets else []), *(["readonly=1"] if read_only else [])])
        address = f"{url.rstrip('/')}/mcp{'?' + query if query else ''}"
        arguments = ["mcp", "--stdio", "--url", url]
        print_json(
            {
                "mcpServers": {
                    "perdure": {"type": "http", "url": address},
                    "perdure-stdio": {"command": "perdure", "args": arguments},
                }
            }
        )
        return
    need("mcp")
    names = frozenset(name.strip() for name in toolsets.split(",") if name.strip())
    asyncio.run(_serve(url, names, read_only))


async def _serve(url: str, names: frozenset[str], read_only: bool) -> None:
    import aiohttp

    from perdure.cli.credentials import caller_bearer
    from perdure.model.environments import HEADER
    from perdure.server.mcp.asking import query_text, read
    from perdure.server.mcp.functions import TOOLSET
    from perdure.server.mcp.native import offering
    from perdure.server.mcp.offering import ToolError, chosen
    from perdure.server.mcp.stdio import serve
    from perdure.server.mcp.tools import TOOLSETS

    if unknown := sorted(names - TOOLSETS.keys()):
        raise click.UsageError(f"there is no toolset {unknown[0]}; there is {', '.join(TOOLSETS)}")
    bearer = caller_bearer()
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    if environment := chosen_environment():
        headers[HEADER] = environment
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

        async def ask(method: str, path: str, query: Mapping[str, Json], body: Json) -> tuple[int, bytes]:
            target = f"{url.rstrip('/')}{path}"
            try:
                async with session.request(method, target, params=query_text(query), json=body) as answer:
                    return answer.status, await answer.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ToolError(f"no answer from the server at {url}: {str(error) or 'it took too long'}") from error

        functions: list[str] = []
        if TOOLSET in names:
            functions = [each["id"] for each in (await read(ask, "/v1/functions"))["data"]]
        await serve(chosen(offering(ask, functions, await _agents(ask)), names, read_only))


async def _agents(ask: Ask) -> list[AgentTold]:
    """The agents of a server; none where it has none. Whether their runs are tasks, the server alone knows."""
    from perdure.server.mcp.agents import AgentTold
    from perdure.server.mcp.asking import read
    from perdure.server.mcp.offering import NoResourceError

    try:
        found = await read(ask, "/api/agents", {"partial": True})
    except NoResourceError:
        return []
    return [AgentTold(id, str(each.get("description") or "")) for id, each in sorted(found.items())]
