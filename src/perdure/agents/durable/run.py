"""What a caller holds: a run that was prepared, and a reader of one that goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from perdure.agents.durable.reader import ChunkReader
from perdure.agents.results import AgentRun, RunOutput
from perdure.model.json import Json


class Prepared(msgspec.Struct):
    """A run that can be started: all of it is data, so that another process may start it.

    `input_hash` is what makes a run the same run.
    """

    run_id: str
    agent_id: str
    version: str
    input: dict[str, Json]
    input_hash: str
    thread_id: str | None = None
    resource_id: str | None = None

    def to_json(self) -> dict[str, Json]:
        """As plain JSON."""
        plain: dict[str, Json] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_json(cls, plain: Json) -> Prepared:
        """The inverse of `to_json`. Raises `msgspec.ValidationError`."""
        return msgspec.convert(plain, cls)


class DurableRun(AgentRun):
    """One reader of a run, from where it was opened to the end of that segment.

    `output` has the text, the object, the usage and so on, each to be awaited; `full_stream` the chunks, each of which
    knows its place in the log (`index`), from which `observe(offset=...)` goes on. The run does not need its readers:
    `close` (or `cleanup`) ends this one alone.
    """

    def __init__(self, output: RunOutput, reader: ChunkReader, abort: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(output, abort)
        self._reader = reader

    @property
    def cursor(self) -> int:
        """The place in the log up to which this reader has read."""
        return self._reader.cursor
