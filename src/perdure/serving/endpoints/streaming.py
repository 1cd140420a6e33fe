"""The stream of the first request of a run: told to its caller, by the answer to the request."""

from __future__ import annotations

import asyncio

from perdure.model.streams import Entry
from perdure.serving.endpoints import events
from perdure.serving.streaming import Pipe
from perdure.wire.streams import entry_bytes, metadata


class CallerChannel:
    """The stream of the first request. Until something is pushed the answer may still be of another kind."""

    refusal = None

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.pipe = Pipe()
        self.active = asyncio.Event()
        self._held = [metadata(run_id)]
        self._redirect: bytes | None = None
        self._open: set[str] = set()

    def push(self, step: str | None, data: bytes) -> None:
        """See `Channel`."""
        if step is not None:
            self._open.add(step)
        self._activate()
        self.pipe.write(entry_bytes(Entry("data", step, data)))

    @property
    def full(self) -> bool:
        """See `Channel`."""
        return self.pipe.full

    async def drained(self) -> None:
        """See `Channel`."""
        await self.pipe.drained()

    def commit(self, step: str) -> None:
        """See `Channel`. Told of every step, whether it streamed or not."""
        self._open.discard(step)
        self._tell(entry_bytes(Entry("commit", step)))

    def rollback(self, step: str) -> None:
        """See `Channel`."""
        if step in self._open:
            self._open.discard(step)
            self._tell(entry_bytes(Entry("rollback", step)))

    def redirect(self, url: str, output_url: str | None = None) -> None:
        """Tells, once, where the stream goes on if it ends without an answer."""
        if self._redirect is None:
            self._redirect = events.redirect_info(self.run_id, url, output_url)
            self._tell(self._redirect)

    def end(self, last: bytes = b"") -> None:
        """The stream is over, with its last event if there is one."""
        self._activate()
        if last:
            self.pipe.write(last)
        self.pipe.close()

    def _tell(self, event: bytes) -> None:
        if self.active.is_set():
            self.pipe.write(event)
        else:
            self._held.append(event)

    def _activate(self) -> None:
        if not self.active.is_set():
            self.active.set()
            self.pipe.write(b"".join(self._held))
            self._held.clear()
