"""How many runs of each app on another server execute at once: an app that hangs must hold up no other.

Such a run costs this process a coroutine and a connection, so it takes no place of the runs of this process; instead
each app has a pool of places of its own. A run that finds its app's pool full is blocked on the pool's key, and let
in when one of the others parks or ends. The engine asks from the store's thread, all else happens in the event loop.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.runner.residence import Residence


class Pools:
    """The pools of a runner. `let_in` is told a key and how many may come, when there is room and somebody may wait."""

    def __init__(self, places: int, let_in: Callable[[str, int], None]) -> None:
        self._places = places
        self._let_in = let_in
        self._inside: dict[str, set[str]] = {}
        self._crowded: set[str] = set()

    def room(self, key: str) -> int:
        """How many more runs the pool takes; whoever finds none is to call `refused`."""
        inside = self._inside.setdefault(key, set())
        if len(inside) > self._places // 2:
            # Before the count is read: who leaves after it was must know that somebody may have been refused.
            self._crowded.add(key)
        return self._places - len(inside)

    def refused(self, key: str) -> None:
        """A run was blocked on the pool."""
        self._crowded.add(key)

    def enter(self, resident: Residence) -> None:
        """A run of an app begins to execute."""
        if resident.code.pool is not None:
            self._inside.setdefault(resident.code.pool, set()).add(resident.run_id)

    def leave(self, resident: Residence) -> None:
        """It has parked or ended; harmless when it was not inside."""
        key = resident.code.pool
        if key is None:
            return
        inside = self._inside.setdefault(key, set())
        if resident.run_id in inside:
            inside.remove(resident.run_id)
            if key in self._crowded:
                self._crowded.discard(key)
                self._let_in(key, self._places - len(inside))

    @property
    def inside(self) -> int:
        """How many runs execute, in all pools."""
        return sum(len(each) for each in self._inside.values())
