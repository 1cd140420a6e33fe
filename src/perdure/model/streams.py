"""The stream of a run: what it says while it goes on, as a log of whole events with offsets.

An offset names the place of an event in its run's log. Offsets grow; after a crash they may leave a gap, so that
nothing new gets an offset under which somebody has heard what is lost. A step's chunks count once a commit of the step
follows, and not at all once a rollback does. A response is the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from perdure.model.errors import NonRetriableError
from perdure.model.json import Json, decode

StreamKind = Literal["data", "commit", "rollback", "response"]

MAX_STREAM_BYTES: Final = 64 * 1024 * 1024
"""What the stream of one run may hold, unless the node says otherwise."""


MIN_EVENT_BYTES: Final = 64
"""What an event counts for at least: one that says little takes room, too."""


class StreamTooLargeError(NonRetriableError):
    """The stream of a run would hold more than it may."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event without its place. `step` is the hash of a step, None outside of steps; `body` is JSON, or empty."""

    kind: StreamKind
    step: str | None = None
    body: bytes = b""

    @property
    def size(self) -> int:
        """What it counts for where streams are limited (bytes)."""
        return max(len(self.body), MIN_EVENT_BYTES)


class StreamEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a run's stream.

    `kind`: "data" (a chunk), "commit" and "rollback" (of what a step has said), "response" (the last one, whose data is
    `{"status": "succeeded" | "failed", "response": {"statusCode", "headers", "body"}}`).

    >>> StreamEvent(1, "data", None, b'{"percent": 50}').data
    {'percent': 50}
    """

    offset: int
    kind: StreamKind
    step: str | None
    body: bytes

    @property
    def data(self) -> Json:
        """What was pushed; None for an event without data."""
        return decode(self.body) if self.body else None


class _Packed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    kind: StreamKind
    step: str | None
    body: msgspec.Raw


_packed: Final = msgspec.json.Decoder(list[_Packed])


def pack(entries: Iterable[Entry]) -> bytes:
    """Events as one piece of JSON, to be kept."""
    # Data may be absent, and JSON cannot be: each stands in a list of its own.
    return msgspec.json.encode([[entry.kind, entry.step, msgspec.Raw(b"[" + entry.body + b"]")] for entry in entries])


def unpack(first: int, body: bytes) -> list[StreamEvent]:
    """The events of `pack`, the first of which has the offset `first`.

    >>> unpack(7, pack([Entry("data", "s", b"1"), Entry("commit", "s")]))
    [StreamEvent(offset=7, kind='data', step='s', body=b'1'), StreamEvent(offset=8, kind='commit', step='s', body=b'')]
    """
    found = _packed.decode(body)
    return [
        StreamEvent(first + place, item.kind, item.step, bytes(item.body)[1:-1]) for place, item in enumerate(found)
    ]
