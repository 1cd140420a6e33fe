"""Endpoints as objects: a handler of HTTP requests whose steps are recorded while it answers (Durable Endpoints).

An endpoint is an ASGI application, so anything that routes to one can have it; FastAPI may also call it with the
arguments that it made of a request. It knows neither servers nor engines: what carries requests out is a `Door`, which
`perdure.serving` puts in place. What is wrong with options is said when the handler is decorated.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypedDict

import msgspec

from perdure.model.config import Duration
from perdure.model.durations import DurationError, parse_duration
from perdure.model.errors import ConfigError, PerdureError
from perdure.model.json import Json
from perdure.model.limits import MAX_RETRIES
from perdure.sdk.callables import call_kind
from perdure.sdk.port import Sender

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

RedirectUrl: TypeAlias = str | Callable[..., str | Awaitable[str]]
"""Where callers go for an answer: a URL, or what gives it, called with `run_id` and `token`."""

DEFAULT_RETRIES: Final = 3
DEFAULT_TIMEOUT: Final = "15m"
MAX_BODY: Final = 2 * 1024 * 1024
MAX_RESPONSE: Final = 4 * 1024 * 1024

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RESERVED: Final = ("x-inngest-", "x-run-id", "x-request-id", "content-length", "transfer-encoding", "host")


class EndpointOptions(TypedDict, total=False):
    """What `@app.endpoint` takes; all are optional.

    `function_id`: the name of the endpoint's runs (method and path, if not given). `retries`: attempts after the first
    one, of the handler and of each step, 0 to 20 (3). `async_response`: what a caller gets when the run must wait:
    "redirect" to where the answer will be, or a "token" with which to get it. `async_redirect_url`: where to, instead
    of the server: a URL, to which runId and token are added, or a callable `(run_id, token)`, async or not.
    `stream_url`: the same for callers that take a stream of events; its `token` is another one. `capture_headers`:
    request headers that the handler has on later calls too; they are stored. `timeout`: how long one request may take
    the handler ("15m"). `max_body`: of a request, in bytes (2 MiB). `max_response`: of an answer that is recorded, in
    bytes (4 MiB). `expose_errors`: tell callers the stack of an error that ends the run (in development).
    """

    function_id: str | None
    retries: int
    async_response: Literal["redirect", "token"]
    async_redirect_url: RedirectUrl | None
    stream_url: RedirectUrl | None
    capture_headers: Sequence[str]
    timeout: Duration
    max_body: int
    max_response: int
    expose_errors: bool | None


class EndpointConfig(msgspec.Struct, frozen=True):
    """The options as they are in force. `timeout` is in ms."""

    function_id: str
    retries: int
    async_response: Literal["redirect", "token"]
    async_redirect_url: RedirectUrl | None
    stream_url: RedirectUrl | None
    capture_headers: tuple[str, ...]
    timeout: int
    max_body: int
    max_response: int
    expose_errors: bool | None


class Owner(Protocol):
    """The app of an endpoint. `engine` is what runs it in this process, if anything does."""

    id: str

    @property
    def engine(self) -> Sender | None: ...

    @property
    def engine_loop(self) -> asyncio.AbstractEventLoop | None: ...


class Invocation(msgspec.Struct, frozen=True):
    """A handler that a framework calls: the `request` that it made, and the handler as a function of one alone."""

    request: Json
    call: Callable[[Json], Json]


class Door(Protocol):
    """Carries out the requests of endpoints."""

    def answer(self, endpoint: Endpoint, invocation: Invocation | None) -> ASGIApp:
        """An application that answers a request by the endpoint's handler; for an invocation, a `Response`."""
        ...

    def proxy(self, app: Owner, *, allow_origin: str | None) -> ASGIApp:
        """An application that answers with what runs put out."""
        ...


_doors: list[Door] = []


def install(door: Door) -> None:
    """Puts in place what carries out requests; the last one counts."""
    _doors[:] = [door]


def current_door() -> Door:
    """What carries out requests. Raises `PerdureError` where nothing does."""
    if not _doors:
        raise PerdureError("endpoints are answered by perdure.serving: import it")
    return _doors[0]


class Endpoint:
    """A durable handler of requests. Made by `@app.endpoint`, never directly.

    Route to it like to any handler, or to `asgi` where a function is asked for, as servers do. `handler` is the
    decorated function: one argument, a Starlette `Request`, and a `Response`, a JSON value, or None.
    """

    def __init__(self, app: Owner, config: EndpointConfig, handler: Callable[..., Json]) -> None:
        wrapper: Json = self
        functools.update_wrapper(wrapper, handler)
        self.app = app
        self.config = config
        self.handler = handler
        self.is_async = call_kind(handler).is_async
        self.asgi = self._as_function()

    def with_options(self, **options: object) -> Endpoint:
        """The same handler with other options; this endpoint stays as it is. Raises `ConfigError`."""
        given = {name: getattr(self.config, name) for name in EndpointOptions.__annotations__}
        given["function_id"] = given["function_id"] or None
        given["timeout"] = given["timeout"] / 1000
        return Endpoint(self.app, configure(getattr(self, "__name__", "endpoint"), given | options), self.handler)

    async def __call__(self, *args: Json, **kwargs: Json) -> Json:
        """An ASGI application, called with scope, receive and send; or a handler, called with a request."""
        if len(args) == 3 and not kwargs and isinstance(args[0], MutableMapping) and "type" in args[0]:
            scope, receive, send = args
            return await current_door().answer(self, None)(scope, receive, send)
        return current_door().answer(self, self._bound(args, kwargs))

    def _bound(self, args: tuple[Json, ...], kwargs: dict[str, Json]) -> Invocation:
        """The handler as a function of the request alone: where one was given, another takes its place."""
        given = next((value for value in (*args, *kwargs.values()) if _is_request(value)), None)
        if given is None:
            name = getattr(self, "__name__", "handler")
            raise PerdureError(
                f"endpoint {name!r} got no request: let its handler take one, def {name}(request: Request)"
            )

        def call(request: Json) -> Json:
            found = [request if value is given else value for value in args]
            named = {key: request if value is given else value for key, value in kwargs.items()}
            return self.handler(*found, **named)

        return Invocation(given, call)

    def _as_function(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        async def asgi(scope: MutableMapping[str, Json], receive: Json, send: Json) -> None:
            await current_door().answer(self, None)(scope, receive, send)

        return asgi

    def __repr__(self) -> str:
        return f"<Endpoint {getattr(self, '__qualname__', self.config.function_id)!r} of app {self.app.id!r}>"


def _is_request(value: object) -> bool:
    return isinstance(getattr(value, "scope", None), MutableMapping) and callable(getattr(value, "receive", None))


def check_handler(handler: object) -> list[str]:
    """What is wrong with the handler of an endpoint."""
    if not callable(handler) or inspect.isclass(handler):
        return [f"handler: must be a function, got {handler!r}"]
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        return ["handler: is a generator; return a StreamingResponse, or push what is to be streamed: stream.push(...)"]
    return []


def configure(name: str, options: Mapping[str, object]) -> EndpointConfig:
    """The configuration that options ask for. Raises `ConfigError` with every fault."""
    problems = [f"{option}: is no option" for option in options if option not in EndpointOptions.__annotations__]
    config = EndpointConfig(
        function_id=_text(options, "function_id", problems) or "",
        retries=_number(options, "retries", DEFAULT_RETRIES, 0, MAX_RETRIES, problems),
        async_response=_async_response(options.get("async_response", "redirect"), problems),
        async_redirect_url=_url(options, "async_redirect_url", problems),
        stream_url=_url(options, "stream_url", problems),
        capture_headers=_headers(options.get("capture_headers", ()), problems),
        timeout=_timeout(options.get("timeout", DEFAULT_TIMEOUT), problems),
        max_body=_number(options, "max_body", MAX_BODY, 0, None, problems),
        max_response=_number(options, "max_response", MAX_RESPONSE, 0, None, problems),
        expose_errors=_flag(options.get("expose_errors"), problems),
    )
    if problems:
        raise ConfigError(f"endpoint {name!r}", problems)
    return config


def _text(options: Mapping[str, object], option: str, problems: list[str]) -> str | None:
    value = options.get(option)
    if value is None or (isinstance(value, str) and value):
        return value or None
    problems.append(f"{option}: must be a text that is not empty, got {value!r}")
    return None


def _number(
    options: Mapping[str, object], option: str, default: int, least: int, most: int | None, problems: list[str]
) -> int:
    value = options.get(option, default)
    if isinstance(value, int) and not isinstance(value, bool) and least <= value and (most is None or value <= most):
        return value
    wanted = f"at least {least}" if most is None else f"from {least} to {most}"
    problems.append(f"{option}: must be a whole number {wanted}, got {value!r}")
    return default


def _async_response(value: object, problems: list[str]) -> Literal["redirect", "token"]:
    if value == "redirect" or value == "token":
        return "token" if value == "token" else "redirect"
    problems.append(f'async_response: must be "redirect" or "token", got {value!r}')
    return "redirect"


def _url(options: Mapping[str, Json], option: str, problems: list[str]) -> RedirectUrl | None:
    found: RedirectUrl | None = options.get(option)
    value: object = found
    if value is None or (isinstance(value, str) and value.startswith(("/", "http://", "https://"))):
        return found
    if isinstance(value, str) or not callable(value):
        problems.append(f'{option}: must be a URL or a path such as "/wait", or a callable, got {value!r}')
        return None
    try:
        inspect.signature(value).bind(run_id="", token="")
    except (TypeError, ValueError):
        problems.append(f"{option}: must take run_id and token: def {option}(run_id, token)")
    return found


def _headers(value: object, problems: list[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        problems.append(f"capture_headers: must be a list of names, got {value!r}")
        return ()
    for name in value:
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            problems.append(f"capture_headers: {name!r} is no name of a header")
        elif name.lower().startswith(_RESERVED):
            problems.append(f"capture_headers: {name!r} is set by the protocol")
    return tuple(dict.fromkeys(name.lower() for name in value if isinstance(name, str)))


def _timeout(value: object, problems: list[str]) -> int:
    try:
        millis = parse_duration(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except DurationError as error:
        problems.append(f"timeout: {error}")
        return 0
    if millis <= 0:
        problems.append(f"timeout: must be more than 0, got {value!r}")
    return millis


def _flag(value: object, problems: list[str]) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    problems.append(f"expose_errors: must be True or False, got {value!r}")
    return None
