"""The standing stream of a session: how clients of the older revisions hear that a resource has changed.

It is looked at, as often as `EVERY` says, and only while somebody listens. When the server stops, the stream ends; the
client opens another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Send

from perdure.server.mcp.sessions import Session
from perdure.server.mcp.telling import PING, STREAM, event, left, raw

EVERY: Final = 0.5
"""How often what is watched is looked at (seconds); more seldom where much is watched."""
_EACH = 0.01


def pause(watched: int) -> float:
    """How long to wait between two looks at so many things.

    >>> pause(1), pause(100)
    (0.5, 1.0)
    """
    return max(EVERY, _EACH * watched)


def updated(uri: str) -> dict[str, object]:
    """The message that tells of a change."""
    return {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}


async def stand(session: Session, ending: Callable[[], bool], receive: Receive, send: Send) -> None:
    """Answers a GET: tells of changes until the client leaves, or the server is about to stop."""
    headers = raw({**STREAM, "mcp-session-id": session.id})
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
    telling = asyncio.ensure_future(_tell(session, ending, send))
    leaving = asyncio.ensure_future(left(receive))
    try:
        await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (telling, leaving):
            task.cancel()
        await asyncio.gather(telling, leaving, return_exceptions=True)


async def _tell(session: Session, ending: Callable[[], bool], send: Send) -> None:
    silent = 0.0
    while not ending():
        wait = pause(len(session.watched))
        await asyncio.sleep(wait)
        silent += wait
        said = b"".join(event(updated(uri)) for uri in await session.changed())
        if not said and silent >= PING:
            said = b": ping\n\n"
        if said:
            silent = 0.0
            await send({"type": "http.response.body", "body": said, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
