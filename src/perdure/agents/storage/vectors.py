"""Vectors in bytes, and exact search among them: float32 of length 1, so that a product is a cosine.

Nothing but the standard library: ten thousand vectors of 1,536 numbers take one to two seconds of a thread, which a
conversation's memory can bear; `math.sumprod` (Python 3.12) needs less.
"""

from __future__ import annotations

import math
import operator
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence

from perdure.agents.errors import InvalidOptionError


def _sumprod(left: Iterable[float], right: Iterable[float]) -> float:
    total: float = sum(map(operator.mul, left, right))
    return total


product: Callable[[Iterable[float], Iterable[float]], float] = getattr(math, "sumprod", _sumprod)


def pack(vector: Sequence[float]) -> bytes:
    """A vector as stored: scaled to length 1. Raises `InvalidOptionError` for one without a direction.

    >>> unpack(pack([3.0, 4.0])).tolist() == [0.6000000238418579, 0.800000011920929]
    True
    """
    length = math.sqrt(math.fsum(value * value for value in vector))
    if not length or not math.isfinite(length):
        raise InvalidOptionError("an embedding must have a direction: finite numbers that are not all zero")
    packed = array("f", [value / length for value in vector])
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack(data: bytes) -> array[float]:
    """The values of a stored vector."""
    values = array("f")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


class Nearest:
    """The nearest messages among all that are looked at; of a message its best piece counts."""

    def __init__(self, vector: Sequence[float], limit: int) -> None:
        self._query = unpack(pack(vector))
        self._limit = limit
        self._scores: dict[str, tuple[float, str]] = {}

    def look_at(self, rows: list[tuple[str, str, bytes]]) -> None:
        """Takes (message id, thread id, vector) rows; vectors of another length are not comparable."""
        size = len(self._query) * self._query.itemsize
        for message_id, thread_id, data in rows:
            if len(data) == size:
                score = product(self._query, unpack(data))
                if message_id not in self._scores or score > self._scores[message_id][0]:
                    self._scores[message_id] = (score, thread_id)

    def best(self) -> list[tuple[float, str, str]]:
        """(score, message id, thread id), best first; equal scores in order of the ids."""
        ranked = sorted(self._scores.items(), key=lambda each: (-each[1][0], each[0]))
        return [(score, message_id, thread_id) for message_id, (score, thread_id) in ranked[: self._limit]]
