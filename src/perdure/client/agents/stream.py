"""`AgentStream`: what a run says, chunk by chunk, over as many requests as the caller's own tools make it take.

Where the model calls tools of the caller, the stream ends with the reason `tool-calls`; they are carried out here, what
came of them is told as chunks like any other, and the next request goes on with it. Invariant: nothing is asked before
the stream is iterated, and leaving it closes its connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Self

from perdure.client.agents.chunks import AgentChunk, ApprovalRequest, ErrorChunk, Finish, TextDelta, read_chunk
from perdure.client.agents.connection import Connection
from perdure.client.agents.rounds import Round
from perdure.client.agents.tools import ClientTool
from perdure.model.json import Json


class AgentStream:
    """The chunks of a run: iterate over it, best inside `async with`.

    `run_id`, `text`, `finish_reason`, `usage`, `questions` (open ones) and `error` say what is known so far.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        body: dict[str, Json],
        *,
        tools: Mapping[str, ClientTool] | None = None,
        again: str | None = None,
    ) -> None:
        self.run_id: str | None = None
        self.text = ""
        self.finish_reason: str | None = None
        self.usage: dict[str, Json] = {}
        self.questions: list[ApprovalRequest] = []
        self.error: str | None = None
        self._connection = connection
        self._path = path
        self._again = again or path
        self._body = body
        self._tools = tools or {}
        self._chunks = self._told()

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
        """Closes the connection; the run of a durable agent goes on."""
        await self._chunks.aclose()

    async def until_end(self) -> Self:
        """Reads to the end; what the stream knows then is all there is."""
        async for _ in self:
            pass
        return self

    async def _told(self) -> AsyncGenerator[AgentChunk]:
        path, body = self._path, self._body
        while True:
            this = Round(self._tools)
            frames = self._connection.frames("POST", path, body)
            try:
                async for _, raw in frames:
                    chunk = read_chunk(raw)
                    self._take(chunk)
                    this.take(chunk)
                    yield chunk
            finally:
                await frames.aclose()
            if not this.is_ours:
                return
            for chunk in await this.carried_out():
                yield chunk
            path, body = self._again, this.next_body(body)

    def _take(self, chunk: AgentChunk) -> None:
        self.run_id = self.run_id or chunk.run_id
        match chunk:
            case TextDelta() if chunk.type == "text-delta":
                self.text += chunk.text
            case ApprovalRequest():
                self.questions.append(chunk)
            case ErrorChunk():
                self.error = chunk.message
            case Finish():
                self.finish_reason, self.usage = chunk.reason, chunk.usage
                self.run_id = chunk.run_id or self.run_id
            case _:
                pass
