"""Streams that outlive a connection: the chunks of a thread, whoever starts its runs, and those of a durable run.

Invariants: `RunReader` tells no chunk twice, for it comes back by the id of the last one; `ThreadSubscription` comes
back, too, and hears the run that goes on then from its start.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Self

from perdure.client.agents.chunks import AgentChunk, Finish, read_chunk
from perdure.client.agents.connection import Connection
from perdure.client.agents.rounds import Round
from perdure.client.agents.tools import ClientTool
from perdure.client.backoff import Backoff
from perdure.client.errors import ServerUnreachableError, StreamError
from perdure.model.json import Json


class _Following:
    """An open stream: iterate over it, best inside `async with`."""

    _chunks: AsyncGenerator[AgentChunk]

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self._backoff = Backoff(patience, random.random)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AgentChunk:
        return await anext(self._chunks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stops listening."""
        await self._chunks.aclose()

    async def _pause(self, error: Exception) -> None:
        pause = self._backoff.failed(asyncio.get_running_loop().time())
        if pause is None:
            raise error
        await asyncio.sleep(pause)


class RunReader(_Following):
    """The chunks of a durable run. `last_id` is where another reader would go on."""

    def __init__(self, connection: Connection, path: str, after: str, patience: float) -> None:
        super().__init__(connection, patience)
        self._path = path
        self.last_id = after
        self._chunks = self._told()

    async def _told(self) -> AsyncGenerator[AgentChunk]:
        while True:
            frames = self._connection.frames("GET", self._path, after=self.last_id)
            try:
                async for id, raw in frames:
                    self._backoff.succeeded()
                    self.last_id = id or self.last_id
                    yield read_chunk(raw, int(id) if id is not None and id.isdecimal() else None)
                return
            except (StreamError, ServerUnreachableError) as error:
                await self._pause(error)
            finally:
                await frames.aclose()


class ThreadSubscription(_Following):
    """The chunks of every run of a thread. `abort` ends the run that goes on."""

    def __init__(
        self,
        connection: Connection,
        agent: str,
        thread: Mapping[str, Json],
        *,
        tools: Mapping[str, ClientTool],
        options: dict[str, Json],
        patience: float,
    ) -> None:
        super().__init__(connection, patience)
        self._agent = agent
        self._thread = dict(thread)
        self._tools = tools
        self._options = options
        self._rounds: dict[str | None, Round] = {}
        self._chunks = self._told()

    async def abort(self) -> bool:
        """Ends the run of the thread that goes on; whether there was one."""
        told = await self._connection.ask("POST", f"{self._agent}/threads/abort", self._thread)
        return bool(told["aborted"])

    async def _told(self) -> AsyncGenerator[AgentChunk]:
        while True:
            frames = self._connection.frames("POST", f"{self._agent}/threads/subscribe", self._thread)
            error: Exception = StreamError("the subscription ended")
            try:
                async for _, raw in frames:
                    self._backoff.succeeded()
                    chunk = read_chunk(raw)
                    yield chunk
                    for result in await self._carry_out(chunk):
                        yield result
            except (StreamError, ServerUnreachableError) as lost:
                error = lost
            finally:
                await frames.aclose()
            await self._pause(error)

    async def _carry_out(self, chunk: AgentChunk) -> list[AgentChunk]:
        """Carries out the caller's tools of a run that has ended with calls of them, and sends what came of them."""
        if not self._tools:
            return []
        this = self._rounds.setdefault(chunk.run_id, Round(self._tools))
        this.take(chunk)
        if not isinstance(chunk, Finish):
            return []
        del self._rounds[chunk.run_id]
        if not this.is_ours:
            return []
        first = this.pending[0].tool_call_id
        told = await this.carried_out()
        body = {**self._thread, "toolCallId": first, "approved": True, "messages": [this.exchange()]}
        await self._connection.ask(
            "POST", f"{self._agent}/send-tool-approval", {**body, "streamOptions": self._options}
        )
        return told
