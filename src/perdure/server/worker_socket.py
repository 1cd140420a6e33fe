"""One worker on its WebSocket: the introduction, then what it says, until either side leaves (part E.6).

What is sent to it goes through a queue of its own, so that the pool never waits for a worker that does not read.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from msgspec.structs import replace
from starlette.websockets import WebSocket, WebSocketDisconnect

from perdure.apps.connections import INTERNAL_ERROR, ConnectionRefused, Group, Worker
from perdure.apps.registry import Registry
from perdure.apps.remote import WEBSOCKET
from perdure.apps.workers import EXTEND_EVERY, HEARTBEAT, WorkerPool
from perdure.model.errors import StoreError
from perdure.model.ids import is_ulid
from perdure.model.json import InvalidJsonError
from perdure.model.json import decode as decode_json
from perdure.server.backend import Backend
from perdure.server.tokens import TokenError, verify
from perdure.wire.connect import (
    AppConfiguration,
    ConnectionReady,
    Frame,
    Kind,
    MessageError,
    SyncFailed,
    WorkerConnect,
    decode,
    frame,
)
from perdure.wire.registration import INVALID_FUNCTION, Registration, RegistrationError, call_url, registration_of

_log = logging.getLogger("perdure.connect")

ISSUER = "connect.inngest.com"
"""Who made the session tokens, as SDKs' tools know them."""
_HELLO_WITHIN = 5.0
"""How long a worker may take to introduce itself (seconds)."""
_PARTING = 5.0
"""How long a worker may take to hear what was still to be sent when its connection ends (seconds)."""
_EARLY = frozenset({Kind.WORKER_HEARTBEAT, Kind.WORKER_REQUEST_EXTEND_LEASE, Kind.WORKER_REPLY})
"""What the Python SDK, when it connects again, goes on to say before it introduces itself. It is heard after that."""
_MAX_EARLY = 8 * 1024 * 1024
_MAX_APPS = 100
_MAX_BACKLOG = 100_000
"""Frames that may wait for a worker: far beyond its calls. One that talks and never listens has them soon."""
_LANGUAGES = {"typescript": "js", "javascript": "js", "python": "py"}


async def serve_worker(socket: WebSocket, backend: Backend, secret: bytes) -> None:
    """Serves an accepted WebSocket until it ends. `secret` is what session tokens are signed with."""
    link = _SocketLink()
    listening = asyncio.create_task(_listen(socket, backend, link, secret))
    writing = asyncio.create_task(link.write_to(socket))
    overflowing = asyncio.create_task(link.overflown.wait())
    try:
        await asyncio.wait((listening, writing, overflowing), return_when=asyncio.FIRST_COMPLETED)
        if overflowing.done():
            _log.warning("the connection of a worker ends: it does not take what it is sent")
        elif listening.done():
            # What was said last, such as why it is refused, is on its way.
            link.close(1000, "")
            await asyncio.wait((writing,), timeout=_PARTING)
    finally:
        for task in (listening, writing, overflowing):
            task.cancel()
        outcomes = await asyncio.gather(listening, writing, overflowing, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
            raise outcome


class _SocketLink:
    """What is to be sent on a WebSocket; see `perdure.apps.connections.Link`."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | tuple[int, str]] = asyncio.Queue()
        self.overflown = asyncio.Event()

    def send(self, data: bytes) -> None:
        if self._queue.qsize() < _MAX_BACKLOG:
            self._queue.put_nowait(data)
        else:
            self.overflown.set()

    def close(self, status: int, reason: str) -> None:
        self._queue.put_nowait((status, reason))

    async def write_to(self, socket: WebSocket) -> None:
        while True:
            item = await self._queue.get()
            if isinstance(item, tuple):
                await socket.close(*item)
                return
            await socket.send_bytes(item)


async def _listen(socket: WebSocket, backend: Backend, link: _SocketLink, secret: bytes) -> None:
    pool: WorkerPool = backend.workers
    worker: Worker | None = None
    try:
        early: list[bytes] = []
        worker = await _introduced(socket, backend, link, secret, early)
        for data in early:
            pool.receive(worker, data)
        while True:
            pool.receive(worker, await _next(socket))
    except ConnectionRefused as refused:
        _log.warning("the connection of %s ends: %s: %s", worker or "a worker", refused.code, refused.message)
        link.close(refused.status, refused.code)
    except StoreError as error:
        _log.error("a worker cannot be registered, the store refuses: %s", error)
        link.close(INTERNAL_ERROR, "connect_internal_error")
    finally:
        if worker is not None:
            pool.leave(worker)


async def _next(socket: WebSocket) -> bytes:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006), message.get("reason"))
    data: bytes | None = message.get("bytes")
    if data is None:
        raise ConnectionRefused("connect_worker_invalid_msg", "a text was sent where messages are binary")
    return data


async def _introduced(
    socket: WebSocket, backend: Backend, link: _SocketLink, secret: bytes, early: list[bytes]
) -> Worker:
    """The worker, registered and in the pool."""
    link.send(frame(Kind.GATEWAY_HELLO))
    try:
        async with asyncio.timeout(_HELLO_WITHIN):
            said = await _introduction(socket, early)
    except TimeoutError as error:
        message = f"the worker did not introduce itself within {_HELLO_WITHIN:g} s"
        raise ConnectionRefused("connect_worker_hello_timeout", message) from error
    _authenticate(said, secret, backend.clock.now())
    pool = backend.workers
    pool.admit(said.connection_id)
    groups = [await _sync(said, app, backend.registry, pool, link) for app in said.apps]
    worker = Worker(said, groups, link, backend.clock.now())
    pool.join(worker)
    _log.info("worker %s connected with %s", worker.instance_id, ", ".join(group.app_id for group in groups))
    link.send(frame(Kind.GATEWAY_CONNECTION_READY, ConnectionReady(_seconds(HEARTBEAT), _seconds(EXTEND_EVERY), "0s")))
    if not said.worker_manual_readiness_ack:
        pool.ready(worker)
    return worker


async def _introduction(socket: WebSocket, early: list[bytes]) -> WorkerConnect:
    """What the worker says of itself. `early` gets what it says before, on behalf of its connection before."""
    while True:
        data = await _next(socket)
        try:
            message = decode(Frame, data)
        except MessageError as error:
            raise ConnectionRefused("connect_worker_hello_invalid_msg", str(error)) from error
        if message.kind == Kind.WORKER_CONNECT:
            return _read_introduction(message.payload)
        early.append(data)
        if message.kind not in _EARLY or sum(map(len, early)) > _MAX_EARLY:
            told = f"a worker introduces itself first (kind {Kind.WORKER_CONNECT.value}), got kind {message.kind}"
            raise ConnectionRefused("connect_worker_hello_invalid_msg", told)


def _read_introduction(payload: bytes) -> WorkerConnect:
    try:
        said = decode(WorkerConnect, payload)
    except MessageError as error:
        raise _invalid(str(error)) from error
    names = [app.app_name for app in said.apps]
    if not is_ulid(said.connection_id):
        raise _invalid("connection_id must be the one that /v0/connect/start gave")
    if not said.instance_id:
        raise _invalid("instance_id is missing")
    if not names or len(set(names)) < len(names):
        raise _invalid(f"a worker has one app or several, each once, got {names}")
    if len(names) > _MAX_APPS:
        told = f"a connection carries at most {_MAX_APPS} apps, got {len(names)}: open several"
        raise ConnectionRefused("connect_too_many_apps_per_connection", told)
    return said


def _invalid(message: str) -> ConnectionRefused:
    return ConnectionRefused("connect_worker_hello_invalid_payload", message)


def _authenticate(said: WorkerConnect, secret: bytes, now: int) -> None:
    token = said.auth_data.session_token if said.auth_data is not None else ""
    try:
        claims = verify(token, secret, issuer=ISSUER, now=now)
    except TokenError as error:
        raise ConnectionRefused("connect_authentication_failed", f"session token: {error}") from error
    if claims.token_id != said.connection_id:
        raise ConnectionRefused("connect_authentication_failed", "the session token is for another connection")


async def _sync(
    said: WorkerConnect, app: AppConfiguration, registry: Registry, pool: WorkerPool, link: _SocketLink
) -> Group:
    """Registers an app of a worker; tells the worker why it cannot."""
    try:
        registration = _registration(said, app)
        group_hash = _group_hash(said, registration)
        sync_id = pool.standing_sync(registration.app_id, group_hash)
        if sync_id is None:
            sync_id = (await registry.sync(registration, method="connect")).sync_id
            pool.note_sync(group_hash, sync_id)
    except RegistrationError as error:
        error.app_id = app.app_name
        await registry.refused(error)
        code, message = "connect_invalid_function_config", str(error)
        link.send(frame(Kind.SYNC_FAILED, SyncFailed(code, message=message)))
        raise ConnectionRefused(code, message) from error
    functions = tuple(config.id for config in registration.functions)
    return Group(group_hash, registration.app_id, app.app_version, functions, sync_id)


def _registration(said: WorkerConnect, app: AppConfiguration) -> Registration:
    try:
        functions = decode_json(app.functions or b"[]")
    except InvalidJsonError as error:
        raise RegistrationError(INVALID_FUNCTION, [f"functions: must be JSON: {error}"]) from error
    if not isinstance(functions, list):
        raise RegistrationError(INVALID_FUNCTION, ["functions: must be a list of functions"])
    language = _LANGUAGES.get(said.sdk_language, said.sdk_language)
    sdk = f"{language}:v{said.sdk_version.removeprefix('v')}"
    found = registration_of(
        app.app_name, functions, sdk=sdk, framework=said.framework or "connect", app_version=app.app_version or ""
    )
    # They are called here, whatever they say; SDKs spell it with and without a slash.
    configs = [replace(config, url=call_url(WEBSOCKET, config.id)) for config in found.functions]
    return replace(found, functions=tuple(configs))


def _group_hash(said: WorkerConnect, registration: Registration) -> str:
    parts = (said.sdk_language, said.sdk_version, said.platform or "-", registration.checksum)
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def _seconds(duration: int) -> str:
    return f"{duration // 1000}s"
