"""What an app elsewhere says for a run, request by request.

Invariants: of a step only the attempt counts that spoke last; what a step has said is committed when its result is
recorded, not when its app says so; once the run is over nothing is added but its response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from perdure.engine import streams
from perdure.engine.turn import Ended
from perdure.model.streams import MIN_EVENT_BYTES, Entry
from perdure.runner.decider import Decider
from perdure.runner.tail import Tail


class Tee:
    """What one request of an app elsewhere says for a run. Made by `Streams.teeing`."""

    def __init__(self, tail: Tail, decider: Decider, confirm: Callable[[Tee, str], None] | None) -> None:
        self.over = asyncio.Event()
        """Set once the run has ended, or the node stops: then nothing more is waited for."""
        self.run_id = tail.run_id
        self._tail = tail
        self._decider = decider
        self._confirm = confirm
        self._steps: set[str] = set()
        self._begun = False

    def on_ended(self, _: Ended) -> None:
        self.over.set()

    async def begin(self) -> None:
        """It begins to speak. What is over by then comes first. It begins once, whatever it says."""
        if self._begun:
            return
        self._begun = True
        await commit_recorded(self._tail, self._decider)
        self._tail.begin_part()

    async def add(self, entry: Entry) -> None:
        """Adds an event, and waits while too much is not kept yet. Raises `StreamTooLargeError`."""
        tail, step = self._tail, entry.step
        if self.over.is_set() and entry.kind != "response":
            # Whoever asks about a run that is over hears the same, whenever it asks.
            return
        if entry.kind == "response":
            await commit_recorded(tail, self._decider)
        if step is not None and step in self._steps and tail.speakers.get(step) is not self:
            # A later attempt speaks for the step by now, and only that one counts.
            return
        if entry.kind == "data":
            tail.reserve(len(entry.body))
            if step is not None and step not in self._steps:
                if step in tail.open:
                    # An earlier attempt, of which nobody has heard that its connection is gone.
                    tail.add("rollback", step)
                self._steps.add(step)
        elif step is not None:
            self._steps.discard(step)
            if step not in tail.open and not tail.has_room(MIN_EVENT_BYTES):
                # It ends nothing that anybody has heard of.
                return
            if entry.kind == "commit" and self._confirm is not None and tail.speakers.get(step) is self:
                self._confirm(self, step)
                return
        tail.add(entry.kind, step, entry.body)
        if entry.kind == "data" and step is not None:
            tail.speakers[step] = self
        if tail.full:
            await tail.drained()

    async def broke_off(self) -> None:
        """The connection is gone in mid step: what the step has said counts only if the step is recorded."""
        left = [step for step in self._steps if self._tail.speakers.get(step) is self]
        if left:
            for entry in await self._decider.view(partial(streams.closing, self._tail.run_id, left)):
                if entry.step is not None and self._tail.speakers.get(entry.step) is self:
                    self._tail.add(entry.kind, entry.step)


async def commit_recorded(tail: Tail, decider: Decider) -> None:
    """Commits what steps have said that are done, as their apps say, and recorded: before the end is told."""
    for step, tee in tuple(tail.early.items()):
        entries = await decider.view(partial(streams.settled, tail.run_id, step))
        if entries is not None and tail.speakers.get(step) is tee:
            for entry in entries:
                tail.add(entry.kind, entry.step)
