"""Handlers of threads as they go on: what is sent to them, who follows them, and how their runs are ended or answered.

A thread is followed without an end: its runs, whoever began them, each with its own chunks in order. What is sent goes
to the run that is active, or begins one. A thread of somebody else is `403`, whatever is asked of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.chunks import Chunk
from perdure.agents.errors import AccessDeniedError, GoneError, RunNotFoundError
from perdure.agents.signals import Accepted, Subscription
from perdure.agents.storage import AgentRun
from perdure.model.json import Json
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.followed import Followed
from perdure.server.agents.registry import Agents, ServedAgent
from perdure.server.agents.requests import body_of, messages_of, options_of, text
from perdure.server.agents.streams import SILENCE, EventStream, frame
from perdure.server.agents.thread_runs import ThreadRuns, plain
from perdure.server.envelope import reply

CONNECTED: Final = b": connected\n\n"
_FOREIGN: Final = "Access denied: thread belongs to a different resource"


class SignalHandlers:
    """Handlers over the agents of a node. `silence`: after how many seconds a stream says a comment."""

    def __init__(self, agents: Agents, silence: float = SILENCE) -> None:
        self._agents = agents
        self._silence = silence

    async def send(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/signals`."""
        served, threads, body = await self._asked(request)
        if not isinstance(body.get("signal"), dict):
            raise InvalidRequest("signal", "Invalid input: expected object")
        where = _where(body)
        sent = await threads.signals.send_signal(served.id, body["signal"], **where, **_branches(body, where))
        return reply(sent.to_json())

    async def message(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/send-message`."""
        served, threads, body = await self._asked(request)
        where = _where(body)
        branches = _branches(body, where)
        sent = await threads.signals.send_message(served.id, _message(body), **where, **branches)
        return reply(sent.to_json())

    async def queue(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/queue-message`: a run of its own, after the one that is active."""
        served, threads, body = await self._asked(request)
        where = {"thread_id": text(body, "threadId"), "resource_id": text(body, "resourceId")}
        idle = _branches(body, where).get("if_idle")
        sent: Accepted = await threads.signals.queue_message(served.id, _message(body), **where, if_idle=idle)
        return reply(sent.to_json())

    async def subscribe(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/threads/subscribe`: all that is said in a thread, from now on."""
        _, threads, body = await self._asked(request)
        thread_id, resource_id = text(body, "threadId"), _optional(body, "resourceId")
        await _check_owner(threads, thread_id, resource_id)
        heard = threads.signals.subscribe(thread_id, resource_id)

        async def close(_: bool) -> None:
            await heard.close()

        return EventStream(self._heard(heard, thread_id, resource_id), close, self._silence)

    async def abort(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/threads/abort`."""
        _, threads, body = await self._asked(request)
        thread_id, resource_id = text(body, "threadId"), _optional(body, "resourceId")
        await _check_owner(threads, thread_id, resource_id)
        expected = _optional(body, "expectedRunId")
        return reply({"aborted": await threads.signals.abort_thread(thread_id, resource_id, expected_run_id=expected)})

    async def answer(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/send-tool-approval`: followers hear how it goes on.

        Where the client brings the results of its own tools, that is another run, in the same thread.
        """
        served, threads, body = await self._asked(request)
        thread_id, resource_id = text(body, "threadId"), text(body, "resourceId")
        call = text(body, "toolCallId")
        await _check_owner(threads, thread_id, resource_id)
        if body.get("messages"):
            run_id = await _begin_again(served, threads, body, thread_id, resource_id)
        else:
            run_id = await _decide(served, threads, body, thread_id, resource_id)
        return reply({"accepted": True, "runId": run_id, "toolCallId": call})

    async def _asked(self, request: Request) -> tuple[ServedAgent, ThreadRuns, dict[str, Json]]:
        served = self._agents.one(request.path_params["agent"])
        if not served.durable:
            plain(served.run)
        return served, self._agents.threads(served), await body_of(request)

    async def _heard(
        self, subscription: Subscription, thread_id: str, resource_id: str | None
    ) -> AsyncGenerator[bytes]:
        yield CONNECTED
        told = Followed(self._agents.find, thread_id, resource_id)
        with self._agents.backend.streams.until_hung_up() as hung_up:
            leaving = asyncio.create_task(hung_up.wait())
            try:
                async with subscription as heard:
                    while (said := await _next(heard, leaving)) is not None:
                        for shown in told.of(said):
                            yield frame(shown)
            finally:
                leaving.cancel()


async def _next(heard: Subscription, leaving: Json) -> Chunk | None:
    """The next chunk; None when `leaving`, a future, is done: the server hangs up."""
    following = asyncio.ensure_future(anext(heard))
    try:
        await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return following.result() if following.done() else None
    finally:
        following.cancel()


def _where(body: dict[str, Json]) -> dict[str, str | None]:
    run_id = _optional(body, "runId")
    if run_id is not None:
        return {"run_id": run_id}
    return {"thread_id": text(body, "threadId"), "resource_id": text(body, "resourceId")}


def _branches(body: dict[str, Json], where: Mapping[str, str | None]) -> dict[str, Json]:
    """What is to be done in either case; the options of a run that begins are checked here."""
    found: dict[str, Json] = {}
    for field, name in (("ifActive", "if_active"), ("ifIdle", "if_idle")):
        given: Json = body.get(field)
        if given is not None and not isinstance(given, dict):
            raise InvalidRequest(field, "Invalid input: expected object")
        if given:
            found[name] = dict(given)
    options = found.get("if_idle", {}).get("streamOptions")
    if options is not None:
        if not isinstance(options, dict):
            raise InvalidRequest("ifIdle.streamOptions", "Invalid input: expected object")
        found["if_idle"]["streamOptions"] = _options(options, where)
    return found


def _options(given: dict[str, Json], where: Mapping[str, str | None]) -> dict[str, Json]:
    memory = given["memory"] if isinstance(given.get("memory"), dict) else {}
    named = {**memory, "thread": where.get("thread_id") or "-", "resource": where.get("resource_id") or "-"}
    options = options_of({key: value for key, value in given.items() if key != "runId"} | {"memory": named})
    if set(memory) <= {"thread", "resource"}:
        del options["memory"]
    return options


def _message(body: dict[str, Json]) -> Json:
    found = body.get("message")
    if not isinstance(found, str | list | dict):
        raise InvalidRequest("message", "Invalid input")
    return found


def _optional(body: dict[str, Json], field: str) -> str | None:
    return text(body, field) if body.get(field) is not None else None


async def _check_owner(threads: ThreadRuns, thread_id: str, resource_id: str | None) -> None:
    """Raises `AccessDeniedError`."""
    if resource_id is None:
        return
    thread = await threads.storage.thread(thread_id)
    if thread is not None and thread.resource_id != resource_id:
        raise AccessDeniedError(_FOREIGN)


async def _begin_again(
    served: ServedAgent, threads: ThreadRuns, body: dict[str, Json], thread_id: str, resource_id: str
) -> str:
    messages = messages_of(body)
    given: Json = body.get("streamOptions") or {}
    if not isinstance(given, dict):
        raise InvalidRequest("streamOptions", "Invalid input: expected object")
    where = {"thread_id": thread_id, "resource_id": resource_id}
    options = _options(given, where)
    options["memory"] = {**options.get("memory", {}), "thread": thread_id, "resource": resource_id}
    if not served.durable:
        return threads.begin_later(plain(served.run), messages, options)
    run: AgentRun = await served.run.begin(await served.run.prepare(messages, **options))
    return run.run_id


async def _decide(
    served: ServedAgent, threads: ThreadRuns, body: dict[str, Json], thread_id: str, resource_id: str
) -> str:
    """Answers the question about a call in a thread; the run that had asked it."""
    call = text(body, "toolCallId")
    if not isinstance(body.get("approved"), bool):
        raise InvalidRequest("approved", "Invalid input: expected boolean")
    runs = [run for run in await threads.storage.unfinished_runs(thread_id, resource_id) if run.agent_id == served.id]
    for run in reversed(runs):
        if call not in await served.asks(run.run_id):
            continue
        try:
            reader = await _answered(served, run.run_id, call, body)
        except GoneError:
            break
        await reader.close()
        return run.run_id
    told = f'Agent "{served.name}" sendToolApproval() found nothing in the thread that waits for tool call "{call}".'
    raise RunNotFoundError(told)


async def _answered(served: ServedAgent, run_id: str, call: str, body: dict[str, Json]) -> Json:
    if body["approved"] and body.get("resumeData") is not None:
        return await served.run.resume_stream(body["resumeData"], run_id=run_id, tool_call_id=call)
    if body["approved"]:
        return await served.run.approve_tool_call(run_id, call)
    reason = _optional(body, "reason") or _reason(body.get("resumeData"))
    return await served.run.decline_tool_call(run_id, call, reason=reason)


def _reason(data: Json) -> str | None:
    found = data.get("reason") if isinstance(data, dict) else None
    return found if isinstance(found, str) else None
