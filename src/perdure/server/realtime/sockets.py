"""One subscriber on a WebSocket: frames go out, and topics are added and given up on request.

Frames of a run's response go out as binary messages, all else as text. The HTTP server sends the pings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from perdure.bus.realtime import MAX_TOPICS, TOO_SLOW, Ended, Subscription, reply_frame
from perdure.server.tokens import TokenError
from perdure.wire.realtime import FrameKind, Topic, TopicError, parse_request, parse_topics

_TOO_SLOW: Final = 1013
_GOING_AWAY: Final = 1001
_PARTING: Final = 5.0
"""How long (seconds) a subscriber that was given up may take until it can be told why."""

ReadToken = Callable[[str], list[Topic]]


async def converse(socket: WebSocket, subscription: Subscription, read_token: ReadToken) -> None:
    """Serves an accepted WebSocket until it, or the subscription, ends. `read_token` raises `TokenError`."""
    # Answers and frames are sent by two tasks; each frame is one send, so they do not mix.
    reading = asyncio.create_task(_listen(socket, subscription, read_token))
    writing = asyncio.create_task(_tell(socket, subscription))
    ending = asyncio.create_task(subscription.ended.wait())
    try:
        await asyncio.wait((reading, writing, ending), return_when=asyncio.FIRST_COMPLETED)
        if ending.done() and not reading.done():
            # What is on its way to somebody who does not read cannot be overtaken.
            await asyncio.wait((reading, writing), timeout=_PARTING, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, writing, ending):
            task.cancel()
        outcomes = await asyncio.gather(reading, writing, ending, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
            raise outcome


async def _tell(socket: WebSocket, subscription: Subscription) -> None:
    while True:
        try:
            message = await subscription.next()
        except Ended as ended:
            reason = str(ended)
            await socket.close(_TOO_SLOW if reason == TOO_SLOW else _GOING_AWAY, reason)
            return
        if message.raw:
            await socket.send_bytes(message.body)
        else:
            await socket.send_text(message.body.decode())


async def _listen(socket: WebSocket, subscription: Subscription, read_token: ReadToken) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        answer = _answer(message.get("text") or "", subscription, read_token)
        if answer is not None:
            await socket.send_text(answer.decode())


def _answer(text: str, subscription: Subscription, read_token: ReadToken) -> bytes | None:
    request = parse_request(text)
    if request is None or request.kind not in ("sub", "unsub"):
        return None
    kind: FrameKind = "sub" if request.kind == "sub" else "unsub"
    try:
        if kind == "sub":
            topics = read_token(request.data if isinstance(request.data, str) else "")
            subscription.add(topics)
        else:
            topics = parse_topics(request.data, MAX_TOPICS)
            subscription.remove(topics)
    except (TokenError, TopicError, ValueError) as error:
        return reply_frame(kind, {"error": str(error)})
    return reply_frame(kind, {"topics": [topic.claim() for topic in topics]})
