"""`RollbackBuffer`: what a reader of a stream may show, when chunks can be taken back.

Chunks stay in the order in which they came, and each step is counted on its own: steps that stream beside each other
are committed and rolled back without touching one another.
"""

from __future__ import annotations

from perdure.client.stream_shapes import Commit, Data, Rollback, StreamEvent
from perdure.model.json import Json


class RollbackBuffer:
    """Give it each event; `chunks` is what stands then.

    >>> buffer = RollbackBuffer()
    >>> for event in (Data("hel", "a"), Rollback("a"), Data("hello", "a"), Commit("a"), Data("!", "b")):
    ...     buffer.add(event)
    >>> buffer.chunks, buffer.committed, buffer.pending
    (['hello', '!'], ['hello'], ['!'])
    """

    def __init__(self) -> None:
        self._chunks: dict[int, Json] = {}
        self._count = 0
        # The numbers of the chunks of each step. What is pushed outside of steps stands at once.
        self._pending: dict[str, list[int]] = {}
        self._committed: dict[str, list[int]] = {}

    @property
    def chunks(self) -> list[Json]:
        """All chunks that were not taken back, in the order in which they came."""
        return list(self._chunks.values())

    @property
    def committed(self) -> list[Json]:
        """The chunks that will stand."""
        pending = {number for numbers in self._pending.values() for number in numbers}
        return [chunk for number, chunk in self._chunks.items() if number not in pending]

    @property
    def pending(self) -> list[Json]:
        """The chunks that may yet be taken back."""
        pending = {number for numbers in self._pending.values() for number in numbers}
        return [chunk for number, chunk in self._chunks.items() if number in pending]

    @property
    def text(self) -> str:
        """The chunks that are texts, as one text."""
        return "".join(chunk for chunk in self._chunks.values() if isinstance(chunk, str))

    def add(self, event: StreamEvent) -> None:
        """Takes an event into account; any kind is welcome."""
        match event:
            case Data():
                self._push(event)
            case Commit():
                for step in self._named(event.step):
                    self._committed.setdefault(step, []).extend(self._pending.pop(step, ()))
            case Rollback():
                for step in self._named(event.step):
                    self._drop(self._pending.pop(step, ()))
            case _:
                pass

    def _push(self, event: Data) -> None:
        if event.step is not None:
            # A step commits once. If it speaks again, the server never learned of that commit, and the step runs
            # anew: what it said then, it says again now.
            self._drop(self._committed.pop(event.step, ()))
            self._pending.setdefault(event.step, []).append(self._count)
        self._chunks[self._count] = event.data
        self._count += 1

    def _named(self, step: str | None) -> list[str]:
        return list(self._pending) if step is None else [step]

    def _drop(self, numbers: list[int] | tuple[int, ...]) -> None:
        for number in numbers:
            del self._chunks[number]
