"""The two errors of the room.

`ExpressionError` says that the text is wrong (found when it is compiled); its subclass `EvaluationError`
says that the text met values it cannot work on. Both know where in the text the trouble is and print a caret
under it. Invariant: nothing else ever leaves this package because of an expression's text or data.
"""

from __future__ import annotations

_LINE_LIMIT = 160


class ExpressionError(ValueError):
    """An expression cannot be compiled.

    Attributes: `reason` (one sentence, with the fix where there is one), `source` (the whole text) and
    `position` (index of a character in it).

    >>> print(ExpressionError("`evnt` is not known here; did you mean `event`?", "evnt.id == 1", 0))
    `evnt` is not known here; did you mean `event`? (line 1, column 1)
      evnt.id == 1
      ^
    """

    def __init__(self, reason: str, source: str = "", position: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.source = source
        self._position = position

    @property
    def position(self) -> int:
        return self._position or 0

    def locate(self, position: int) -> None:
        """Sets the position unless a more exact one (of a part further in) is known already."""
        if self._position is None:
            self._position = position

    def __str__(self) -> str:
        if not self.source:
            return self.reason
        start = self.source.rfind("\n", 0, self.position) + 1
        line_number = self.source.count("\n", 0, start) + 1
        column = self.position - start
        line = self.source[start:].split("\n", 1)[0]
        # A window around the position: an error is for reading, and the text may be 64 KiB on one line.
        left = max(0, column - _LINE_LIMIT // 2)
        shown = line[left : left + _LINE_LIMIT].replace("\t", " ")
        where = f"(line {line_number}, column {column + 1})"
        return f"{self.reason} {where}\n  {shown}\n  {' ' * (column - left)}^"


class EvaluationError(ExpressionError):
    """An expression was evaluated over values it is not defined for (`'5' > 3`, an integer overflow ...)."""
