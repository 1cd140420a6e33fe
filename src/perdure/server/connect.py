"""The doors of connect (part E.6): where workers ask for a connection, keep it open, and post late answers.

`POST /v0/connect/start` gives a worker an id and a token for the WebSocket on the same port. There it introduces
itself; its apps are registered, and what it says from then on is for the pool. A connection that cannot go on is
closed with the protocol's word for it as the reason; the log says what to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from perdure.apps.connections import Worker
from perdure.model.ids import UlidFactory
from perdure.model.json import Json
from perdure.model.limits import SECOND
from perdure.server.auth import Guard
from perdure.server.backend import Backend
from perdure.server.bodies import read_body
from perdure.server.envelope import ApiError, reply
from perdure.server.tokens import Claims, sign
from perdure.server.worker_socket import ISSUER, serve_worker
from perdure.wire.connect import (
    SUBPROTOCOL,
    FlushResponse,
    M,
    MessageError,
    Record,
    SdkResponse,
    StartRequest,
    StartResponse,
    decode,
    encode,
)
from perdure.wire.identity import ACCOUNT_ID, ENVIRONMENT_ID, uuid_of

_log = logging.getLogger("perdure.connect")

GATEWAY_GROUP = "gw-perdure"
"""There is one gateway: this server."""
PURPOSE = "connect"
_SESSION = 300 * SECOND
"""How long a worker may take from its start to its connection (ms)."""
_MAX_START = 1024 * 1024
_MAX_FLUSH = 16 * 1024 * 1024


def routes(backend: Backend, guard: Guard) -> list[BaseRoute]:
    """The routes; session tokens are signed with the guard's secret."""
    api = _Api(backend, partial(guard.secret, PURPOSE, backend.secret), guard.environment_id, os.urandom)
    return [
        Route("/v0/connect/start", api.start, methods=["POST"]),
        Route("/v0/connect/flush", api.flush, methods=["POST"]),
        WebSocketRoute("/v0/connect", api.connect),
        Route("/v0/connect/envs/{environment}/conns", api.connections, methods=["GET"]),
        Route("/v0/connect/envs/{environment}/groups/{hash}", api.group, methods=["GET"]),
    ]


class _Api:
    def __init__(
        self, backend: Backend, secret: Callable[[], bytes], environment_id: str, entropy: Callable[[int], bytes]
    ) -> None:
        self._backend = backend
        self._secret = secret
        self._environment_id = environment_id
        self._new_id = UlidFactory(backend.clock.now, entropy)
        self._gateway_id = self._new_id()

    async def start(self, request: Request) -> Response:
        """Where to connect. Gateways that the worker would rather not have are offered all the same: there is one."""
        await _read(request, StartRequest, _MAX_START)
        connection_id = self._new_id()
        claims = Claims(ISSUER, ACCOUNT_ID, connection_id, {"env": self._environment_id})
        token = sign(claims, self._secret(), now=self._backend.clock.now(), lifetime=_SESSION)
        # "http" becomes "ws", and "https" "wss".
        endpoint = f"ws{str(request.base_url).removeprefix('http')}v0/connect"
        if self._environment_id != ENVIRONMENT_ID:
            # The token is sent on the connection: which environment is to look at it, the address says.
            endpoint += f"?env={self._environment_id}"
        return _protobuf(StartResponse(connection_id, endpoint, GATEWAY_GROUP, token))

    async def flush(self, request: Request) -> Response:
        """Takes an answer that could not be given, or was not acknowledged, on a connection."""
        response = await _read(request, SdkResponse, _MAX_FLUSH)
        if not response.request_id:
            raise ApiError(400, "the body must be an SDKResponse with its request_id")
        if not self._backend.workers.answer(response):
            _log.info("an answer to request %s was posted, and nobody waits for it", response.request_id)
        return _protobuf(FlushResponse(response.request_id))

    async def connect(self, socket: WebSocket) -> None:
        offered: list[str] = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        await serve_worker(socket, self._backend, self._secret())

    async def connections(self, request: Request) -> Response:
        app_id = request.query_params.get("app_id")
        workers = [
            worker
            for worker in self._backend.workers.workers
            if app_id is None or any(app_id in (group.app_id, uuid_of(group.app_id)) for group in worker.groups)
        ]
        return reply({"data": [self._connection(worker) for worker in workers]})

    async def group(self, request: Request) -> Response:
        wanted = request.path_params["hash"]
        found = [
            (group, worker)
            for worker in self._backend.workers.workers
            for group in worker.groups
            if group.hash == wanted
        ]
        if not found:
            raise ApiError(404, "no worker of that group is connected")
        group, worker = found[0]
        shape: dict[str, Json] = {
            "acct_id": ACCOUNT_ID,
            "env_id": self._environment_id,
            "app_id": uuid_of(group.app_id),
            "app_name": group.app_id,
            "sdk_lang": worker.introduced.sdk_language,
            "sdk_version": worker.introduced.sdk_version,
            "sdk_platform": worker.introduced.platform or "",
            "fns": list(group.functions),
            "sync_id": group.sync_id,
            "hash": group.hash,
            "synced": True,
            "conns": [each.id for _, each in found],
        }
        return reply({"data": shape if group.app_version is None else {**shape, "app_version": group.app_version}})

    def _connection(self, worker: Worker) -> Json:
        said = worker.introduced
        attributes = said.system_attributes
        return {
            "id": worker.id,
            "gateway_id": self._gateway_id,
            "instance_id": worker.instance_id,
            "all_worker_groups": {group.app_id: group.hash for group in worker.groups},
            "synced_worker_groups": {uuid_of(group.app_id): group.hash for group in worker.groups},
            "status": int(worker.state),
            "last_heartbeat_at": {
                "seconds": worker.heard_at // 1000,
                "nanos": worker.heard_at % 1000 * 1_000_000,
            },
            "sdk_language": said.sdk_language,
            "sdk_version": said.sdk_version,
            "attributes": None
            if attributes is None
            else {"cpu_cores": attributes.cpu_cores, "mem_bytes": attributes.mem_bytes, "os": attributes.os},
        }


async def _read(request: Request, kind: type[M], limit: int) -> M:
    body = await read_body(request.scope, request.receive, limit)
    try:
        return decode(kind, body)
    except MessageError as error:
        raise ApiError(400, f"the body is {error}") from error


def _protobuf(record: Record) -> Response:
    return Response(encode(record), headers={"content-type": "application/octet-stream"})
