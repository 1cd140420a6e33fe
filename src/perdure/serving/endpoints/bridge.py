"""Endpoints for frameworks that know no event loop: Flask, Django, and any server for WSGI.

The request blocks its thread; the endpoint answers it in the event loop of its app's engine, or in one that the process
keeps in a thread. Handlers are what they are in their framework: views that take its request and return its responses.
Invariants: an answer comes bit by bit as the endpoint gives it, and is held where its reader is slow; a reader that
leaves stops nothing.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from http import HTTPStatus
from importlib import import_module
from inspect import isawaitable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from perdure.model.json import Json
from perdure.sdk.endpoint import Endpoint, Invocation, current_door
from perdure.serving.endpoints.requests import EVENT_STREAM
from perdure.serving.endpoints.responses import Captured, too_large
from perdure.serving.threads import background_loop

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from starlette.types import Message, Scope

_HELD: Final = 32
"""How many pieces of an answer wait for their reader."""


class Given(msgspec.Struct):
    """An answer. `body` is to be read to its end, or closed."""

    status: int
    headers: list[tuple[str, str]]
    body: _Answering

    @property
    def is_stream(self) -> bool:
        return any(name == "content-type" and value.startswith(EVENT_STREAM) for name, value in self.headers)


def wsgi(endpoint: Endpoint) -> WSGIApplication:
    """The endpoint as an application of WSGI; its handler takes a Starlette `Request`, as everywhere else."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        length, most = _length(environ), endpoint.config.max_body
        # One that is too large is refused for what it says of itself; of others, no more is read than shows it.
        ends = 0 < length <= most or (not length and environ.get("wsgi.input_terminated"))
        body: bytes = environ["wsgi.input"].read(length or most + 1) if ends else b""
        found = _ask(endpoint, _scope(environ, environ["wsgi.url_scheme"]), body, None)
        start_response(_status(found.status), found.headers)
        return found.body

    return application


def flask_view(endpoint: Endpoint) -> Callable[..., Json]:
    """The endpoint as a view of Flask: `api.add_url_rule("/order", view_func=flask_view(order), methods=["POST"])`.

    Its handler is an ordinary view: it finds `flask.request`, takes what the rule gives, and returns what views return.
    """
    flask = import_module("flask")
    aborted: type[Exception] = import_module("werkzeug.exceptions").HTTPException

    @wraps(endpoint.handler)
    def view(**arguments: Json) -> Json:
        def call() -> Json:
            try:
                return endpoint.handler(**arguments)
            except aborted as error:
                return flask.current_app.handle_user_exception(error)

        def refused() -> Json:
            found = too_large(endpoint.config.max_body)
            return flask.Response(found.body, found.status, found.headers)

        def captured(value: Json) -> Captured:
            made = flask.make_response(value)
            return Captured(made.status_code, _pairs(made.headers.items()), made.get_data())

        request, most = flask.request, endpoint.config.max_body
        if _length(request.environ) > most:
            return refused()
        if request.max_content_length is None or request.max_content_length > most:
            # One byte more shows that it is too large. (Versions of Flask before 3.1 do not let this be set.)
            with suppress(AttributeError):
                request.max_content_length = most + 1
        scope = _scope(request.environ, request.scheme)
        try:
            body: bytes = request.get_data(cache=True)
        except aborted as error:
            if getattr(error, "code", None) != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            return refused()
        found = _ask(endpoint, scope, body, lambda _: _adapted(call(), captured))
        return flask.Response(found.body, found.status, found.headers)

    return view


def django_view(endpoint: Endpoint) -> Callable[..., Json]:
    """The endpoint as a view of Django: `path("order", django_view(order))`.

    Its handler is an ordinary view: it takes Django's request and what the path gives, and returns an HttpResponse. The
    view is exempt from checks for forged requests (CSRF), because a server cannot pass them.
    """
    http, handling = import_module("django.http"), import_module("django.core.handlers.exception")
    errors = import_module("django.core.exceptions")
    told: tuple[type[Exception], ...] = (http.Http404, errors.PermissionDenied)

    @wraps(endpoint.handler)
    def view(request: Json, *positional: Json, **named: Json) -> Json:
        def call() -> Json:
            try:
                return endpoint.handler(request, *positional, **named)
            except told as error:
                return handling.response_for_exception(request, error)

        def captured(value: Json) -> Json:
            if not isinstance(value, http.HttpResponseBase):
                return value
            body = b"".join(value) if value.streaming else value.content
            cookies = [("set-cookie", morsel.OutputString()) for morsel in value.cookies.values()]
            return Captured(value.status_code, _pairs([*value.items(), *cookies]), body)

        try:
            body: bytes | None = None if _length(request.META) > endpoint.config.max_body else request.body
        except errors.RequestDataTooBig:
            body = None
        if body is None:
            refused = too_large(endpoint.config.max_body)
            return http.HttpResponse(refused.body, status=refused.status, headers=refused.headers)
        scope = _scope(request.META, request.scheme, request.path.encode())
        found = _ask(endpoint, scope, body, lambda _: _adapted(call(), captured))
        kind = http.StreamingHttpResponse if found.is_stream else http.HttpResponse
        response = kind(found.body if found.is_stream else b"".join(found.body), status=found.status)
        del response["content-type"]
        for name, value in found.headers:
            if name == "set-cookie":
                response.cookies.load(value)
            else:
                response[name] = value
        return response

    view.csrf_exempt = True  # type: ignore[attr-defined]
    return view


def _length(environ: dict[str, Json]) -> int:
    text = str(environ.get("CONTENT_LENGTH") or "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _adapted(value: Json, adapt: Callable[[Json], Json]) -> Json:
    """What a handler returned, as what an endpoint takes; awaited first if it has to be."""
    if not isawaitable(value):
        return adapt(value)

    async def awaited(waiting: Awaitable[Json]) -> Json:
        return adapt(await waiting)

    return awaited(value)


def _pairs(items: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    dropped = ("content-length", "connection", "transfer-encoding")
    return tuple((name.lower(), value) for name, value in items if name.lower() not in dropped)


class _Answering:
    """One request on its way through the event loop, seen from a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, body: bytes) -> None:
        self._loop = loop
        self._incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._said: queue.SimpleQueue[Message | BaseException | None] = queue.SimpleQueue()
        self._waiting = 0
        self._room = asyncio.Event()
        self._left = asyncio.Event()

    async def serve(self, application: Json, scope: Scope) -> None:
        try:
            await application(scope, self.receive, self._send)
        except BaseException as error:
            self._said.put(error)
            raise
        self._said.put(None)

    async def receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        while self._waiting >= _HELD and not self._left.is_set():
            self._room.clear()
            await self._room.wait()
        self._waiting += 1
        self._said.put(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            # What is still to be recorded holds up nobody.
            self._said.put(None)

    # In the thread.

    def start(self) -> Message:
        """The start of the answer. Raises what kept it from being made."""
        message = self._next()
        if message is None:
            raise RuntimeError("the endpoint gave no answer")
        return message

    def __iter__(self) -> Iterator[bytes]:
        """The bytes of the answer."""
        try:
            while (message := self._next()) is not None:
                piece: bytes = message.get("body", b"")
                if piece:
                    yield piece
        finally:
            self.close()

    def close(self) -> None:
        """Nobody reads any more; said also by whoever has not begun to, to answer HEAD say."""
        self._loop.call_soon_threadsafe(self._leave)

    def _next(self) -> Message | None:
        found = self._said.get()
        if isinstance(found, BaseException):
            raise found
        if found is not None:
            self._loop.call_soon_threadsafe(self._took)
        return found

    def _took(self) -> None:
        self._waiting -= 1
        self._room.set()

    def _leave(self) -> None:
        self._left.set()
        self._room.set()


def _ask(endpoint: Endpoint, scope: Scope, body: bytes, call: Callable[[Json], Json] | None) -> Given:
    """Has an endpoint answer a request; `call` stands for its handler, if that takes another request."""
    from starlette.requests import Request

    loop = endpoint.app.engine_loop or background_loop()
    answering = _Answering(loop, body)
    invocation: Invocation | None = None
    if call is not None:
        invocation = Invocation(Request(scope, answering.receive), call)
    application = current_door().answer(endpoint, invocation)

    def begin() -> None:
        task = loop.create_task(answering.serve(application, scope))
        # What went wrong is raised in the thread.
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    # With the context of the thread: views find their request by it.
    loop.call_soon_threadsafe(begin, context=copy_context())
    start = answering.start()
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]]
    return Given(start["status"], headers, answering)


def _scope(environ: dict[str, Json], scheme: str, path: bytes | None = None) -> Scope:
    """A request of WSGI as one of ASGI. `path` is its whole path, where that is not in the environment."""
    headers = [
        (name[5:].replace("_", "-").lower().encode("latin-1"), str(value).encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers.append((name.replace("_", "-").lower().encode("latin-1"), str(environ[name]).encode("latin-1")))
    # In WSGI a path is bytes in the clothes of Latin-1.
    own = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1", "replace")
    whole = own if path is None else path
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": scheme,
        "path": whole.decode("utf-8", "replace"),
        "raw_path": quote(whole).encode("ascii"),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": "",
        "headers": headers,
        "client": (environ.get("REMOTE_ADDR") or "", 0),
        "server": (environ.get("SERVER_NAME", "localhost"), int(environ.get("SERVER_PORT") or 80)),
    }


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"
