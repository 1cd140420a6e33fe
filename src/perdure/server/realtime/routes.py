"""The routes of realtime (part E.5).

Tokens and publishing are for callers that the guard lets in. A subscriber, a web page mostly, comes with a token
alone: whoever has one may listen from any origin, and nobody may without.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from perdure.bus.realtime import MAX_TOPICS
from perdure.model.json import InvalidJsonError, decode
from perdure.server.auth import Guard
from perdure.server.backend import Backend
from perdure.server.bodies import header, read_body
from perdure.server.envelope import ApiError, error_reply, reply
from perdure.server.realtime.events import HEADERS, Timing, event_stream
from perdure.server.realtime.publishing import publish
from perdure.server.realtime.relay import publish_tee, subscribe
from perdure.server.realtime.sockets import converse
from perdure.server.realtime.token import PURPOSE, issue_token, read_token
from perdure.server.sockets import refuse
from perdure.server.tokens import TokenError
from perdure.wire.realtime import STREAM_TOPIC, Topic, TopicError, parse_topics

_MAX_TOPICS_BYTES = 1024 * 1024


def routes(backend: Backend, guard: Guard, timing: Timing | None = None) -> list[BaseRoute]:
    """The routes; tokens are signed with the guard's secret."""
    api = _Api(backend, partial(guard.secret, PURPOSE, backend.secret), guard.environment_id, timing or Timing())
    return [
        Route("/v1/realtime/token", api.token, methods=["POST"]),
        WebSocketRoute("/v1/realtime/connect", api.connect),
        Route("/v1/realtime/connect", api.connect_without_upgrade),
        Route("/v1/realtime/sse", api.sse),
        Route("/v1/realtime/publish", api.publish, methods=["POST"]),
        Route("/v1/realtime/publish/tee", api.publish_tee, methods=["POST"]),
    ]


class _Api:
    def __init__(self, backend: Backend, secret: Callable[[], bytes], environment_id: str, timing: Timing) -> None:
        self._backend = backend
        self._secret = secret
        self._environment_id = environment_id
        self._timing = timing

    async def token(self, request: Request) -> Response:
        body = await read_body(request.scope, request.receive, _MAX_TOPICS_BYTES)
        try:
            topics = parse_topics(decode(body), MAX_TOPICS)
        except (InvalidJsonError, TopicError) as error:
            # SDKs and tests know the first words.
            told = str(error)
            known = "must provide a list of topics"
            raise ApiError(400, f"Invalid request: {told if told == known else f'{known}: {told}'}") from error
        hub, now = self._backend.realtime, self._backend.clock.now()
        token = issue_token(topics, self._secret(), now=now, token_id=hub.new_id(), environment_id=self._environment_id)
        return reply({"jwt": token}, 201)

    async def connect(self, socket: WebSocket) -> None:
        try:
            topics = self._topics_of(socket)
        except ApiError as error:
            await refuse(error_reply(socket.url.path, error), socket.scope, socket.receive, socket.send)
            return
        with self._backend.realtime.subscribed(topics) as subscription:
            # Subscribed before it is accepted: what is published once the client is connected, it hears.
            await socket.accept()
            await converse(socket, subscription, self._read_token)

    async def connect_without_upgrade(self, request: Request) -> Response:
        self._topics_of(request)
        raise ApiError(426, "connect with a WebSocket, or use /v1/realtime/sse")

    async def sse(self, request: Request) -> Response:
        topics = self._topics_of(request)
        if len(topics) == 1 and topics[0].name == STREAM_TOPIC:
            return await subscribe(self._backend, request, topics[0].channel, self._timing)
        headers = dict(HEADERS)
        if not header(request.scope, b"origin"):
            headers["access-control-allow-origin"] = "*"
        return StreamingResponse(self._events(topics), headers=headers)

    async def _events(self, topics: list[Topic]) -> AsyncGenerator[bytes]:
        with self._backend.realtime.subscribed(topics) as subscription:
            async for piece in event_stream(subscription, self._timing):
                yield piece

    async def publish(self, request: Request) -> Response:
        return await publish(self._backend.realtime, request)

    async def publish_tee(self, request: Request) -> Response:
        return await publish_tee(self._backend, request)

    def _topics_of(self, connection: HTTPConnection) -> list[Topic]:
        """What a connection may hear; raises `ApiError` (401)."""
        token = connection.query_params.get("token")
        if token is None:
            token = header(connection.scope, b"authorization").removeprefix("Bearer ")
        try:
            return self._read_token(token)
        except TokenError as error:
            raise ApiError(401, "Not authenticated") from error

    def _read_token(self, token: str) -> list[Topic]:
        now = self._backend.clock.now()
        return read_token(token, self._secret(), now=now, environment_id=self._environment_id)
