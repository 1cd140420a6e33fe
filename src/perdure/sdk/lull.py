"""Notices when a handler has come to rest: nothing of it executes, and nothing has stirred for a few loop turns.

Nobody can see whether a coroutine will do more before it waits, so this is a guess. A wrong one costs one commit in
process (an operation that comes later asks for the lease back), and one call for an app on another server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_QUIET_TURNS = 3
"""Turns of the event loop without activity after which a handler counts as resting."""


class Lull:
    """Counts what executes and what is being committed. `on_lull` is called once what was asked for has come."""

    __slots__ = ("_activity", "_looking", "_loop", "_on_lull", "committing", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lull: Callable[[], None]) -> None:
        self._loop = loop
        self._on_lull = on_lull
        self._activity = 0
        self._looking = False
        self.running = 0
        self.committing = 0

    @property
    def quiet(self) -> bool:
        """Whether no step executes and nothing is being committed."""
        return not self.running and not self.committing

    def stir(self) -> None:
        """Something happened: a lull begins anew."""
        self._activity += 1

    def look_out(self) -> None:
        """Calls `on_lull` at the next lull; once, however often it is asked for."""
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look, _QUIET_TURNS, self._activity)

    def _look(self, turns: int, activity: int) -> None:
        if activity != self._activity:
            turns, activity = _QUIET_TURNS, self._activity
        if turns:
            self._loop.call_soon(self._look, turns - 1, activity)
        else:
            self._looking = False
            self._on_lull()
