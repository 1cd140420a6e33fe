"""perdure inside a program: `embedded` for scripts and notebooks, `lifespan` for web applications."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from perdure.bus import RedisBus
from perdure.engine.retention import Retention
from perdure.model.errors import ConfigError
from perdure.model.keys import Keys
from perdure.node import Node
from perdure.runner import Clock
from perdure.sdk.app import App
from perdure.store.naming import make_store
from perdure.store.protocol import Store


class NodeOptions(TypedDict, total=False):
    """How a node runs. All are optional.

    `retention`: how long what has ended is kept (7 days; failed runs 30). `retry_interval`: ms between attempts,
    instead of the backoff table. `max_active`: how many runs execute at once (1000); `max_per_app`: how many of each
    app on another server do, besides (1000). `max_stream_bytes`: what the stream of one run may hold (64 MiB).
    `shutdown_timeout`: how many seconds executing steps have to finish when the node stops (10). `lifetime`: within how
    many seconds others take over the work of a node that died (15), where several share a database. `bus`: the URL of a
    Redis or Valkey server over which they tell each other the news, instead of by the database. `keys`: those with
    which calls of apps on other servers are signed; `allow_private`: whether requests made for such apps may go to
    private addresses (yes). `endpoint_silence`: how many seconds an app on another server that answers the first
    request of an endpoint may be silent before the request is made again (600), `endpoint_grace` the same after a
    restart of this node (5). `environment_id`: the environment that it is, on the wire. `clock`: the time, for tests;
    `entropy` and `chance`: the sources of ids and jitter.
    """

    retention: Retention | None
    retry_interval: int | None
    max_active: int
    max_per_app: int
    max_stream_bytes: int
    shutdown_timeout: float
    lifetime: float
    bus: str | None
    keys: Keys | None
    allow_private: bool
    endpoint_silence: float
    endpoint_grace: float
    environment_id: str
    clock: Clock | None
    entropy: Callable[[int], bytes]
    chance: Callable[[], float]


def make_node(apps: App | Iterable[App], db: str | Path | Store, **options: Unpack[NodeOptions]) -> Node:
    """A node over a database: a file, ":memory:", "postgresql://...", or a store. It has yet to be started.

    Raises `ConfigError`.
    """
    served: list[App] = [apps] if isinstance(apps, App) else list(apps)
    problems = _faults(served, db, dict(options))
    if problems:
        raise ConfigError("perdure.embedded", problems)
    store = make_store(db) if isinstance(db, str | Path) else db
    if store.exclusive and options.get("bus") is not None:
        raise ConfigError(
            "perdure.embedded", ["bus: is for nodes that share a PostgreSQL database; a file has one node"]
        )
    return Node(served, store, **options)


def _faults(apps: Sequence[object], db: str | Path | Store, options: dict[str, object]) -> list[str]:
    """What is wrong with the arguments. What type checks exclude comes too, for not all programs have them."""
    problems = [f"app: must be perdure.App, got {app!r}" for app in apps if not isinstance(app, App)]
    ids = [app.id for app in apps if isinstance(app, App)]
    problems += [f"app: there are several with the id {id!r}" for id in sorted(set(ids)) if ids.count(id) > 1]
    if db == "":
        problems.append('db: must be the name of a file, or ":memory:"')
    problems += [f"{name}: is no option" for name in options if name not in NodeOptions.__annotations__]
    for name, kinds, least, what in (
        ("max_active", (int,), 1, "a whole number of at least 1"),
        ("max_per_app", (int,), 1, "a whole number of at least 1"),
        ("max_stream_bytes", (int,), 1, "bytes, a whole number of at least 1"),
        ("retry_interval", (int,), 1, "milliseconds, a whole number of at least 1"),
        ("shutdown_timeout", (int, float), 0, "seconds, at least 0"),
        ("lifetime", (int, float), 1, "seconds, at least 1"),
        ("endpoint_silence", (int, float), 1, "seconds, at least 1"),
        ("endpoint_grace", (int, float), 0.1, "seconds, at least 0.1"),
    ):
        value = options.get(name)
        # As the options of functions do, None stands for what is not given.
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not value >= least):
            problems.append(f"{name}: must be {what}, got {value!r}")
    bus = options.get("bus")
    try:
        if bus is not None:
            RedisBus(str(bus))
    except ValueError as error:
        problems.append(f"bus: {error}")
    retention = options.get("retention")
    if retention is not None and not isinstance(retention, Retention):
        problems.append(f'retention: must be Retention(...), such as Retention(completed="1d"), got {retention!r}')
    return problems


@asynccontextmanager
async def embedded(
    app: App | Iterable[App], *, db: str | Path | Store = "perdure.db", **options: Unpack[NodeOptions]
) -> AsyncGenerator[Node]:
    """Runs apps in this process, without a server; `db` is a file (made if missing), ":memory:" or "postgresql://...".

    Options: see `NodeOptions`. Raises `StoreLockedError` when another process has the file, `ConfigError` for a
    function that cannot be registered.
    """
    node = make_node(app, db, **options)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


def lifespan(
    app: App | Iterable[App], *, db: str | Path | Store = "perdure.db", **options: Unpack[NodeOptions]
) -> Callable[[object], AbstractAsyncContextManager[dict[str, Node]]]:
    """Runs apps for the life of a Starlette or FastAPI application; the node is `request.state.perdure`.

    Use: `FastAPI(lifespan=perdure.lifespan(app, db="shop.db"))`. Options as for `embedded`.
    """

    @asynccontextmanager
    async def run(_: object) -> AsyncGenerator[dict[str, Node]]:
        async with embedded(app, db=db, **options) as node:
            yield {"perdure": node}

    return run
