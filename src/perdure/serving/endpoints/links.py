"""Who records the runs of an app's endpoints: the engine that runs the app in this process, or a server.

An app that an engine runs needs no configuration. Any other belongs to the server that `use_server` or the
environment names. Invariant: a later call is carried out only for who may make it: the server, which signs, or the
engine itself, which knows the calls that it is waiting for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, Unpack, runtime_checkable
from weakref import WeakKeyDictionary

import msgspec

from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import InvalidJsonError, decode
from perdure.model.keys import SigningKey
from perdure.sdk.endpoint import Owner
from perdure.serving.endpoints.checkpoints import ServerCheckpoints
from perdure.serving.endpoints.inside import InsideOutbound
from perdure.serving.outbound import Outbound
from perdure.serving.settings import ServeOptions, Settings, resolve

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_NOBODY: Final = "nobody"


class Expecting(Protocol):
    """What an engine knows of the requests that it has made again."""

    def expects(self, run_id: str, request_id: str) -> bool:
        """Whether a call of a run is open under that id."""
        ...


@runtime_checkable
class Engine(Protocol):
    """What runs an app in this process and takes runs of endpoints."""

    @property
    def endpoints(self) -> Expecting: ...

    def asgi(self) -> ASGIApp:
        """The server of the engine."""
        ...


class Link(msgspec.Struct, frozen=True):
    """The way to who records runs.

    `public_url` is where callers reach it, None where they are led back to the endpoint itself. `origin` and `path`
    are where the server reaches the endpoint, when that is not what requests say.
    """

    outbound: Outbound
    checkpoints: ServerCheckpoints
    public_url: str | None
    expose_errors: bool
    signer: SigningKey | None = None
    settings: Settings | None = None
    expecting: Expecting | None = None
    origin: str | None = None
    path: str | None = None

    def may_call(self, run_id: str, request_id: str, signature: str, body: bytes, now: int) -> bool:
        """Whether a later call of a run is by who may make it."""
        if self.expecting is not None:
            return self.expecting.expects(run_id, request_id)
        assert self.settings is not None
        if self.settings.is_dev:
            return True
        # A list: every key is tried, so that the time tells nothing.
        bodies = [body, *_canonical(body)]
        return any([key.verify(each, signature, now) for key in self.settings.keys for each in bodies])


_options: WeakKeyDictionary[Owner, ServeOptions] = WeakKeyDictionary()
_links: WeakKeyDictionary[Owner, tuple[object, asyncio.AbstractEventLoop | None, Link]] = WeakKeyDictionary()


def use_server(app: Owner, **options: Unpack[ServeOptions]) -> None:
    """Says to which server the endpoints of an app belong while no engine of this process runs it.

    >>> from perdure import App
    >>> use_server(App("shop"), base_url="http://127.0.0.1:8288", is_dev=True)

    Options as for `serve`; without this call they come from the environment. Raises `ConfigError`.
    """
    # Whether there is a key is seen when there is no engine: with one, none is needed.
    resolve({**options, "is_dev": options.get("is_dev", True)})
    _options[app] = options
    _links.pop(app, None)


def link_of(app: Owner) -> Link:
    """The way to who records the app's runs now. Raises `ConfigError` where nothing says who."""
    engine: object = app.engine
    loop = app.engine_loop
    known = _links.get(app)
    if known is not None and known[0] is (engine or _NOBODY) and known[1] is loop:
        return known[2]
    link = _inside(app, engine, loop) if isinstance(engine, Engine) and loop is not None else _elsewhere(app)
    _links[app] = (engine or _NOBODY, loop, link)
    return link


def _inside(app: Owner, engine: Engine, loop: asyncio.AbstractEventLoop) -> Link:
    outbound = InsideOutbound(engine.asgi(), loop)
    given = _options.get(app, ServeOptions())
    settings = resolve({**given, "is_dev": True}) if given else None
    public = given.get("base_url")
    return Link(
        outbound,
        ServerCheckpoints(outbound),
        public.rstrip("/") if public else None,
        bool(given.get("is_dev")),
        expecting=engine.endpoints,
        origin=settings.serve_origin if settings else None,
        path=settings.serve_path if settings else None,
    )


def _elsewhere(app: Owner) -> Link:
    settings = resolve(_options.get(app, ServeOptions()))
    outbound = Outbound(settings)
    signer = settings.keys[0] if settings.keys and not settings.is_dev else None
    return Link(
        outbound, ServerCheckpoints(outbound), settings.api_url, settings.is_dev, signer, settings,
        origin=settings.serve_origin, path=settings.serve_path,
    )  # fmt: skip


def _canonical(body: bytes) -> list[bytes]:
    """The body as a server may have signed it, where that is another text."""
    try:
        found = canonical(decode(body))
    except (InvalidJsonError, CanonicalJsonError):
        return []
    return [] if found == body else [found]
