"""One subscriber on an event stream (SSE), for whom a WebSocket is too much: frames go out, nothing comes in.

Pieces of a run's response pass as they are: they are an event stream already.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from perdure.bus.realtime import Ended, Message, Subscription

HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    # Proxies would hold pieces back until there are enough of them.
    "x-accel-buffering": "no",
}
_COMMENT: Final = b":\n\n"


class Timing(msgspec.Struct, frozen=True):
    """In seconds: after how much silence a comment is sent, and how long a stream may last."""

    keepalive: float = 15.0
    longest: float = 15 * 60.0


async def event_stream(subscription: Subscription, timing: Timing) -> AsyncGenerator[bytes]:
    """The body of the response. It begins at once, so that a browser sees that it is connected."""
    yield _COMMENT
    loop = asyncio.get_running_loop()
    until = loop.time() + timing.longest
    between_events = True
    while (left := until - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, timing.keepalive)):
                message = await subscription.next()
        except TimeoutError:
            # Within an event of a response a comment would tear it apart.
            if between_events:
                yield _COMMENT
            continue
        except Ended:
            return
        yield _event(message)
        between_events = not message.raw or message.body.endswith((b"\n\n", b"\r\n\r\n"))


def _event(message: Message) -> bytes:
    return message.body if message.raw else b"data: " + message.body + b"\n\n"
