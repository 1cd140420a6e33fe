"""What the fixture `perdure_engine` gives: a callable that starts engines and remembers to stop them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Unpack

from perdure.embedding import NodeOptions
from perdure.node import Node
from perdure.sdk.app import App
from perdure.store.protocol import Store
from perdure.testing.clock import VirtualClock
from perdure.testing.engine import make_test_node


class EngineFactory:
    """Starts engines for one test: `engine = await perdure_engine(app)`.

    Options as for `perdure.embedded`; without `db` the engine is in memory. All share the test's `perdure_clock`.
    Call `await engine.stop()` to stop one earlier, for instance to start another on the same file.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._nodes: list[Node] = []

    async def __call__(
        self, app: App | Iterable[App], *, db: str | Path | Store = ":memory:", **options: Unpack[NodeOptions]
    ) -> Node:
        node = make_test_node(app, self._clock, db, options)
        await node.start()
        self._nodes.append(node)
        return node

    async def stop(self) -> None:
        """Stops what was started, the last one first."""
        while self._nodes:
            await self._nodes.pop().stop()
