"""What one evaluation may spend, so that no expression can eat the process's time or memory.

One unit is about the cost of one element looked at by a macro, or of some hundred characters copied. `Frame`
is the whole state of one evaluation: the variables, the time, the macros' variables and what is left to
spend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.expressions.errors import EvaluationError
from perdure.model.json import Json

WORK: Final = 200_000
MAX_STRING: Final = 1024 * 1024
MAX_ITEMS: Final = 100_000


class Frame:
    """One evaluation under way."""

    __slots__ = ("left", "locals", "now", "scope")

    def __init__(self, scope: Mapping[str, Json], now: int, local_count: int) -> None:
        self.scope = scope
        self.now = now
        self.locals: list[Json] = [None] * local_count if local_count else []
        self.left = WORK

    def charge(self, units: int) -> None:
        """Spends work; raises `EvaluationError` when none is left."""
        self.left -= units
        if self.left < 0:
            raise EvaluationError("the expression is too expensive: too many elements or too much text")
