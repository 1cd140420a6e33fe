"""The port between user code and what drives it.

An execution (one life of a handler's coroutine) reports operations to a `Host` and awaits their outcome; it
knows nothing of stores, queues or wires. In process the host is the runner's resident run; behind an HTTP
endpoint it is the request. A `Sender` takes events from outside of runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from perdure.model.json import Json, decode
from perdure.model.ops import Memo, Op, OpenStep, Retry

T = TypeVar("T")


class Snapshot(msgspec.Struct):
    """What is recorded of a run when an execution begins: decided steps, and open ones, by step hash."""

    memos: dict[str, Memo]
    open: dict[str, OpenStep]


class FetchRequest(msgspec.Struct):
    """An HTTP request of `step.fetch` or `step.ai.infer`. `timeout` is in seconds."""

    url: str
    method: str
    headers: dict[str, str]
    body: bytes | None
    timeout: float
    redirects: bool = True


class FetchResponse(msgspec.Struct):
    """Its answer; every HTTP status is an answer."""

    url: str
    status_code: int
    headers: dict[str, str]
    body: str

    def json(self) -> Json:
        """The body as JSON. Raises `InvalidJsonError`."""
        return decode(self.body)


class Host(Protocol):
    """Drives one execution."""

    def now(self) -> int:
        """The time in ms since the epoch."""
        ...

    def enter_step(self, op: Op) -> Awaitable[None] | None:
        """A step's callable starts running in this process, once what is given back, if anything, was awaited.

        `op` is what will be reported of it; its outcome and times are not known yet.
        """
        ...

    def leave_step(self) -> None:
        """It ended, was cancelled or failed; its outcome has not been reported yet."""
        ...

    async def report(self, op: Op) -> Memo | Retry:
        """Makes the operation durable and returns its outcome, for a wait as soon as it is known.

        A StepError comes back as `Retry` once the backoff has passed, or as a failed memo when no attempt is
        left. An operation already recorded is joined, not repeated.
        """
        ...

    async def rejoin(self, step_id: str) -> Memo | Retry:
        """Awaits a step that the snapshot shows as open and waiting."""
        ...

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Runs a plain function in a worker thread, with the caller's context variables."""
        ...

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """Performs an HTTP request; raises `OSError` when there is no answer."""
        ...


class StreamSink(Protocol):
    """Takes what an execution says while it goes on, `step_id` being the hash of the step that says it."""

    def push(self, step_id: str | None, chunk: bytes) -> None:
        """Takes a chunk (JSON); from any thread. Raises `StreamTooLargeError`."""
        ...

    @property
    def full(self) -> bool:
        """Whether a source should wait until it is `drained`."""
        ...

    async def drained(self) -> None:
        """Waits until sources may go on."""
        ...

    async def finish(self, step_id: str) -> None:
        """A step's callable has returned: what it said must be kept no later than its result."""
        ...

    def commit(self, step_id: str) -> None:
        """The step is recorded."""
        ...

    def rollback(self, step_id: str) -> None:
        """An attempt of the step failed, or was cut off."""
        ...


class Sender(Protocol):
    """Takes events from user code outside of runs."""

    async def send(self, events: list[dict[str, Json]]) -> list[str]:
        """Accepts events durably; returns their internal ids. Raises `EventError`."""
        ...


class RemoteSender(Sender, Protocol):
    """Takes events to a server; in any event loop."""

    def loop(self) -> asyncio.AbstractEventLoop:
        """A running event loop in which threads that have none may send."""
        ...
