"""Plug-ins beside the log: a `PubSub` that fans chunks out, and a `Cache` that holds a hot copy of them.

They are for others to listen to, gateways and dashboards say. Invariants: no reader of this package reads from them, a
run never waits for them, and one that fails or hangs costs nothing but what it would have told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from perdure.agents.chunks import Chunk
from perdure.model.json import Json

_log = logging.getLogger("perdure.agents")

_ROOM: Final = 10_000
"""How many chunks may wait for a plug-in that is slow; then the oldest are let go."""
_PATIENCE: Final = 5.0
"""How long (seconds) a plug-in may take for one of them."""


class PubSub(Protocol):
    """Tells whoever listens."""

    async def publish(self, topic: str, message: dict[str, Json]) -> None:
        """Tells the listeners of a topic; `agent.stream.<run id>` for `{type: "chunk", runId, data}`."""
        ...


class Cache(Protocol):
    """Holds lists by key."""

    async def append(self, key: str, value: dict[str, Json]) -> None:
        """Adds a chunk to the list of a run; the key is that of the topic."""
        ...


class Accelerators:
    """Takes the chunks of all runs of an agent to its plug-ins, in order and beside the runs."""

    def __init__(self, pubsub: PubSub | None, cache: Cache | None) -> None:
        self._plugs = [_Plug("pubsub", pubsub.publish)] if pubsub is not None else []
        if cache is not None:
            self._plugs.append(_Plug("cache", cache.append))

    @property
    def any(self) -> bool:
        """Whether there is a plug-in."""
        return bool(self._plugs)

    def told(self, said: Chunk, run_id: str) -> None:
        """A chunk was said. It may yet be taken back, as live listeners must expect."""
        for plug in self._plugs:
            plug.take(f"agent.stream.{run_id}", {"type": "chunk", "runId": run_id, "data": dict(said)})


class _Plug:
    def __init__(self, name: str, tell: Callable[[str, dict[str, Json]], Awaitable[None]]) -> None:
        self._name = name
        self._tell = tell
        self._waiting: deque[tuple[str, dict[str, Json]]] = deque(maxlen=_ROOM)
        self._telling: asyncio.Task[None] | None = None

    def take(self, topic: str, message: dict[str, Json]) -> None:
        self._waiting.append((topic, message))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._go())

    async def _go(self) -> None:
        while self._waiting:
            topic, message = self._waiting.popleft()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._tell(topic, message)
            except Exception as error:
                # Whatever a plug-in raises is its own affair: the log has everything.
                _log.warning("the %s of an agent failed for %s: %s", self._name, topic, type(error).__name__)
