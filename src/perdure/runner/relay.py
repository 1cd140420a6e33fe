"""Which way news travel to the other nodes: over a bus while all of them hear it, otherwise by the database.

The bus makes things faster, and nothing rests on it: each node notes in the database which bus it hears
(`Store.join_bus`), and as soon as one does not, everybody's news go by the database again, which is always listened
to. Who loses the bus says so, and looks at everything, and so do the others: news may have been lost on the way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from perdure.bus import RedisBus
from perdure.model.errors import StoreError
from perdure.store.protocol import EVERYTHING, Store

_log = logging.getLogger("perdure.runner")


class Relay:
    """Tells the other nodes, and passes on what they tell to `heard`. `bus`: one that has not been started, if any."""

    def __init__(self, store: Store, node: str, heard: Callable[[str], None], bus: RedisBus | None) -> None:
        self._store = store
        self._node = node
        self._heard = heard
        self._bus = bus
        self._noting: asyncio.Task[None] | None = None
        self._note_again = False
        self.shared = False
        """Whether all nodes hear the bus."""

    def start(self, channel: str) -> None:
        """Begins to listen. `channel` is what the nodes of this installation have in common, and no other has."""
        self._store.listen(self._heard, self._told)
        self._store.tell(EVERYTHING)
        if self._bus is not None:
            self._bus.start(channel, self._heard, self._changed)

    async def stop(self) -> None:
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.wait([self._noting])
        if self._bus is not None:
            await self._bus.stop()

    @property
    def bus(self) -> RedisBus | None:
        return self._bus

    def tell(self, news: str) -> None:
        """Tells all others what is in no transaction; they may miss it."""
        if self.shared and self._bus is not None:
            self._bus.publish([news])
        else:
            self._store.tell(news)

    def look(self) -> None:
        """Other nodes may have come, or left the bus."""
        if self._bus is not None:
            self._note()

    def _told(self, news: Iterable[str]) -> None:
        # Also while some hear it by the database: whether they do is the database's to know, as of the commit.
        if self._bus is not None:
            self._bus.publish(news)

    def _changed(self) -> None:
        self.shared = False
        self._note(changed=True)

    def _note(self, *, changed: bool = False) -> None:
        self._note_again = self._note_again or changed
        if self._noting is None or self._noting.done():
            self._noting = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            changed, self._note_again = self._note_again, False
            assert self._bus is not None
            identity = self._bus.identity
            try:
                shared = await self._store.join_bus(self._node, identity)
            except StoreError as error:
                _log.warning("which bus this node hears could not be noted: %s", error)
                self._note_again = self._note_again or changed
                return
            self.shared = shared and identity is not None and self._bus.identity == identity
            if changed:
                # Either way alone may be one that some do not hear.
                self._store.tell(EVERYTHING)
                self._bus.publish([EVERYTHING])
                self._heard(EVERYTHING)
            if not self._note_again:
                return
