"""One ASGI application: a thin door in plain ASGI, and the routes behind it.

The door does what every request needs, before any routing: who may come in (the guard), CORS and server headers,
the count of requests, the hot route `POST /e/{key}`, and the last resort for unexpected errors (logged here, told to
nobody outside).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from perdure.model.errors import StoreError
from perdure.server import (
    account,
    agent_door,
    browser,
    connect,
    endpoints,
    graphql,
    health,
    live,
    openapi,
    operations,
    page,
    realtime,
    rest_v0,
    rest_v1,
    rest_v2,
    run_state,
    sdk_api,
    session,
)
from perdure.server.auth import Guard
from perdure.server.backend import Backend
from perdure.server.bodies import route_path
from perdure.server.envelope import (
    ApiError,
    error_reply,
    is_events,
    reply,
    standard_error,
)
from perdure.server.events import post_events
from perdure.server.mcp import routes as mcp
from perdure.server.metrics import CONTENT_TYPE, Here, Metrics
from perdure.server.permissions import doubt
from perdure.server.run_state import checkpointed_run, post_checkpoint
from perdure.server.sockets import Handshake, refuse

_log = logging.getLogger("perdure.server")
UNKNOWN_KEY = {"status": 401, "message": "", "error": "Event key not found"}


def make_app(
    backend: Backend,
    guard: Guard | None = None,
    *,
    draining: Callable[[], bool] = lambda: False,
    environments: account.Environments | None = None,
) -> ASGIApp:
    """The server of a node as an ASGI application; it can be mounted under a path of another one.

    Without a guard it lets everybody in. `draining` says whether it is about to stop, which makes it not ready.
    `environments`: those beside this one, if the server has any (see `perdure.server.environments`).
    """
    metrics = Metrics()
    guard = guard or Guard()
    return Door(backend, metrics, _router(backend, metrics, guard, draining, environments), guard)


class Door:
    """What every request passes first."""

    def __init__(self, backend: Backend, metrics: Metrics, router: ASGIApp, guard: Guard) -> None:
        self._backend = backend
        self._metrics = metrics
        self._router = router
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        path = route_path(scope)
        extra = answer_headers(scope, self._guard.kind)
        answered = False

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message.get("headers", ()), *extra]
                self._metrics.count_request(scope["method"], path, message["status"])
            await send(message)

        try:
            await self._dispatch(path, scope, receive, answer)
        except ClientDisconnect:
            _log.debug("%s %s: the client left before its request was complete", scope["method"], _shown(path))
        except Exception:
            _log.exception("%s %s failed unexpectedly", scope["method"], _shown(path))
            if not answered:
                await error_reply(path, _unexpected())(scope, receive, answer)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        handshake = Handshake(send, answer_headers(scope, self._guard.kind))
        try:
            refusal = self._guard.refusal(path, scope, self._backend.clock.now)
            if refusal is not None:
                await refuse(refusal, scope, receive, handshake.send)
            else:
                await self._router(scope, receive, handshake.send)
        except WebSocketDisconnect:
            _log.debug("%s: the client left", _shown(path))
        except Exception:
            _log.exception("%s: the WebSocket failed unexpectedly", _shown(path))
            await handshake.fail(error_reply(path, _unexpected()), scope, receive)
        finally:
            if handshake.status:
                self._metrics.count_request("GET", path, handshake.status)

    async def _dispatch(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        refusal = self._guard.refusal(path, scope, self._backend.clock.now)
        if refusal is not None and refusal.status_code == 401 and agent_door.admits(self._backend, path):
            doubt(scope)
            refusal = None
        if refusal is not None:
            await refusal(scope, receive, send)
        elif method == "OPTIONS":
            await Response(status_code=200, headers=_preflight(scope))(scope, receive, send)
        elif method == "POST" and (run_id := checkpointed_run(path)) is not None:
            answer = await _answered(path, post_checkpoint(self._backend, run_id, scope, receive))
            await answer(scope, receive, send)
        elif not is_events(path):
            await self._router(scope, receive, send)
        elif path in ("/e", "/e/"):
            await reply(UNKNOWN_KEY, 401)(scope, receive, send)
        elif "/" in path[3:]:
            await error_reply(path, standard_error(404))(scope, receive, send)
        elif method != "POST":
            await error_reply(path, standard_error(405), {"allow": "POST"})(scope, receive, send)
        elif not self._guard.knows_event_key(path[3:]):
            await reply(UNKNOWN_KEY, 401)(scope, receive, send)
        else:
            status, body = await post_events(self._backend, self._metrics, scope, receive)
            await reply(body, status, {"retry-after": "1"} if status == 503 else None)(scope, receive, send)


async def _answered(path: str, answer: Awaitable[Response]) -> Response:
    """The answer of a route that the router does not know, or the error that it raised."""
    try:
        return await answer
    except ApiError as error:
        return error_reply(path, error)
    except StoreError as error:
        _log.error("%s: the store failed: %s", path, error)
        return error_reply(path, _unavailable(), {"retry-after": "1"})


def _shown(path: str) -> str:
    # The key is in the path of events, and a log is no place for it.
    return "/e/..." if is_events(path) else path


def answer_headers(scope: Scope, kind: bytes) -> list[tuple[bytes, bytes]]:
    """What every answer has: what the server is, and that any page may read it."""
    extra = [(b"vary", b"Origin"), (b"x-inngest-server-kind", kind)]
    origin = _origin(scope)
    if origin:
        extra.append((b"access-control-allow-origin", origin))
        extra.append((b"access-control-expose-headers", b"Link, Mcp-Session-Id"))
    return extra


def _origin(scope: Scope) -> bytes:
    return next((value for key, value in scope["headers"] if key == b"origin"), b"")


def _preflight(scope: Scope) -> dict[str, str]:
    asked = {key: value.decode("latin-1") for key, value in scope["headers"]}
    if b"access-control-request-method" not in asked:
        return {"allow": "GET, HEAD, POST, DELETE, OPTIONS"}
    return {
        "access-control-allow-methods": asked[b"access-control-request-method"],
        "access-control-allow-headers": asked.get(b"access-control-request-headers", "*"),
        "access-control-max-age": "3600",
    }


def _router(
    backend: Backend,
    metrics: Metrics,
    guard: Guard,
    draining: Callable[[], bool],
    environments: account.Environments | None,
) -> Starlette:
    async def expose(request: Request) -> Response:
        found = await backend.health()
        here = Here(backend.id, backend.load, len(backend.catalogue.functions), backend.has_bus)
        text = metrics.expose(found, here, backend.clock.now())
        return Response(text, headers={"content-type": CONTENT_TYPE})

    application = Starlette(
        routes=[
            # First, for they are asked once a step.
            *endpoints.routes(backend, guard),
            *health.routes(backend, draining),
            *session.routes(backend, guard.keys),
            Route("/metrics", expose),
            *rest_v0.routes(backend),
            *run_state.routes(backend),
            *rest_v1.routes(backend),
            *graphql.routes(backend),
            *sdk_api.routes(backend, guard),
            *rest_v2.routes(backend, environments),
            *openapi.routes(),
            *browser.routes(),
            *page.routes(),
            *live.routes(backend, draining),
            *operations.routes(backend),
            *realtime.routes(backend, guard),
            *connect.routes(backend, guard),
            *mcp.routes(backend, lambda: application, guard, draining),
            *agent_door.routes(backend),
        ],
        exception_handlers={
            HTTPException: _on_http_error,
            ApiError: _on_api_error,
            StoreError: _on_store_error,
            # It answers, and the error goes on to the door, which logs it.
            Exception: _on_unexpected_error,
        },
    )
    return application


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    told = standard_error(error.status_code)
    if error.detail and error.detail != HTTPStatus(error.status_code).phrase:
        told.message = error.detail
    return error_reply(route_path(request.scope), told, error.headers)


async def _on_api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error_reply(route_path(request.scope), error)


async def _on_store_error(request: Request, error: Exception) -> Response:
    # A WebSocket has no method.
    _log.error("%s %s: the store failed: %s", request.scope.get("method", "WebSocket"), request.url.path, error)
    return error_reply(route_path(request.scope), _unavailable(), {"retry-after": "1"})


async def _on_unexpected_error(request: Request, error: Exception) -> Response:
    return error_reply(route_path(request.scope), _unexpected())


def _unavailable() -> ApiError:
    return ApiError(503, "the store cannot answer now; try again later")


def _unexpected() -> ApiError:
    return ApiError(500, "internal server error", "internal_error")
