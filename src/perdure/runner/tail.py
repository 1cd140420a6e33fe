"""The end of one run's stream, where it grows: what was said is told at once, and kept in batches.

Invariants:
- nobody hears of a step's chunks before the store has the first of them, so that a crash cannot leave chunks of which
  it knows nothing; and nobody hears of a commit, a rollback, the response, or a chunk of no step before it is kept;
- what is told has its offset for good, and is in memory at least until the store has it;
- who reads has an offset and no queue: a slow reader costs nothing, and finds in the store what has left the memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from perdure.engine import streams
from perdure.model.errors import StoreError
from perdure.model.streams import MIN_EVENT_BYTES, Entry, StreamEvent, StreamKind, StreamTooLargeError
from perdure.runner.decider import Decider

_log = logging.getLogger("perdure.runner")

_BATCH_DELAY: Final = 0.05
"""How long (seconds) chunks that nobody waits for are gathered before they are kept."""
_QUICK_DELAY: Final = 0.002
"""The same while somebody on another node follows, who hears of chunks once they are kept."""
_FOLLOWED: Final = 5.0
"""How long (seconds) who has said so is taken to follow."""
_BATCH_BYTES: Final = 64 * 1024
_ROW_BYTES: Final = 4 * _BATCH_BYTES
_FULL: Final = 1024 * 1024
"""Bytes that are not kept yet, beyond which sources are to wait."""
_UNKEPT: Final = 10_000
"""Events that may be told before they are kept; far fewer than `streams.GAP`. Of twice as many, sources are to wait."""
_IN_MEMORY: Final = 1024 * 1024
"""Bytes of what is kept that stay in memory, for readers who follow."""
_EVENT_BYTES: Final = 200
"""What an event takes in memory besides its body."""
_AT_ONCE: Final = 1000
_PAUSE_AFTER_ERROR: Final = 1.0


class Tail:
    """Where the stream of one run grows. `idle` is called when nothing is left to be kept."""

    def __init__(self, run_id: str, decider: Decider, limit: int, idle: Callable[[Tail], None]) -> None:
        self.run_id = run_id
        self.users = 0
        self.listeners: set[asyncio.Event] = set()
        self.open: dict[str, None] = {}
        """The steps that have said what is neither committed nor rolled back."""
        self.speakers: dict[str, object] = {}
        """Who speaks for a step that is open, where several could: only the last who began does."""
        self.early: dict[str, object] = {}
        """The steps that are done, as their speakers say, but are not known to be recorded."""
        self._decider = decider
        self._limit = limit
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._size = 0
        self._refusal: str | None = None
        # Entries are counted from 1; the offset of the n-th is `_shift + n`, once the first batch is kept.
        self._shift: int | None = None
        self._count = self._kept = self._told = 0
        self._unkept: list[Entry] = []
        self._unkept_bytes = 0
        # The entries, by their count, that must be kept before they, or later ones, are told.
        self._barriers: deque[int] = deque()
        self._floor = 0
        self._events: list[StreamEvent] = []
        self._bytes = 0
        # How many requests began to speak before an entry, by its count.
        self._parts: dict[int, int] = {}
        self._followed_until = 0.0
        self._left_at: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether it has kept anything: then `open` is all there is."""
        return self._shift is not None

    @property
    def full(self) -> bool:
        """Whether sources should wait (`drained`)."""
        # Many small chunks take memory too.
        return self._unkept_bytes > _FULL or len(self._unkept) > 2 * _UNKEPT

    @property
    def settled(self) -> bool:
        return not self._unkept

    def reserve(self, size: int) -> None:
        """Makes room for an event with a body of `size` bytes; from any thread. Raises `StreamTooLargeError`."""
        size = max(size, MIN_EVENT_BYTES)
        if not self.has_room(size):
            raise StreamTooLargeError(
                f"the stream of run {self.run_id} would have more than {self._limit} bytes, which are allowed: "
                "stream less, or let the node keep more (max_stream_bytes)"
            )
        self._size += size

    def has_room(self, size: int = 0) -> bool:
        """Whether an event of `size` bytes would be within the limit."""
        return self._size + size <= self._limit and self._refusal != streams.TOO_LARGE

    def add(self, kind: StreamKind, step: str | None = None, body: bytes = b"") -> None:
        """Adds an event, for a chunk after `reserve`. What is said for a run that is over, nobody hears."""
        if self._refusal is not None:
            return
        entry = Entry(kind, step, body)
        if kind != "data":
            # What ends a step is always taken.
            self._size += entry.size
        barrier = True
        if step is not None and kind == "data":
            barrier = step not in self.open or len(self._unkept) >= _UNKEPT
            self.open[step] = None
        elif step is not None:
            self.open.pop(step, None)
            self.speakers.pop(step, None)
        self._count += 1
        self._unkept.append(entry)
        self._unkept_bytes += entry.size
        if barrier:
            self._barriers.append(self._count)
        self._tell()
        if barrier or self._unkept_bytes >= _BATCH_BYTES:
            self._write_soon()
        elif self._timer is None:
            delay = _QUICK_DELAY if self._loop.time() < self._followed_until else _BATCH_DELAY
            self._timer = self._loop.call_later(delay, self._write_soon)

    def since(self, offset: int) -> list[StreamEvent] | None:
        """Some of what was told after an offset, in order; None if the store has to be asked."""
        if self._shift is None or offset < self._floor:
            return None
        start = offset - self._floor
        return self._events[start : start + _AT_ONCE]

    @property
    def floor(self) -> int:
        """The offset up to which the store has everything that was told."""
        return self._floor

    def begin_part(self) -> None:
        """A request begins to speak: those who listen right now are told, as it is no event of the log."""
        self._parts[self._count + 1] = self._parts.get(self._count + 1, 0) + 1

    def parts_before(self, offset: int) -> int:
        """How many requests began to speak between the event before this offset and the one that has it."""
        return 0 if self._shift is None else self._parts.get(offset - self._shift, 0)

    def followed_elsewhere(self) -> None:
        """Somebody follows on another node."""
        self._followed_until = self._loop.time() + _FOLLOWED

    def look_elsewhere(self) -> None:
        """Another node may have kept something: what is in memory is not all there is."""
        if not self._unkept and self._writing is None:
            if self._shift is not None:
                self._left_at = self._shift + self._kept
            self._lose_place()
        for listener in self.listeners:
            listener.set()

    def _lose_place(self) -> None:
        """As if nothing had been told here yet: the next batch finds out where the log stands. What was told and is
        not kept is told once more, after what the other node has said."""
        self._shift = None
        self._told = self._kept
        self._events.clear()
        self._bytes = self._floor = 0

    async def settle(self) -> None:
        """Waits until all that was said by now is kept. Raises `StreamTooLargeError` when it cannot be."""
        until = self._count
        while self._kept < until:
            self._write_soon()
            if self._writing is not None:
                await asyncio.shield(self._writing)
        if self._refusal == streams.TOO_LARGE:
            self.reserve(0)

    async def drained(self) -> None:
        """Waits until sources may go on."""
        while self.full:
            self._write_soon()
            if self._writing is not None:
                await asyncio.shield(self._writing)

    async def close(self, timeout: float) -> None:
        """Keeps what is left, unless the store does not take it in time (seconds)."""
        if self._unkept:
            settling = self._loop.create_task(self.settle())
            await asyncio.wait([settling], timeout=timeout)
            settling.cancel()
        if self._writing is not None:
            self._writing.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        until = self._barriers[0] - 1 if self._barriers else self._count
        if self._shift is None or self._told >= until:
            return
        for count in range(self._told + 1, until + 1):
            entry = self._unkept[count - self._kept - 1]
            self._events.append(StreamEvent(self._shift + count, entry.kind, entry.step, entry.body))
            self._bytes += len(entry.body) + _EVENT_BYTES
        self._told = until
        for listener in self.listeners:
            listener.set()

    def _write_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is None and self._unkept:
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        # One batch, for somebody may wait for no more than that, while others go on and on.
        try:
            await self._write_batch()
        finally:
            self._writing = None
        if not self._unkept:
            self._idle(self)
        elif self._barriers or self._unkept_bytes >= _BATCH_BYTES or self._timer is None:
            self._write_soon()

    async def _write_batch(self) -> None:
        batch, size = self._batch()
        # Who was here last has lost nothing that was told, if the log still ends there.
        after = self._left_at if self._shift is None else self._shift + self._kept
        decision = partial(streams.append, self.run_id, batch, self._limit, anew=after is None, after=after)
        try:
            answer = await self._decider.commit(decision)
        except StoreError as error:
            _log.error("run %s: its stream cannot be kept, trying again: %s", self.run_id, error)
            await asyncio.sleep(_PAUSE_AFTER_ERROR)
            return
        self._left_at = None
        if answer == streams.MOVED:
            self._lose_place()
            return
        if isinstance(answer, str):
            self._refuse(answer)
            return
        if self._shift is None:
            self._shift, self._floor = answer.first - 1 - self._kept, answer.first - 1
            # What was reserved while this was under way comes on top of what others had said before.
            self._size = answer.size - size + (self._unkept_bytes if self._kept else self._size)
        done = self._kept + len(batch)
        while self._barriers and self._barriers[0] <= done:
            self._barriers.popleft()
        self._tell()
        self._kept = done
        del self._unkept[: len(batch)]
        self._unkept_bytes -= size
        self._forget()

    def _batch(self) -> tuple[list[Entry], int]:
        """What is kept next, and its bytes: not everything, for readers read batches."""
        batch: list[Entry] = []
        size = 0
        for entry in self._unkept:
            batch.append(entry)
            size += entry.size
            if size >= _ROW_BYTES or len(batch) >= _UNKEPT:
                break
        return batch, size

    def _refuse(self, refusal: str) -> None:
        self._refusal = refusal
        self._unkept.clear()
        self._barriers.clear()
        self._unkept_bytes, self._told = 0, self._count
        self._kept = self._count

    def _forget(self) -> None:
        """Lets go of the oldest of what is kept, when much of it has come together."""
        if self._bytes <= 2 * _IN_MEMORY or self._shift is None:
            return
        dropped, kept = 0, self._shift + self._kept
        while self._bytes > _IN_MEMORY and dropped < len(self._events) and self._events[dropped].offset <= kept:
            self._bytes -= len(self._events[dropped].body) + _EVENT_BYTES
            dropped += 1
        del self._events[:dropped]
        self._floor += dropped
