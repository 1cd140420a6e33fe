"""The HTTP client of an event loop: one pool of connections for all apps that are served in it.

A mounted app is told nothing of the end of the application around it, so the pool ends with its loop: every loop that
is shut down in order closes the asynchronous generators that were begun in it, and one of them holds the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from perdure.model.json import Json

if TYPE_CHECKING:
    import aiohttp

# The generator is kept alive here, for as garbage it would take the open pool along.
_pools: dict[asyncio.AbstractEventLoop, tuple[AsyncGenerator[Json, None], Json]] = {}


async def session() -> aiohttp.ClientSession:
    """The client of the running loop, opened (and imported) when first asked for."""
    loop = asyncio.get_running_loop()
    known = _pools.get(loop)
    if known is None:
        for closed in [each for each in _pools if each.is_closed()]:
            del _pools[closed]
        holder = _open()
        # Nothing is awaited in there, so nobody else comes in between.
        known = _pools[loop] = (holder, await anext(holder))
    found: aiohttp.ClientSession = known[1]
    return found


async def _open() -> AsyncGenerator[aiohttp.ClientSession, None]:
    import aiohttp

    opened = aiohttp.ClientSession()
    try:
        yield opened
    finally:
        await opened.close()
