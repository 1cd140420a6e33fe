"""Chats of the AI SDK: what `useChat` sends, answered as a stream of parts of a message.

The transport of a chat is `POST /chat/{agent}`; `GET /chat/{agent}/{chat}/stream`, which `resume` of `useChat` asks
for, goes on with what is being said. Invariants: a run that a chat has begun bears the chat in its id, so that every
node finds it again; a stream ends where somebody is asked.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.errors import AgentError
from perdure.agents.results import AgentRun
from perdure.model.json import Json
from perdure.server.agents.callers import check_run, may_use, resource_of
from perdure.server.agents.chat_network import NetworkParts
from perdure.server.agents.chat_parts import UiParts
from perdure.server.agents.chat_requests import Answer, Chat, chat_of, format_of, wanted
from perdure.server.agents.errors import told
from perdure.server.agents.frames import Frames
from perdure.server.agents.registry import Agents, ServedAgent
from perdure.server.agents.requests import body_of
from perdure.server.agents.runs import RunHandlers
from perdure.server.agents.streams import SILENCE, EventStream, frame
from perdure.server.envelope import ApiError

HEADER: Final = "x-vercel-ai-ui-message-stream"
_PAGES: Final = 10
"""How many pages of active runs are looked through for that of a chat."""


class ChatHandlers:
    """Handlers over the agents of a node. `silence`: after how many seconds a stream says a comment."""

    def __init__(self, agents: Agents, runs: RunHandlers, silence: float = SILENCE) -> None:
        self._agents = agents
        self._runs = runs
        self._silence = silence

    async def chat(self, request: Request) -> Response:
        """`POST /chat/{agent}`."""
        served = self._agents.one(request.path_params["agent"])
        body = await body_of(request)
        format = format_of(request)
        chat = chat_of(body, format)
        for answer in chat.answers:
            await check_run(request, answer.run_id)
        parts = UiParts(
            format,
            message_id=chat.message_id,
            reasoning=wanted(request, body, "sendReasoning"),
            sources=wanted(request, body, "sendSources"),
            answered=[answer.call for answer in chat.answers if answer.call is not None],
        )
        if chat.answers:
            return await self._goes_on(served, chat, parts)
        run, frames = await self._runs.begin(served, await self._asked(request, served, body, chat), keep_open=False)
        return self._streamed(served, _Runs(run), self._said(served, run, frames, parts))

    async def network(self, request: Request) -> Response:
        """`POST /network/{agent}`: the same, for whom the agent chooses."""
        served = self._agents.one(request.path_params["agent"])
        body = await body_of(request)
        chat = chat_of(body, format_of(request))
        for answer in chat.answers:
            await check_run(request, answer.run_id)
        if served.memory is None:
            raise ApiError(400, "Memory is required for the agent network. Please configure memory for the agent.")
        if chat.answers:
            run = await self._resumed(served, chat.answers[0])
            frames = await self._runs.continued(served, run)
        else:
            asked = await self._asked(request, served, _with_memory(body, chat), chat)
            run, frames = await self._runs.begin(served, asked, network=True)
        return self._streamed(served, _Runs(run), self._network(served, run, frames, NetworkParts()))

    async def again(self, request: Request) -> Response:
        """`GET /chat/{agent}/{chat}/stream`, `GET /chat/{chat}/stream`: what is being said; 204 where nothing is."""
        chat, named = request.path_params["chat"], request.path_params.get("agent")
        format = format_of(request)
        for served in [self._agents.one(named)] if named is not None else self._agents.all():
            if not may_use(request.scope, served.app):
                continue
            run_id = await self._active(served, chat, resource_of(request))
            if run_id is None:
                continue
            run = await served.run.observe(run_id)
            parts = UiParts(
                format,
                reasoning=wanted(request, {}, "sendReasoning"),
                sources=wanted(request, {}, "sendSources"),
            )
            frames = await self._runs.continued(served, run)
            return self._streamed(served, _Runs(run), self._said(served, run, frames, parts))
        return Response(status_code=204)

    # Beginning, and going on.

    async def _asked(self, request: Request, served: ServedAgent, body: dict[str, Json], chat: Chat) -> dict[str, Json]:
        """The body as that of a run."""
        asked = {**body, "messages": await self._unknown(served, body.get("memory"), chat.messages)}
        named = {"agentVersionId": "versionId", "agentVersionStatus": "status"}
        version = {key: request.query_params[name] for key, name in named.items() if name in request.query_params}
        if version:
            asked["requestContext"] = {**(body.get("requestContext") or {}), **version}
        if served.durable and chat.id is not None and not body.get("runId"):
            asked["runId"] = f"{_prefix(chat.id)}{uuid.uuid4()}"
        return asked

    async def _unknown(self, served: ServedAgent, memory: Json, messages: list[Json]) -> list[Json]:
        """The messages that the thread does not have; the last one is what is asked, whether it has that or not.

        A chat sends its whole conversation, and no client shall write over what the thread remembers.
        """
        thread: Json = memory.get("thread") if isinstance(memory, dict) else None
        thread = thread.get("id") if isinstance(thread, dict) else thread
        if not messages or served.memory is None or not isinstance(thread, str):
            return messages
        if await served.memory.storage.thread(thread) is None:
            return messages
        found = await served.memory.storage.messages(thread, page=0, per_page=2 * len(messages) + 20)
        known = {message.id for message in found.items}
        return [each for each in messages[:-1] if each.get("id") not in known] + messages[-1:]

    async def _goes_on(self, served: ServedAgent, chat: Chat, parts: UiParts) -> Response:
        """Answers questions, one after the other, as one message. Raises `ApiError` where nobody asks any of them."""
        runs = _Runs()
        legs = self._legs(served, chat, parts, runs)
        first = await anext(legs)
        return self._streamed(served, runs, _all(first, legs))

    async def _legs(self, served: ServedAgent, chat: Chat, parts: UiParts, runs: _Runs) -> AsyncGenerator[list[Json]]:
        failed: Exception | None = None
        last: list[Json] = []
        for answer in chat.answers:
            try:
                run = await self._resumed(served, answer)
            except (ApiError, AgentError) as error:
                failed = failed or error
                continue
            if not runs.all and not chat.resumed:
                yield [{"type": "start"} | ({} if chat.message_id is None else {"messageId": chat.message_id})]
            runs.all.append(run)
            async for _, said in self._runs.told(served, run, await self._runs.continued(served, run)):
                found = parts.of(said)
                last = [part for part in found if part["type"] == "finish"] or last
                yield [part for part in found if part["type"] != "finish"]
        if failed is not None and not runs.all:
            raise failed
        yield [*parts.end(), *last]

    async def _resumed(self, served: ServedAgent, answer: Answer) -> AgentRun:
        named: dict[str, Json] = {"run_id": answer.run_id, "tool_call_id": answer.call}
        resume = served.run.resume_stream
        return await self._runs.resumed(
            served, answer.run_id, answer.call, "resumeStream", resume, (answer.data,), named
        )

    async def _active(self, served: ServedAgent, chat: str, resource: str | None) -> str | None:
        """The run of a chat that is going on; those of plain agents end with their clients."""
        if not served.durable:
            return None
        for page in range(_PAGES):
            found = await served.run.list_active_runs(page=page)
            for run in found.items:
                mine = resource is None or run.resource_id in (None, resource)
                if run.status == "running" and mine and (run.run_id.startswith(_prefix(chat)) or run.thread_id == chat):
                    return str(run.run_id)
            if not found.has_more:
                break
        return None

    # Telling.

    def _streamed(self, served: ServedAgent, runs: _Runs, told: AsyncIterator[list[Json]]) -> Response:
        async def close(reached: bool) -> None:
            for run in runs.all:
                if not reached and not served.durable:
                    await run.abort()
                await run.close()

        response = EventStream(_framed(told), close, self._silence)
        response.headers[HEADER] = "v1"
        return response

    async def _said(
        self, served: ServedAgent, run: AgentRun, frames: Frames, parts: UiParts
    ) -> AsyncGenerator[list[Json]]:
        async for _, said in self._runs.told(served, run, frames):
            yield list(parts.of(said))
        yield list(parts.end())

    async def _network(
        self, served: ServedAgent, run: AgentRun, frames: Frames, parts: NetworkParts
    ) -> AsyncGenerator[list[Json]]:
        yield list(parts.start())
        async for _, said in self._runs.told(served, run, frames):
            yield list(parts.of(said))
        yield list(parts.end())


class _Runs:
    """The runs that a stream is about."""

    def __init__(self, *runs: AgentRun) -> None:
        self.all = list(runs)


async def _all(first: list[Json], rest: AsyncGenerator[list[Json]]) -> AsyncGenerator[list[Json]]:
    yield first
    try:
        async for each in rest:
            yield each
    except (ApiError, AgentError) as error:
        # The stream has begun: nothing but a part of it can say so.
        yield [{"type": "error", "errorText": told(error)[1]["error"]}]


async def _framed(told: AsyncIterator[list[Json]]) -> AsyncGenerator[bytes]:
    async for parts in told:
        if parts:
            yield b"".join(map(frame, parts))


def _prefix(chat: str) -> str:
    """With what the ids of a chat's runs begin; a client may choose any text as the id of its chat."""
    return f"chat-{hashlib.sha256(chat.encode()).hexdigest()[:24]}-"


def _with_memory(body: dict[str, Json], chat: Chat) -> dict[str, Json]:
    """A network keeps its conversation in a thread; where none is named, the chat has one."""
    if body.get("memory") is not None or chat.id is None:
        return body
    return {**body, "memory": {"thread": chat.id, "resource": body.get("resourceId") or chat.id}}
