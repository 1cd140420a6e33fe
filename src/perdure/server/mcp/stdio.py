"""An offering over standard input and output, for agents that start a process of their own. It loads the package."""

from __future__ import annotations

from mcp.server.stdio import stdio_server

from perdure.server.mcp.offering import Offering
from perdure.server.mcp.protocol import build


async def serve(offering: Offering) -> None:
    """Serves until standard input ends."""
    server = build(offering)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())
