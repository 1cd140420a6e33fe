"""When to try again what failed, and when to give up: pure, given the time and chance.

Pauses grow from a tenth of a second to five. What is given up is not a number of tries but a time without success, so
that a server may take its time to start again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_FIRST: Final = 0.1
_LONGEST: Final = 5.0


class Backoff:
    """Gives up after `patience` seconds of failures; 0 tries nothing again. `chance` gives numbers from 0 to 1.

    >>> backoff = Backoff(patience=1.0, chance=lambda: 1.0)
    >>> backoff.failed(now=10.0), backoff.failed(now=10.5), backoff.failed(now=11.0)
    (0.1, 0.2, None)
    """

    def __init__(self, patience: float, chance: Callable[[], float]) -> None:
        self._patience = patience
        self._chance = chance
        self.succeeded()

    def succeeded(self) -> None:
        """Forgets the failures so far."""
        self._failing_since: float | None = None
        self._pause = _FIRST

    def failed(self, now: float, wished: float = 0.0) -> float | None:
        """The seconds to wait before the next try, at least those that the server wished for; None: give up."""
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience:
            return None
        # Half of a pause is left to chance, so that a server that comes back is not asked by everybody at once.
        pause = self._pause * (0.5 + 0.5 * self._chance())
        self._pause = min(self._pause * 2, _LONGEST)
        return max(pause, min(wished, _LONGEST))
