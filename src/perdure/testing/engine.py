"""An engine in memory under a virtual clock: what a test of durable functions runs on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

from perdure.embedding import NodeOptions, make_node
from perdure.node import Node
from perdure.sdk.app import App
from perdure.store.protocol import Store
from perdure.testing.clock import VirtualClock

_SHUTDOWN_TIMEOUT = 1.0
"""A test that ends while a step hangs must not hang for long itself (seconds)."""


def make_test_node(
    apps: App | Iterable[App], clock: VirtualClock, db: str | Path | Store, options: NodeOptions
) -> Node:
    """A node that is not started yet: under the clock, and quick to stop."""
    defaults: NodeOptions = {"clock": clock, "shutdown_timeout": _SHUTDOWN_TIMEOUT}
    defaults.update(options)
    return make_node(apps, db, **defaults)


@asynccontextmanager
async def in_memory(app: App | Iterable[App], **options: Unpack[NodeOptions]) -> AsyncGenerator[Node]:
    """Runs apps in memory under a virtual clock (a new one unless `clock` is given) for the length of the block.

    Options as for `perdure.embedded`. Time stands still until `clock.advance`, `clock.jump_to` or
    `engine.drain` moves it.

    >>> import asyncio
    >>> from perdure import App, Context, step
    >>> from perdure.testing import in_memory
    >>> app = App("shop")
    >>> @app.function("remind", trigger="shop/cart.left")
    ... async def remind(ctx: Context) -> str:
    ...     await step.sleep("a month", "30d")
    ...     return "reminded"
    >>> async def a_month_in_no_time() -> str:
    ...     async with in_memory(app) as engine:
    ...         run = await engine.trigger(remind)
    ...         await engine.drain()
    ...         return await run.result()
    >>> asyncio.run(a_month_in_no_time())
    'reminded'
    """
    node = make_test_node(app, VirtualClock(), ":memory:", options)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
