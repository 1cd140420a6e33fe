"""The streams of runs: written by steps in this process and by apps elsewhere, and followed by whoever listens.

A reader comes with an offset. It gets what is kept, without what was taken back, then what is said as it is said, and
last the response: the one in the log, or else one that is made of how the run ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import Final

from perdure.bus import MemoryBus
from perdure.engine import streams
from perdure.engine.reads import run_by_id, run_events
from perdure.engine.streams import Overview
from perdure.engine.turn import Decision, Ended
from perdure.model.errors import NotFoundError, StoreError
from perdure.model.event import Event
from perdure.model.streams import MAX_STREAM_BYTES, Entry, StreamEvent, StreamTooLargeError
from perdure.runner.decider import Decider
from perdure.runner.tail import Tail
from perdure.runner.tee import Tee, commit_recorded
from perdure.wire.endpoints import HTTP_REQUEST
from perdure.wire.streams import response_of

_PATIENCE: Final = 0.25
"""How long (seconds) the response of an app elsewhere may take after the end of its run: it comes its own way."""
_FAREWELL: Final = 2.0
_SAY_AGAIN: Final = 1.0
"""How long (seconds) after a reader has said that it follows it says so again, if it hears anything."""
_FIRST_LOOK: Final = 0.002
_LONGEST_PAUSE: Final = 2.0
"""How long (seconds) until it is looked first, and at most until again, whether a step is recorded."""


class Sink:
    """What one execution in this process says. Chunks from any thread, all else in the event loop."""

    def __init__(self, tail: Tail, release: partial[None]) -> None:
        self._tail = tail
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._closed = False
        # True: its callable has returned, and what is recorded of it decides.
        self._steps: dict[str, bool] = {}

    @property
    def full(self) -> bool:
        return self._tail.full

    async def drained(self) -> None:
        await self._tail.drained()

    def push(self, step_id: str | None, chunk: bytes) -> None:
        self._tail.reserve(len(chunk))
        if threading.get_ident() == self._thread:
            self._add(step_id, chunk)
        else:
            self._loop.call_soon_threadsafe(self._add, step_id, chunk)

    def _add(self, step_id: str | None, chunk: bytes) -> None:
        if self._closed:
            return
        if step_id is not None:
            self._steps[step_id] = False
        self._tail.add("data", step_id, chunk)

    async def finish(self, step_id: str) -> None:
        if step_id in self._steps:
            self._steps[step_id] = True
            await self._tail.settle()

    async def settle(self) -> None:
        """Waits until what was said is kept, as far as it can be."""
        with contextlib.suppress(StreamTooLargeError):
            await self._tail.settle()

    def commit(self, step_id: str) -> None:
        if self._steps.pop(step_id, None) is not None:
            self._tail.add("commit", step_id)

    def rollback(self, step_id: str) -> None:
        if self._steps.pop(step_id, None) is not None:
            self._tail.add("rollback", step_id)

    def close(self) -> None:
        """Nothing more is said here. Steps that were cut off are taken back; harmless when it is closed already."""
        if self._closed:
            return
        self._closed = True
        for step_id, finished in self._steps.items():
            # One that may be recorded is left to whoever goes on with the run, and sees whether it is.
            if not finished:
                self._tail.add("rollback", step_id)
        self._steps.clear()
        self._release()


class Reader:
    """Follows one stream. Made by `Streams.following`."""

    def __init__(
        self, tail: Tail, decider: Decider, after: int, tell: Callable[[str], None], *, everything: bool = False
    ) -> None:
        self._tell = tell
        self._told_at = float("-inf")
        self.news = asyncio.Event()
        self.hung_up = False
        self._tail = tail
        self._decider = decider
        self._after = after
        self._from_start = after == 0
        self._everything = everything
        self._heard = self._over = self._waited = self._done = False
        self._overview: Overview | None = None

    def on_ended(self, _: Ended) -> None:
        self._over = True
        self.news.set()

    def parts_before(self, offset: int) -> int:
        """See `Tail`."""
        return self._tail.parts_before(offset)

    async def begin(self) -> Overview:
        """Looks where the stream stands. Raises `NotFoundError`."""
        self._overview = found = await self._look()
        if found.over:
            # Nobody is about to say anything any more.
            self._over = self._waited = True
        return found

    async def next(self) -> list[StreamEvent]:
        """The next events; none when there will be none, or the node stops. Cancelling it loses nothing."""
        overview = self._overview or await self.begin()
        while not (self._done or self.hung_up):
            self.news.clear()
            over = self._over
            events = self._tail.since(self._after)
            if events is None:
                floor = self._tail.floor
                events = await self._decider.view(partial(streams.events_after, self._tail.run_id, self._after))
                if not events and self._after < floor and self._tail.begun:
                    self._after = floor
                    continue
            if events:
                if not self._heard:
                    # What it said before may have reached nobody: the run had not begun to speak.
                    self._heard, self._told_at = True, float("-inf")
                self._after = events[-1].offset
                counting = self._counting(events, overview)
                if counting:
                    return counting
            elif over:
                ending = await self._end(overview)
                if ending is not None:
                    return ending
            else:
                self._say_that_it_follows()
                await self.news.wait()
        return []

    def _say_that_it_follows(self) -> None:
        """Lets the node that the stream comes from keep it sooner."""
        now = asyncio.get_running_loop().time()
        if now - self._told_at > _SAY_AGAIN:
            self._told_at = now
            self._tell(f"follow {self._tail.run_id}")

    def _counting(self, events: list[StreamEvent], overview: Overview) -> list[StreamEvent]:
        """Without what had been taken back before the reader came, unless it wants everything."""
        undone = {} if self._everything else overview.standing.undone
        counting: list[StreamEvent] = []
        for event in events:
            taken_back = undone.get(event.step or "", 0)
            if event.kind == "data" and event.offset < taken_back:
                continue
            if event.kind == "rollback" and self._from_start and event.offset <= taken_back:
                continue
            counting.append(event)
            if event.kind == "response":
                self._done = True
                break
        return counting

    async def _end(self, overview: Overview) -> list[StreamEvent] | None:
        """The last events, once it is sure that no others come; None: look once more."""
        await commit_recorded(self._tail, self._decider)
        if not self._tail.settled:
            with contextlib.suppress(StreamTooLargeError):
                await self._tail.settle()
            return None
        if not self._waited:
            self._waited = True
            if await self._is_answered_by_app(overview):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        await self.news.wait()
                return None
        found = await self._look()
        if found.standing.last > self._after:
            return None
        self._done = True
        return [event for event in _ending(found) if event.offset > self._after]

    async def _is_answered_by_app(self, overview: Overview) -> bool:
        """Whether the app says the response itself: one that answers requests does, but for those whose result has
        all of it, which say how their bodies are encoded."""
        function = self._decider.catalogue.get(overview.function_id)
        if function is None or function.config.url is None:
            return False
        event = await self._decider.view(partial(_first_event, self._tail.run_id))
        return event is not None and event.name == HTTP_REQUEST and not event.data.get("body_encoding")

    async def _look(self) -> Overview:
        found = await self._decider.view(partial(streams.overview, self._tail.run_id))
        if found is None:
            raise NotFoundError(f"there is no run {self._tail.run_id}")
        return found


def _first_event(run_id: str) -> Decision[Event | None]:
    run = yield from run_by_id(run_id)
    events = (yield from run_events(run)) if run is not None else []
    return events[0] if events else None


def _ending(found: Overview) -> list[StreamEvent]:
    """What the log of an ended run lacks: made of rows only, so all readers get the same, whenever they come."""
    if found.standing.ended:
        return []
    first = found.standing.last + 1 + (streams.GAP if found.standing.open else 0)
    response = Entry("response", None, response_of(found.status, found.output))
    return [
        StreamEvent(offset, entry.kind, entry.step, entry.body)
        for offset, entry in enumerate([*found.closing, response], first)
    ]


def last_offset(found: Overview) -> int | None:
    """The offset of the response; None while there is none."""
    if found.standing.ended:
        return found.standing.last
    return _ending(found)[-1].offset if found.over else None


class Streams:
    """The streams of a node's runs. `limit` is how many bytes the stream of one run may hold."""

    def __init__(self, decider: Decider, ended: MemoryBus[Ended], limit: int = MAX_STREAM_BYTES) -> None:
        self._decider = decider
        self._ended = ended
        self._limit = limit
        self._tails: dict[str, Tail] = {}
        self._readers: set[Reader] = set()
        self._tees: set[Tee] = set()
        self._confirming: set[asyncio.Task[None]] = set()
        self.tell: Callable[[str], None] = lambda _: None
        """Tells other nodes, if there are any."""
        self._endless: set[asyncio.Event] = set()

    def sink(self, run_id: str) -> Sink:
        """For an execution in this process, which closes it."""
        tail = self._acquire(run_id)
        return Sink(tail, partial(self._release, tail))

    def mend(self, run_id: str, closing: list[Entry]) -> None:
        """A run is taken up again: what its steps had said before they were cut off is taken back, or committed."""
        tail = self._acquire(run_id)
        for entry in closing:
            # One who has written here knows better what is open.
            if not tail.begun or entry.step in tail.open:
                tail.add(entry.kind, entry.step)
        self._release(tail)

    @contextmanager
    def teeing(self, run_id: str, *, early: bool = False) -> Generator[Tee]:
        """For the length of a request that says what an app elsewhere streams.

        `early`: the app says that a step is done before that is recorded; then it counts once it is.
        """
        tail = self._acquire(run_id)
        tee = Tee(tail, self._decider, self._confirm if early else None)
        self._tees.add(tee)
        self._ended.subscribe(run_id, tee.on_ended)
        try:
            yield tee
        finally:
            self._ended.unsubscribe(run_id, tee.on_ended)
            self._tees.discard(tee)
            self._release(tail)

    def _confirm(self, tee: Tee, step: str) -> None:
        tail = self._acquire(tee.run_id)
        tail.early[step] = tee
        task = asyncio.get_running_loop().create_task(self._commit_once_recorded(tail, tee, step))
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)
        task.add_done_callback(lambda _: self._release(tail))

    async def _commit_once_recorded(self, tail: Tail, tee: Tee, step: str) -> None:
        """Commits what a step has said, when the store has its result: not if another attempt speaks by then."""
        pause = _FIRST_LOOK
        while tail.speakers.get(step) is tee:
            try:
                entries = await self._decider.view(partial(streams.settled, tail.run_id, step))
            except StoreError:
                entries = None
            if entries is not None:
                if tail.speakers.get(step) is tee:
                    for entry in entries:
                        tail.add(entry.kind, entry.step)
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if tail.early.get(step) is tee:
            del tail.early[step]

    async def kept(self, run_id: str, steps: Iterable[str]) -> None:
        """Waits until what these steps of a run have said is kept: it must not be lost where their results are not."""
        tail = self._tails.get(run_id)
        if tail is not None and any(step in tail.open for step in steps):
            with contextlib.suppress(StreamTooLargeError):
                await tail.settle()

    @contextmanager
    def following(self, run_id: str, after: int = 0, *, everything: bool = False) -> Generator[Reader]:
        """A reader of what was said after an offset, for the length of a block.

        `everything`: with what had been taken back before the reader came.
        """
        tail = self._acquire(run_id)
        reader = Reader(tail, self._decider, after, self.tell, everything=everything)
        tail.listeners.add(reader.news)
        self._readers.add(reader)
        # Before it looks: a run that ends meanwhile is not missed.
        self._ended.subscribe(run_id, reader.on_ended)
        try:
            yield reader
        finally:
            self._ended.unsubscribe(run_id, reader.on_ended)
            self._readers.discard(reader)
            tail.listeners.discard(reader.news)
            self._release(tail)

    @contextmanager
    def until_hung_up(self) -> Generator[asyncio.Event]:
        """For the length of a connection that nothing else ends: the event is set when the server hangs up."""
        event = asyncio.Event()
        self._endless.add(event)
        try:
            yield event
        finally:
            self._endless.discard(event)

    def hang_up(self) -> None:
        """Ends the readers, and the requests that stream, that are there; they may come again."""
        for event in tuple(self._endless):
            event.set()
        for tee in tuple(self._tees):
            tee.over.set()
        for reader in tuple(self._readers):
            reader.hung_up = True
            reader.news.set()

    def grew(self, run_id: str | None) -> None:
        """Another node has kept something of a run's stream, or it may have of any: who reads looks into the store."""
        for tail in tuple(self._tails.values()) if run_id is None else filter(None, [self._tails.get(run_id)]):
            tail.look_elsewhere()

    def followed(self, run_id: str) -> None:
        """Somebody on another node follows a run's stream."""
        if (tail := self._tails.get(run_id)) is not None:
            tail.followed_elsewhere()

    async def close(self) -> None:
        """Keeps what was said, and ends the readers."""
        self.hang_up()
        for task in self._confirming:
            task.cancel()
        await asyncio.gather(*(tail.close(_FAREWELL) for tail in tuple(self._tails.values())))

    def _acquire(self, run_id: str) -> Tail:
        tail = self._tails.get(run_id)
        if tail is None:
            tail = self._tails[run_id] = Tail(run_id, self._decider, self._limit, self._on_idle)
        tail.users += 1
        return tail

    def _release(self, tail: Tail) -> None:
        tail.users -= 1
        self._on_idle(tail)

    def _on_idle(self, tail: Tail) -> None:
        if tail.users == 0 and tail.settled:
            self._tails.pop(tail.run_id, None)
