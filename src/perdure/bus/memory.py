"""The bus of one process: topics, and the callbacks that listen to them. Nothing is kept for later."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

M = TypeVar("M")


class MemoryBus(Generic[M]):
    """Publishes messages to the callbacks subscribed to a topic, in the order of their subscription.

    >>> bus = MemoryBus[int]()
    >>> heard = []
    >>> with bus.subscribed("runs", heard.append):
    ...     bus.publish("runs", 1)
    >>> bus.publish("runs", 2)
    >>> heard
    [1]
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[M], None]]] = {}

    def subscribe(self, topic: str, listener: Callable[[M], None]) -> None:
        """Listens to a topic until `unsubscribe`."""
        self._listeners.setdefault(topic, []).append(listener)

    def unsubscribe(self, topic: str, listener: Callable[[M], None]) -> None:
        """Stops listening; harmless when the listener is gone already."""
        listeners = self._listeners.get(topic, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._listeners.pop(topic, None)

    @contextmanager
    def subscribed(self, topic: str, listener: Callable[[M], None]) -> Generator[None]:
        """Listens to a topic for the length of a block."""
        self.subscribe(topic, listener)
        try:
            yield
        finally:
            self.unsubscribe(topic, listener)

    def is_wanted(self, topic: str) -> bool:
        """Whether anybody listens to a topic."""
        return topic in self._listeners

    def topics(self) -> list[str]:
        """What anybody listens to."""
        return list(self._listeners)

    def publish(self, topic: str, message: M) -> None:
        for listener in tuple(self._listeners.get(topic, ())):
            listener(message)
