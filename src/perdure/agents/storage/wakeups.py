"""Wake-ups: who waits for a change of the storage hears of it at once where it was made in this process.

Correctness never depends on them: a change that another process made is found by looking again, so everybody who
waits also gives a time after which to look.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from weakref import WeakKeyDictionary

from perdure.store.protocol import Store


class Wakeups:
    """The watches of one store, by topic: `run:<id>`, `thread:<id>`."""

    def __init__(self) -> None:
        self.watches: dict[str, set[asyncio.Event]] = {}

    def tell(self, *topics: str | None) -> None:
        """Something changed there. None is no topic."""
        for topic in topics:
            for event in self.watches.get(topic or "", ()):
                event.set()


_OF_STORES: WeakKeyDictionary[Store, Wakeups] = WeakKeyDictionary()


def wakeups_of(store: Store) -> Wakeups:
    """The watches of a store: the same for everything in this process that uses it."""
    return _OF_STORES.setdefault(store, Wakeups())


class Watch:
    """Waits for changes of a topic; those since the last wait count. Use as a context manager.

    Look after it was entered: what changes between the look and `changed` is not missed.
    """

    def __init__(self, wakeups: Wakeups, topic: str) -> None:
        self._wakeups = wakeups
        self._topic = topic
        self._event = asyncio.Event()

    def __enter__(self) -> Watch:
        self._wakeups.watches.setdefault(self._topic, set()).add(self._event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        watching = self._wakeups.watches[self._topic]
        watching.discard(self._event)
        if not watching:
            del self._wakeups.watches[self._topic]

    async def changed(self, timeout: float) -> bool:
        """Waits for a change, at most `timeout` seconds; whether there was one in this process."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
