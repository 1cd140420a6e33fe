"""How blocking clients wait: one event loop a client, which runs in the caller's thread while the caller waits.

`Waiter` owns the loop and the client in it; `Blocking` is what all that a client gives stands on. Where an event loop
runs already, waiting would stop it, so that is an error that says what to do instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from types import TracebackType
from typing import Self, TypeVar

from perdure.client.agents.chunks import AgentChunk, ApprovalRequest
from perdure.client.agents.following import RunReader, ThreadSubscription
from perdure.client.agents.stream import AgentStream
from perdure.client.client import Client
from perdure.model.json import Json

T = TypeVar("T")


class Waiter:
    """A client and its loop. Use: `with BlockingClient() as client:`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._runner: asyncio.Runner | None = None

    @property
    def _waiter(self) -> Waiter:
        return self

    def __enter__(self) -> Self:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._runner = asyncio.Runner()
            self._runner.run(self._client.__aenter__())
            return self
        raise RuntimeError("an event loop runs in this thread: await what perdure.client has of the same name")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            with runner:
                runner.run(self._client.__aexit__(kind, error, trace))

    def wait(self, work: Coroutine[Json, Json, T]) -> T:
        """What something comes to."""
        if self._runner is None:
            work.close()
            raise RuntimeError("the client is not open: use `with BlockingClient() as client:`")
        return self._runner.run(work)

    def _wait(self, work: Coroutine[Json, Json, T]) -> T:
        return self.wait(work)

    def _each(self, items: AsyncGenerator[T]) -> Iterator[T]:
        return each(self, items)


class Blocking:
    """What a blocking client gives."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter

    def _wait(self, work: Coroutine[Json, Json, T]) -> T:
        return self._waiter.wait(work)

    def _each(self, items: AsyncGenerator[T]) -> Iterator[T]:
        return each(self._waiter, items)


def each(waiter: Waiter, items: AsyncGenerator[T]) -> Iterator[T]:
    """The items of an async generator, which is closed when nobody wants more of them."""

    async def following() -> T:
        return await anext(items)

    try:
        while True:
            try:
                yield waiter.wait(following())
            except StopAsyncIteration:
                return
    finally:
        waiter.wait(items.aclose())


class _BlockingChunks(Blocking):
    """An open stream, blocking: iterate over it, best inside `with`."""

    def __init__(self, it: AgentStream | RunReader | ThreadSubscription, waiter: Waiter) -> None:
        super().__init__(waiter)
        self._chunks = it

    def __iter__(self) -> Iterator[AgentChunk]:
        async def following() -> AgentChunk:
            return await anext(self._chunks)

        while True:
            try:
                yield self._wait(following())
            except StopAsyncIteration:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._wait(self._chunks.aclose())


class BlockingStream(_BlockingChunks):
    """`AgentStream`, blocking."""

    def __init__(self, it: AgentStream, waiter: Waiter) -> None:
        super().__init__(it, waiter)
        self._it = it

    @property
    def run_id(self) -> str | None:
        """The run."""
        return self._it.run_id

    @property
    def text(self) -> str:
        """The text so far."""
        return self._it.text

    @property
    def finish_reason(self) -> str | None:
        """Why the run has ended."""
        return self._it.finish_reason

    @property
    def usage(self) -> dict[str, Json]:
        """The tokens."""
        return self._it.usage

    @property
    def questions(self) -> list[ApprovalRequest]:
        """What was asked."""
        return self._it.questions

    @property
    def error(self) -> str | None:
        """What went wrong."""
        return self._it.error

    def until_end(self) -> Self:
        """Reads to the end."""
        self._wait(self._it.until_end())
        return self


class BlockingReader(_BlockingChunks):
    """`RunReader`, blocking."""

    def __init__(self, it: RunReader, waiter: Waiter) -> None:
        super().__init__(it, waiter)
        self._it = it

    @property
    def last_id(self) -> str:
        """Where another reader would go on."""
        return self._it.last_id


class BlockingSubscription(_BlockingChunks):
    """`ThreadSubscription`, blocking."""

    def __init__(self, it: ThreadSubscription, waiter: Waiter) -> None:
        super().__init__(it, waiter)
        self._it = it

    def abort(self) -> bool:
        """Ends the run of the thread that goes on; whether there was one."""
        return self._wait(self._it.abort())
