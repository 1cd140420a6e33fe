"""perdure inside a program: `embedded` for scripts and notebooks, `lifespan` for web applications."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from perdure.engine.retention import Retention
from perdure.node import Node
from perdure.runner import Clock
from perdure.sdk.app import App
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore


class NodeOptions(TypedDict, total=False):
    """How a node runs. All are optional.

    `retention`: how long what has ended is kept (7 days; failed runs 30). `retry_interval`: ms between attempts,
    instead of the backoff table. `max_active`: how many runs execute at once (1000). `shutdown_timeout`: how many
    seconds executing steps have to finish when the node stops (10). `clock`: the time, for tests; `entropy` and
    `chance`: the sources of ids and jitter.
    """

    retention: Retention | None
    retry_interval: int | None
    max_active: int
    shutdown_timeout: float
    clock: Clock | None
    entropy: Callable[[int], bytes]
    chance: Callable[[], float]


def make_node(apps: App | Iterable[App], db: str | Path | Store, **options: Unpack[NodeOptions]) -> Node:
    """A node over a database: a file, ":memory:", or a store. It has yet to be started."""
    store = SqliteStore(db) if isinstance(db, str | Path) else db
    return Node([apps] if isinstance(apps, App) else list(apps), store, **options)


@asynccontextmanager
async def embedded(
    app: App | Iterable[App], *, db: str | Path | Store = "perdure.db", **options: Unpack[NodeOptions]
) -> AsyncGenerator[Node]:
    """Runs apps in this process, without a server; `db` is a file (made if missing) or ":memory:".

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
