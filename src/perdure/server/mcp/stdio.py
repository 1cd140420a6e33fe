"""An offering over standard input and output, for agents that start a process of their own. It loads the package."""

from __future__ import annotations

import asyncio

from mcp.server.stdio import stdio_server

from perdure.server.mcp.offering import Offering
from perdure.server.mcp.protocol import build
from perdure.server.mcp.sessions import Session
from perdure.server.mcp.standing import pause


async def serve(offering: Offering) -> None:
    """Serves until standard input ends."""
    session = Session("", "", {})
    server = build(offering, pipe=session)
    telling = asyncio.ensure_future(_tell(session))
    try:
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _tell(session: Session) -> None:
    """Tells which of the watched resources have changed."""
    while True:
        await asyncio.sleep(pause(len(session.watched)))
        if session.tell is not None:
            for uri in await session.changed():
                await session.tell(uri)
