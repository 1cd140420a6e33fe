"""What every part of the storage stands on: a store, the time, new ids, pages, and wake-ups."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from perdure.agents.errors import InvalidOptionError
from perdure.agents.storage.shapes import Page
from perdure.agents.storage.wakeups import Watch, wakeups_of
from perdure.engine.turn import Decision
from perdure.store.protocol import Store

T = TypeVar("T")
MOST = 1 << 31
"""As a limit: all."""


class Base:
    """A store with the time (ms) and a source of unique ids."""

    def __init__(self, store: Store, *, now: Callable[[], int], ids: Callable[[], str]) -> None:
        self.store = store
        self.now = now
        self.ids = ids
        self._wakeups = wakeups_of(store)

    def watch(self, topic: str) -> Watch:
        """Waits for changes of `run:<id>` or `thread:<id>`: see `Watch`."""
        return Watch(self._wakeups, topic)

    def tell(self, *topics: str | None) -> None:
        """Lets those who watch look again."""
        self._wakeups.tell(*topics)

    async def _decide(self, begin: Callable[[], Decision[T]]) -> T:
        return await self.store.submit(begin)

    async def _view(self, begin: Callable[[], Decision[T]]) -> T:
        return await self.store.view(begin)


def slice_of(page: int, per_page: int | None) -> tuple[int, int]:
    """The limit and offset of a page; None as `per_page` is everything."""
    if page < 0:
        raise InvalidOptionError(f"page: must be 0 or more, got {page}")
    if per_page is None:
        return MOST, 0
    if per_page < 0:
        raise InvalidOptionError(f"per_page: must be 0 or more, got {per_page}")
    return per_page, page * per_page


def page_of(items: list[T], total: int, page: int, per_page: int | None) -> Page[T]:
    size = total if per_page is None else per_page
    return Page(items, total, page, size, per_page is not None and (page + 1) * per_page < total)
