"""App: the functions of a program under one id, and the door by which the program sends events.

An app knows nothing of servers and stores. What runs it (perdure.embedded, perdure dev) reads `functions` and
binds a `Sender`; until then `send` has nowhere to go, and says so.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, Unpack, overload

from perdure.model.config import BatchEvents as BatchEvents
from perdure.model.config import CancelOn as CancelOn
from perdure.model.config import Concurrency as Concurrency
from perdure.model.config import Cron as Cron
from perdure.model.config import Debounce as Debounce
from perdure.model.config import EventTrigger as EventTrigger
from perdure.model.config import FunctionConfig
from perdure.model.config import Priority as Priority
from perdure.model.config import RateLimit as RateLimit
from perdure.model.config import Singleton as Singleton
from perdure.model.config import Throttle as Throttle
from perdure.model.config import Timeouts as Timeouts
from perdure.model.config import on as on
from perdure.model.errors import ConfigError, PerdureError
from perdure.model.event import FUNCTION_FAILED, EventError
from perdure.model.json import Json
from perdure.model.limits import MAX_EVENTS_PER_REQUEST
from perdure.sdk.arguments import EventLike, event_list, plain_event
from perdure.sdk.callables import call_kind
from perdure.sdk.context import Context
from perdure.sdk.endpoint import Endpoint, EndpointOptions, check_handler, current_door
from perdure.sdk.endpoint import configure as configure_endpoint
from perdure.sdk.function import AsyncFunction, Function, PlainFunction
from perdure.sdk.options import FunctionOptions, check_slug, configure
from perdure.sdk.parts import Parts
from perdure.sdk.port import RemoteSender, Sender

if TYPE_CHECKING:
    from starlette.types import ASGIApp

R = TypeVar("R")

_NOT_RUNNING = (
    "runs nowhere, so there is nothing to send events to: "
    "run it with `async with perdure.embedded(app):` or `perdure dev module:app`, or serve it with `perdure.serve(app)`"
)


class App(Parts):
    """A program's functions. `id` names it on a server; with it begins the slug of each function.

    Raises `ConfigError` for an id that is no slug.

    >>> app = App("shop")
    >>> @app.function("fulfil", trigger="shop/order.created", retries=2)
    ... async def fulfil(ctx: Context) -> str:
    ...     return ctx.event.data["order"]
    >>> fulfil.id, list(app.functions)
    ('shop-fulfil', ['shop-fulfil'])
    """

    def __init__(self, id: str) -> None:
        problems = check_slug("id", id)
        if problems:
            raise ConfigError(f"app {id!r}", problems)
        super().__init__()
        self.id = id
        self._functions: dict[str, Function[Json]] = {}
        self._sender: Sender | None = None
        self._sender_loop: asyncio.AbstractEventLoop | None = None
        self._remote: RemoteSender | None = None
        self._when_bound: list[Callable[[], None]] = []

    @property
    def functions(self) -> Mapping[str, Function[Json]]:
        """The functions by slug, those made by `on_failure` included."""
        return MappingProxyType(self._functions)

    def function(self, id: str, **options: Unpack[FunctionOptions]) -> FunctionDecorator:
        """Registers a handler: a function (`async def` or plain) of one argument, the context.

        The options are those of `FunctionOptions`: `trigger`, `name`, `retries`, `concurrency`, `throttle`,
        `rate_limit`, `debounce`, `batch_events`, `priority`, `idempotency`, `singleton`, `cancel_on`,
        `timeouts`, `on_failure`. Raises `ConfigError` with every fault of the options and the handler.
        """
        handler: object = id
        if callable(handler):
            name = getattr(handler, "__name__", "name")
            raise ConfigError(f"function {name!r}", [f'id: is missing: write @app.function("{name}", ...)'])
        return FunctionDecorator(self, id, options)

    def endpoint(self, **options: Unpack[EndpointOptions]) -> Callable[[Callable[..., Json]], Endpoint]:
        """Makes a handler of HTTP requests durable: `@app.endpoint(retries=5)`; for options see `EndpointOptions`.

        The handler, `async def` or plain, takes a Starlette `Request` and returns a `Response`, a JSON value or None.
        Raises `ConfigError` with every fault.

        >>> app = App("shop")
        >>> @app.endpoint(retries=5)
        ... async def order(request):
        ...     return {"ordered": request.query_params["item"]}
        """

        def decorate(handler: Callable[..., Json]) -> Endpoint:
            name = getattr(handler, "__name__", "handler")
            problems = check_handler(handler)
            if problems:
                raise ConfigError(f"endpoint {name!r}", problems)
            return Endpoint(self, configure_endpoint(name, options), handler)

        return decorate

    def endpoint_proxy(self, *, allow_origin: str | None = "*") -> ASGIApp:
        """An ASGI application that answers with what a run of an endpoint puts out, for `async_redirect_url`.

        It takes `runId` and `token` from the query, waits, and answers as the endpoint would have; to callers that
        accept text/event-stream, with the run's stream. `allow_origin`: what browsers are told (CORS), None for
        nothing.
        """
        return current_door().proxy(self, allow_origin=allow_origin)

    @property
    def engine(self) -> Sender | None:
        """What runs the app in this process, None while nothing does."""
        return self._sender

    @property
    def engine_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which that lives."""
        return self._sender_loop

    async def send(self, events: EventLike | Sequence[EventLike]) -> list[str]:
        """Sends one event or several; returns their ids once they are stored.

        Raises `EventError` for an event that is not valid, `UnserializableError` for data that cannot be
        stored, `PerdureError` while nothing runs the app.
        """
        sender = self._sender or self._remote
        if sender is None:
            raise PerdureError(f"app {self.id!r} {_NOT_RUNNING}")
        found = event_list(events)
        if len(found) > MAX_EVENTS_PER_REQUEST:
            raise EventError(f"at most {MAX_EVENTS_PER_REQUEST} events can be sent at once, got {len(found)}")
        bodies = [plain_event(event, f"events[{index}]", index) for index, event in enumerate(found)]
        return await sender.send(bodies) if bodies else []

    def bind(self, sender: Sender) -> None:
        """Gives `send` its destination; for what runs the app, in the event loop that the sender lives in."""
        if self._sender is not None and self._sender is not sender:
            raise PerdureError(f"app {self.id!r} is already run by another engine in this process")
        begins = self._sender is None
        self._sender = sender
        self._sender_loop = asyncio.get_running_loop()
        for call in self._when_bound if begins else ():
            call()

    def when_bound(self, call: Callable[[], None]) -> None:
        """Has something called whenever an engine of this process begins to run the app, in its event loop."""
        self._when_bound.append(call)

    def unbind(self, sender: Sender) -> None:
        """Takes it away again; nothing happens if another one has been bound since."""
        if self._sender is sender:
            self._sender = self._sender_loop = None

    def send_to(self, sender: RemoteSender) -> None:
        """Gives `send` the server that it uses while no engine of this process runs the app: one that serves does."""
        self._remote = sender

    @property
    def sender_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which threads may send. Raises `PerdureError` while nothing runs or serves the app."""
        if self._sender_loop is not None:
            return self._sender_loop
        if self._remote is None:
            raise PerdureError(f"app {self.id!r} {_NOT_RUNNING}")
        return self._remote.loop()

    def add(self, *functions: Function[Json]) -> None:
        """Adds functions, all or none. Raises `ConfigError` if there is another one of an id."""
        for function in functions:
            known = self._functions.get(function.id)
            if known is not None and not _is_new_version(known.handler, function.handler):
                taken = f"id: is taken by {_place(known.handler)}; ids are unique in an app"
                raise ConfigError(f"function {function.id!r}", [taken])
        self._functions.update({function.id: function for function in functions})

    def __repr__(self) -> str:
        return f"<App {self.id!r}, {len(self._functions)} functions>"


class FunctionDecorator:
    """What `@app.function(...)` applies to a handler."""

    def __init__(self, app: App, id: str, options: FunctionOptions) -> None:
        self._app = app
        self._id = id
        self._options = options

    # A coroutine is a result too, so the second form holds for async handlers as well: the first one wins.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        handler: Callable[[Context], Coroutine[Json, Json, R]],  # pyright: ignore[reportOverlappingOverload]
        /,
    ) -> AsyncFunction[R]: ...
    @overload
    def __call__(self, handler: Callable[[Context], R], /) -> PlainFunction[R]: ...
    def __call__(self, handler: Callable[[Context], Json], /) -> Function[Json]:
        problems = check_slug("id", self._id) + _handler_faults("handler", handler)
        on_failure = self._options.get("on_failure")
        if on_failure is not None:
            problems += _handler_faults("on_failure", on_failure)
        config = configure(self._app.id, self._id, self._options, problems)
        if problems:
            raise ConfigError(f"function {config.id!r}", problems)
        function = _function(config, handler)
        if on_failure is None:
            self._app.add(function)
        else:
            self._app.add(function, _function(_failure_config(config), on_failure))
        return function


def _function(config: FunctionConfig, handler: Callable[[Context], Json]) -> Function[Json]:
    return AsyncFunction(config, handler) if call_kind(handler).is_async else PlainFunction(config, handler)


def _failure_config(config: FunctionConfig) -> FunctionConfig:
    return FunctionConfig(
        id=f"{config.id}-failure",
        app_id=config.app_id,
        name=f"{config.name} (failure)",
        triggers=(EventTrigger(FUNCTION_FAILED, f"event.data.function_id == '{config.id}'"),),
        retries=1,
    )


def _handler_faults(field: str, handler: object) -> list[str]:
    if not callable(handler) or inspect.isclass(handler):
        return [f"{field}: must be a function, got {handler!r}"]
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        return [f"{field}: is a generator; use a function that returns its result"]
    try:
        inspect.signature(handler).bind(None)
    except (TypeError, ValueError):
        name = getattr(handler, "__name__", "handler")
        return [f"{field}: must take one argument, the context: def {name}(ctx)"]
    return []


def _is_new_version(known: Callable[..., Json], handler: Callable[..., Json]) -> bool:
    """Whether a notebook's cell is run again: only there is one id rightly defined twice."""
    # The REPL of `python -m asyncio` has a file, but what is typed into it has none.
    typed = getattr(getattr(handler, "__code__", None), "co_filename", "").startswith("<")
    interactive = typed or not hasattr(sys.modules.get("__main__"), "__file__")
    names = [(getattr(f, "__module__", ""), getattr(f, "__qualname__", "")) for f in (known, handler)]
    return interactive and names[0] == names[1]


def _place(handler: Callable[..., Json]) -> str:
    code = getattr(inspect.unwrap(handler), "__code__", None)
    name = getattr(handler, "__qualname__", repr(handler))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name
