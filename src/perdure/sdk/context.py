"""The context: what a handler is told about its run."""

from __future__ import annotations

from typing import Protocol

import msgspec

from perdure.model.event import Event
from perdure.sdk.logger import RunLogger


class Silence(Protocol):
    """Knows whether the handler only repeats what it has done before."""

    def silent(self) -> bool: ...


class Context(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The one argument of a handler.

    `event` is the event that started the run and `events` the whole batch (one event where the function does
    not batch). `attempt` counts from 0 to `max_attempts - 1`. `logger` is silent while the handler replays.
    """

    event: Event
    events: list[Event]
    run_id: str
    function_id: str
    attempt: int
    max_attempts: int
    replay: Silence

    @property
    def logger(self) -> RunLogger:
        """A logger whose records carry the run's and the function's ids."""
        return RunLogger(self.run_id, self.function_id, self.replay.silent)
