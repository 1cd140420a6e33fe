"""One connection of a worker, as the pool knows it: who it is, what it serves, how busy it is.

A connection takes calls while it is READY: not before the worker said so, and not once it drains. What was sent to
it and is not answered yet are its `requests`; they are what its limit counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Protocol

import msgspec

from perdure.model.errors import PerdureError
from perdure.runner.clock import Timer
from perdure.wire.connect import WorkerConnect

POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
GOING_AWAY = 1001


class ConnectionRefused(PerdureError):
    """A connection that cannot go on. `code` is a machine word, `status` the one of the WebSocket's close frame."""

    def __init__(self, code: str, message: str, status: int = POLICY_VIOLATION) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Link(Protocol):
    """The WebSocket of a connection. Nothing here waits, and on a link that is gone nothing happens."""

    def send(self, data: bytes) -> None:
        """Sends a frame after those before it."""
        ...

    def close(self, status: int, reason: str) -> None:
        """Closes it after what was sent."""
        ...


class ConnectionState(IntEnum):
    CONNECTED = 0
    READY = 1
    DRAINING = 2
    DISCONNECTING = 3
    DISCONNECTED = 4


class Group(msgspec.Struct, frozen=True):
    """An app in one version: workers that offer the same functions in the same way are of one group."""

    hash: str
    app_id: str
    app_version: str | None
    functions: tuple[str, ...]
    sync_id: str


class Worker:
    """A connection. Times are in ms; `limit` is how many calls it takes at once, None for any number."""

    def __init__(self, introduced: WorkerConnect, groups: Iterable[Group], link: Link, now: int) -> None:
        self.id = introduced.connection_id
        self.instance_id = introduced.instance_id
        self.introduced = introduced
        self.groups = tuple(groups)
        self.link = link
        self.state = ConnectionState.CONNECTED
        self.connected_at = now
        self.heard_at = now
        self.used_at = 0
        """The turn in which it got its last call: of workers that are equally busy, the one that waited longest."""
        self.silent = False
        """It left a call unacknowledged, and has not been heard of since."""
        self.requests: set[str] = set()
        self.timer: Timer | None = None
        """Looks after the connection; the pool's."""
        limit = introduced.max_worker_concurrency
        self.limit = limit if limit and limit > 0 else None
        self._apps = {function: group.app_id for group in self.groups for function in group.functions}

    def app_of(self, function_id: str) -> str:
        """The app that has a function which this worker serves."""
        return self._apps[function_id]

    def serves(self, function_id: str) -> bool:
        return function_id in self._apps

    @property
    def functions(self) -> Iterable[str]:
        return self._apps.keys()

    @property
    def has_room(self) -> bool:
        """Whether it takes a call now."""
        full = self.limit is not None and len(self.requests) >= self.limit
        return self.state == ConnectionState.READY and not self.silent and not full

    def follows(self, before: Worker) -> bool:
        """Whether this is a later connection of the worker that had the one before."""
        gone = before.state >= ConnectionState.DRAINING
        return gone and self is not before and self.instance_id == before.instance_id

    def __repr__(self) -> str:
        return f"Worker({self.id} of {self.instance_id!r}, {self.state.name}, {len(self.requests)} requests)"
