"""Realtime: messages under a channel and a topic, for whoever subscribes right now. Nothing is kept for later.

A frame is encoded once, however many subscribers hear it. A subscriber who does not take what it is sent is given up
when its backlog is full, and the others do not notice. Publish from any thread, for plain steps have threads of their
own; a subscription belongs to the event loop that it was made in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final

import msgspec

from perdure.bus.memory import MemoryBus
from perdure.model import values
from perdure.model.json import Json, encode
from perdure.wire.identity import ENVIRONMENT_ID
from perdure.wire.realtime import (
    CHUNK,
    MAX_MESSAGE_BYTES,
    MAX_STREAM_BYTES,
    STREAM_TOPIC,
    Frame,
    FrameKind,
    Topic,
)
from perdure.wire.times import rfc3339

MAX_BACKLOG: Final = 4096
"""Messages that may wait for a subscriber."""
MAX_BACKLOG_BYTES: Final = 8 * 1024 * 1024
MAX_TOPICS: Final = 1000
"""Topics of one subscriber."""
TOO_SLOW: Final = "too slow: messages came faster than they were taken"


class MessageTooLargeError(ValueError):
    """A message or a stream is larger than subscribers are sent."""


class Message(msgspec.Struct, frozen=True):
    """What subscribers hear: the JSON of a frame, or, `raw`, a piece of a response as it is."""

    body: bytes
    raw: bool = False


class Ended(Exception):
    """A subscription is over; the text says why."""


class Subscription:
    """What one subscriber hears, in order, until it is closed. Made by `Hub.subscribed`."""

    def __init__(self, bus: MemoryBus[Message]) -> None:
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._keys: set[str] = set()
        self._backlog: deque[Message] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when it is closed."""
        self.reason = ""
        """Why it was closed."""

    def add(self, topics: Iterable[Topic]) -> None:
        """Hears these too. Raises `ValueError` beyond `MAX_TOPICS`, and adds none."""
        new = {_key(topic.channel, topic.name) for topic in topics} - self._keys
        if len(self._keys) + len(new) > MAX_TOPICS:
            raise ValueError(f"a subscriber has at most {MAX_TOPICS} topics")
        for key in new:
            self._bus.subscribe(key, self._hear)
        self._keys |= new

    def remove(self, topics: Iterable[Topic]) -> None:
        """Hears these no longer."""
        for key in {_key(topic.channel, topic.name) for topic in topics} & self._keys:
            self._bus.unsubscribe(key, self._hear)
            self._keys.discard(key)

    def close(self, reason: str) -> None:
        """Hears no more; what it has heard can still be taken."""
        for key in self._keys:
            self._bus.unsubscribe(key, self._hear)
        self._keys.clear()
        self.reason = self.reason or reason
        self.ended.set()
        self._news.set()

    async def next(self) -> Message:
        """The next message; raises `Ended` when there will be none."""
        while not self._backlog:
            if self.ended.is_set():
                raise Ended(self.reason)
            self._news.clear()
            await self._news.wait()
        message = self._backlog.popleft()
        self._bytes -= len(message.body)
        return message

    def _hear(self, message: Message) -> None:
        if threading.get_ident() == self._thread:
            self._take(message)
        else:
            self._loop.call_soon_threadsafe(self._take, message)

    def _take(self, message: Message) -> None:
        if self.ended.is_set():
            return
        self._bytes += len(message.body)
        if len(self._backlog) >= MAX_BACKLOG or self._bytes > MAX_BACKLOG_BYTES:
            # A gap would go unnoticed, so it hears nothing more at all.
            self._backlog.clear()
            self._bytes = 0
            self.close(TOO_SLOW)
            return
        self._backlog.append(message)
        self._news.set()


class Stream:
    """A text that is published piece by piece. Made by `Hub.stream`."""

    def __init__(self, hub: Hub, stream_id: str, channel: str, topic: str, run_id: str | None) -> None:
        self._hub = hub
        self._id = stream_id
        self._about = (channel, topic, run_id)
        self._bytes = 0

    def write(self, text: str) -> None:
        """Publishes a piece. Raises `MessageTooLargeError` when the stream becomes larger than 1000 KiB."""
        self._bytes += len(text.encode())
        if self._bytes > MAX_STREAM_BYTES:
            raise MessageTooLargeError(f"a stream is at most {MAX_STREAM_BYTES} bytes")
        for start in range(0, len(text), CHUNK):
            self._tell("chunk", encode(text[start : start + CHUNK]), stream_id=self._id)

    def begin(self) -> None:
        self._tell("datastream-start", encode(self._id))

    def end(self, error: str | None = None) -> None:
        """Says that it is complete, or, in the metadata, why it is not."""
        metadata = None if error is None else msgspec.Raw(encode({"error": error}))
        self._tell("datastream-end", encode(self._id), metadata=metadata)

    def _tell(
        self, kind: FrameKind, data: bytes, *, stream_id: str | None = None, metadata: msgspec.Raw | None = None
    ) -> None:
        channel, topic, run_id = self._about
        self._hub.tell(kind, channel, topic, msgspec.Raw(data), run_id=run_id, stream_id=stream_id, metadata=metadata)


class Hub:
    """Where messages are published and subscribed to. `now` in ms; `new_id` makes the ids of streams.

    >>> hub = Hub(now=lambda: 1795331573897, new_id=lambda: "s1")
    >>> hub.publish("orders", "status", {"paid": True})
    """

    def __init__(self, now: Callable[[], int], new_id: Callable[[], str], environment_id: str = ENVIRONMENT_ID) -> None:
        self._now = now
        self._environment_id = environment_id
        self.new_id = new_id
        self._bus = MemoryBus[Message]()
        self._subscriptions: set[Subscription] = set()
        self.outward: Callable[[str], None] = lambda _: None
        """Passes what is said here on to the other nodes, which `hear` it."""

    def hear(self, said: str) -> None:
        """Something that was said on another node."""
        key, body, raw = msgspec.json.decode(said, type=tuple[str, bytes, bool])
        self._bus.publish(key, Message(body, raw))

    def _say(self, key: str, body: bytes, *, raw: bool = False) -> None:
        self._bus.publish(key, Message(body, raw))
        self.outward(msgspec.json.encode((key, body, raw)).decode())

    def publish(self, channel: str, topic: str, data: object, run_id: str | None = None) -> None:
        """Tells the subscribers of a topic; `data` is what a step may return.

        Raises `MessageTooLargeError` beyond 512 KiB of JSON, `UnserializableError` for what is no JSON.
        """
        encoded = values.encode(data, where=f"a message to {channel!r}, {topic!r}")
        self.publish_json(channel, topic, msgspec.Raw(encoded), run_id=run_id)

    def publish_json(
        self,
        channel: str,
        topic: str,
        data: msgspec.Raw,
        *,
        run_id: str | None = None,
        metadata: msgspec.Raw | None = None,
    ) -> None:
        """The same for JSON on one line."""
        size = len(memoryview(data))
        if size > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(f"the message has {size} bytes, at most {MAX_MESSAGE_BYTES} are allowed")
        self.tell("data", channel, topic, data, run_id=run_id, metadata=metadata)

    @contextmanager
    def stream(self, channel: str, topic: str, run_id: str | None = None) -> Generator[Stream]:
        """Publishes a text piece by piece within a block; an error that ends the block is told with the end."""
        stream = Stream(self, self.new_id(), channel, topic, run_id)
        stream.begin()
        try:
            yield stream
        except BaseException as error:
            stream.end(str(error) or type(error).__name__)
            raise
        stream.end()

    def tell(
        self,
        kind: FrameKind,
        channel: str,
        topic: str,
        data: msgspec.Raw,
        *,
        run_id: str | None = None,
        stream_id: str | None = None,
        metadata: msgspec.Raw | None = None,
    ) -> None:
        """Sends one frame."""
        created_at = rfc3339(self._now())
        frame = Frame(kind, data, created_at, channel, self._environment_id, topic, run_id, stream_id, metadata)
        self._say(_key(channel, topic), frame.encode())

    def tee(self, channel: str, piece: bytes) -> None:
        """Passes a piece of a run's response on as it is; the channel is the run's id."""
        self._say(_key(channel, STREAM_TOPIC), piece, raw=True)

    @contextmanager
    def subscribed(self, topics: Iterable[Topic]) -> Generator[Subscription]:
        """Hears topics for the length of a block. Raises `ValueError` for too many."""
        subscription = Subscription(self._bus)
        self._subscriptions.add(subscription)
        try:
            subscription.add(topics)
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close("over")

    def hang_up(self, reason: str) -> None:
        """Ends all subscriptions; new ones may come."""
        for subscription in tuple(self._subscriptions):
            subscription.close(reason)


def _key(channel: str, topic: str) -> str:
    # With its length the channel cannot run into the topic, whatever characters they are made of.
    return f"{len(channel)}:{channel}:{topic}"


def reply_frame(kind: FrameKind, data: Json) -> bytes:
    """The answer to what a subscriber asked for."""
    return Frame(kind, msgspec.Raw(encode(data))).encode()
