"""Handlers of runs: begun, streamed, answered, looked for, and read once more.

A stream of a plain agent ends where the run waits for a person; a durable agent's goes on, and whoever answers hears
how it goes on, too. When a client leaves, the run of a plain agent is aborted, and a durable one goes on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.agent import Agent, AgentFailedError
from perdure.agents.chunks import Chunk
from perdure.agents.durable import DurableRun
from perdure.agents.durable.listing import SuspendedRun
from perdure.agents.errors import AccessDeniedError, ConflictError, GoneError, RunNotFoundError
from perdure.agents.inputs import read_messages
from perdure.agents.messages import Message
from perdure.agents.results import AgentRun
from perdure.model.json import Json
from perdure.server.agents.callers import check_run
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.frames import Frames
from perdure.server.agents.registry import Agents, ServedAgent, Suspended
from perdure.server.agents.requests import body_of, brings_results, date_of, messages_of, options_of, page_of, text
from perdure.server.agents.results import run_result
from perdure.server.agents.shapes import iso, stored_message
from perdure.server.agents.streams import SILENCE, CutOffError, EventStream, frame
from perdure.server.agents.transcript import Transcript
from perdure.server.bodies import header
from perdure.server.envelope import ApiError, reply

_FOREIGN: Final = "Access denied: thread belongs to a different resource"


class RunHandlers:
    """Handlers over the agents of a node. `silence`: after how many seconds a stream says a comment."""

    def __init__(self, agents: Agents, silence: float = SILENCE) -> None:
        self._agents = agents
        self._silence = silence

    # Beginning.

    async def generate(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/generate`."""
        served = self._served(request)
        body = await body_of(request)
        options = options_of(body)
        messages = messages_of(body)
        served = await self._agents.for_run(served, body, options)
        remembered = await self._remembered(served, options.get("memory"))
        run: AgentRun = await served.run.stream(messages, **options)
        return await self._result(served, run, self._given(run, messages, options), remembered)

    async def stream(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/stream`."""
        served = self._served(request)
        return await self._begun(served, await body_of(request))

    async def stream_until_idle(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/stream-until-idle`: with what comes of the run's background tasks."""
        served = self._served(request)
        body = await body_of(request)
        longest = body.get("maxIdleMs")
        return await self._begun(served, {**body, "untilIdle": True if longest is None else {"maxIdleMs": longest}})

    async def network(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/network`: the agent chooses who carries the task out."""
        served = self._served(request)
        body = await body_of(request)
        if served.memory is None:
            raise ApiError(400, "Memory is required for the agent network. Please configure memory for the agent.")
        return await self._begun(served, body, network=True)

    async def _begun(self, served: ServedAgent, body: dict[str, Json], *, network: bool = False) -> Response:
        return self._streamed(served, *await self.begin(served, body, network=network))

    async def begin(
        self, served: ServedAgent, body: dict[str, Json], *, network: bool = False, keep_open: bool = True
    ) -> tuple[AgentRun, Frames]:
        """Begins a run; `keep_open`: the stream of a durable one goes on after questions."""
        options = options_of(body)
        messages = messages_of(body)
        served = await self._agents.for_run(served, body, options)
        await self._check_thread(served, options.get("memory"))
        if network:
            run: AgentRun = await served.run.network(messages, **options)
        elif served.durable:
            run = await served.run.stream(messages, **options, keep_open=keep_open)
        elif options.get("memory") and isinstance(served.run, Agent):
            # Its thread may be followed, and sent to.
            run = await self._agents.threads(served).begin(served.run, messages, options)
        else:
            run = await served.run.stream(messages, **options)
        # As whoever comes later will be told them: the times of the messages are those of the record.
        given = await served.begun_with(run.run_id) if served.durable else []
        told = _transcript(served, run, given or self._given(run, messages, options))
        return run, Frames(told, durable=served.durable)

    # Answering.

    async def decide(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/{approve|decline}-tool-call`, and with `-generate`."""
        served = self._served(request)
        body = await body_of(request)
        last = request.url.path.rpartition("/")[2]
        # Of a network there is one question at a time.
        run_id = text(body, "runId")
        call = None if last.endswith("-network-tool-call") else text(body, "toolCallId")
        if brings_results(body.get("messages")):
            # After a stream that an answer has begun, a client brings the results of its tools to the same route.
            return await self._begun(served, body)
        approved, whole = last.startswith("approve"), last.endswith("-generate")
        method = "resumeGenerate" if whole else "resumeStream"
        if approved:
            edited = {"args": body["args"]} if isinstance(body.get("args"), dict) else {}
            run = await self.resumed(served, run_id, call, method, served.run.approve_tool_call, (run_id, call), edited)
        else:
            reason = {"reason": text(body, "reason")} if body.get("reason") is not None else {}
            run = await self.resumed(served, run_id, call, method, served.run.decline_tool_call, (run_id, call), reason)
        if whole:
            return await self._result(served, run, await served.begun_with(run.run_id), [])
        return await self._continued(served, run, body)

    async def resume(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/resume-stream`."""
        served = self._served(request)
        body = await body_of(request)
        run_id = text(body, "runId")
        call = text(body, "toolCallId") if body.get("toolCallId") is not None else None
        if "resumeData" not in body:
            raise InvalidRequest("resumeData", "resumeData is required")
        named = {"run_id": run_id, "tool_call_id": call}
        run = await self.resumed(
            served, run_id, call, "resumeStream", served.run.resume_stream, (body["resumeData"],), named
        )
        return await self._continued(served, run, body)

    async def resumed(
        self,
        served: ServedAgent,
        run_id: str,
        call: str | None,
        method: str,
        resume: Json,
        given: tuple[Json, ...],
        named: dict[str, Json],
    ) -> AgentRun:
        """A run that goes on with an answer. Raises `ApiError` where nobody has asked for it."""
        try:
            run: AgentRun = await resume(*given, **named)
        except (RunNotFoundError, GoneError, ConflictError) as error:
            waiting = await served.asks(run_id)
            if waiting and (call is None or call in waiting):
                # There is such a question; what is wrong with the answer, the error says.
                raise
            named_so = f'Agent "{served.name}" {method}()'
            if waiting:
                raise ApiError(
                    error.status, f'{named_so} cannot resume tool call "{call}" because it is not suspended.'
                ) from error
            told = f'{named_so} could not find a suspended run for runId "{run_id}": it is over, or it never waited.'
            raise ApiError(error.status, told) from error
        return run

    async def _continued(self, served: ServedAgent, run: AgentRun, body: dict[str, Json]) -> Response:
        return self._streamed(served, run, await self.continued(served, run, calls_again=bool(body.get("clientTools"))))

    async def continued(self, served: ServedAgent, run: AgentRun, *, calls_again: bool = False) -> Frames:
        """The frames of a run that goes on."""
        told = _transcript(served, run, await served.begun_with(run.run_id))
        return Frames(told, durable=served.durable, calls_again=calls_again, resumed=True)

    async def suspended(self, request: Request) -> Response:
        """`GET /api/agents/{agent}/suspended-runs`."""
        served = self._served(request)
        asked = request.query_params
        page, per_page = page_of(request, 100)
        since, until = date_of(request, "fromDate"), date_of(request, "toDate")
        thread, resource = asked.get("threadId"), asked.get("resourceId")
        if served.durable:
            chosen = {"thread_id": thread, "resource_id": resource, "from_date": since, "to_date": until}
            found = await served.run.list_suspended_runs(**chosen, page=page, per_page=per_page)
            return reply({"runs": [_waiting(run) for run in found.items], "total": found.total})
        runs = [
            run
            for run in reversed(served.suspended.values())
            if thread in (None, run.thread_id) and resource in (None, run.resource_id)
            and (since is None or run.at >= since) and (until is None or run.at <= until)
        ]  # fmt: skip
        shown = [told for run in runs if (told := _plain_waiting(served, run)) is not None]
        return reply({"runs": shown[page * per_page : (page + 1) * per_page], "total": len(shown)})

    # Reading once more.

    async def observe(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/observe`: chunks in envelopes, from the one with the index `offset` on."""
        served = self._durable(request, "observe")
        body = await body_of(request)
        run_id, offset = text(body, "runId"), body.get("offset") or 0
        if type(offset) is not int or offset < 0:
            raise InvalidRequest("offset", "must be a whole number, at least 0")
        run: DurableRun = await served.run.observe(run_id, offset=max(offset - 1, 0), keep_open=True)
        return EventStream(self._enveloped(served, run), _closing(served, run), self._silence)

    async def recover(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/recover`: the run from its beginning; it needs no help to go on."""
        served = self._durable(request, "recover")
        run: DurableRun = await served.run.recover(text(await body_of(request), "runId"), keep_open=True)
        given = await served.begun_with(run.run_id)
        return self._streamed(served, run, Frames(_transcript(served, run, given), durable=True))

    async def follow(self, request: Request) -> Response:
        """`GET /api/agents/{agent}/runs/{run}/stream`: for browsers, which come back by `Last-Event-ID`."""
        served = self._durable(request, "runs that are read again")
        await check_run(request, request.path_params["run"])
        after = header(request.scope, b"last-event-id").strip() or request.query_params.get("offset") or "0"
        run: DurableRun = await served.run.observe(request.path_params["run"], last_event_id=after, keep_open=True)
        frames = Frames(_transcript(served, run, await served.begun_with(run.run_id)), durable=True)
        return EventStream(self._framed(served, run, frames, ids=True), _closing(served, run), self._silence)

    # What they have in common.

    def _served(self, request: Request) -> ServedAgent:
        return self._agents.one(request.path_params["agent"])

    def _durable(self, request: Request, what: str) -> ServedAgent:
        served = self._served(request)
        if not served.durable:
            raise ApiError(400, f"Agent does not support {what}. Only durable agents (create_durable_agent) do.")
        return served

    def _given(self, run: AgentRun, messages: Json, options: dict[str, Json]) -> list[Message]:
        now = self._agents.backend.clock.now()
        given = read_messages(options.get("context") or [], new_id=lambda place: f"{run.run_id}-c{place}", now=now)
        given += read_messages(messages, new_id=lambda place: f"{run.run_id}-u{place}", now=now)
        for message in given:
            message.thread_id, message.resource_id = run.thread_id, run.resource_id
        return given

    async def _check_thread(self, served: ServedAgent, memory: Json) -> None:
        if memory is None or served.memory is None:
            return
        thread = memory["thread"]
        found = await served.memory.storage.thread(thread["id"] if isinstance(thread, dict) else thread)
        if found is not None and found.resource_id != memory["resource"]:
            raise AccessDeniedError(_FOREIGN)

    async def _remembered(self, served: ServedAgent, memory: Json) -> list[Json]:
        """The messages that a run begins with. Raises `AccessDeniedError` for a thread of somebody else."""
        await self._check_thread(served, memory)
        bound = served.memory
        scope = None if memory is None or bound is None else bound.scope(memory)
        if bound is None or scope is None or not scope.has_history:
            return []
        latest, _ = await bound.storage.last_messages(scope.thread_id, scope.settings.last_messages)
        return list(map(stored_message, latest))

    async def _result(
        self, served: ServedAgent, run: AgentRun, given: list[Message], remembered: list[Json]
    ) -> Response:
        told = _transcript(served, run, given)
        try:
            async for said in run.full_stream:
                told.take(said)
                self._note(served, run, told, said)
            if told.fold.error is not None:
                raise AgentFailedError(told.fold.error, await run.output.result())
        finally:
            await run.close()
        return reply(run_result(told, remembered))

    def _streamed(self, served: ServedAgent, run: AgentRun, frames: Frames) -> Response:
        return EventStream(self._framed(served, run, frames), _closing(served, run), self._silence)

    async def _framed(
        self, served: ServedAgent, run: AgentRun, frames: Frames, *, ids: bool = False
    ) -> AsyncGenerator[bytes]:
        async for said, told in self.told(served, run, frames):
            yield frame(told, said.index if ids else None)

    async def told(
        self, served: ServedAgent, run: AgentRun, frames: Frames
    ) -> AsyncGenerator[tuple[Chunk, dict[str, Json]]]:
        """What is told of a run, each with the chunk that it tells of. Raises `CutOffError`."""
        async for said in run.full_stream:
            self._note(served, run, frames.told, said)
            for told in frames.of(said):
                yield said, told
        _check_end(frames)

    async def _enveloped(self, served: ServedAgent, run: DurableRun) -> AsyncGenerator[bytes]:
        frames = Frames(_transcript(served, run, await served.begun_with(run.run_id)), durable=True)
        async for said in run.full_stream:
            now = iso(self._agents.backend.clock.now())
            kind = said.type if said.type in ("finish", "error") else "chunk"
            for told in frames.of(said):
                place = {"id": f"{run.run_id}:{said.index}", "createdAt": now, "index": said.index}
                yield frame({"type": kind, "runId": run.run_id, "data": told, **place})
        _check_end(frames)

    def _note(self, served: ServedAgent, run: AgentRun, told: Transcript, said: Chunk) -> None:
        if said.type == "suspended":
            now = self._agents.backend.clock.now()
            served.note(Suspended(run.run_id, run.thread_id, run.resource_id, now, told.given))


def _check_end(frames: Frames) -> None:
    """Raises `CutOffError` where a segment ends without the run's end, or a question."""
    if frames.told.fold.finish_reason is None:
        raise CutOffError("the server stops before the run is over")


def _closing(served: ServedAgent, run: AgentRun) -> Json:
    async def close(reached: bool) -> None:
        if not reached and not served.durable:
            await run.abort()
        await run.close()

    return close


def _transcript(served: ServedAgent, run: AgentRun, given: list[Message]) -> Transcript:
    return Transcript(
        run.run_id,
        thread_id=run.thread_id,
        resource_id=run.resource_id,
        given=given,
        before=run.output.before,
        provider="" if served.declared is None else served.declared.models.provider,
        remembers=served.memory is not None,
    )


def _waiting(run: SuspendedRun) -> dict[str, Json]:
    calls = [
        _asked(each.tool_call_id, each.tool_name, each.args, each.requires_approval, each.payload)
        for each in run.tool_calls
    ]
    return _shown(run.run_id, run.thread_id, run.resource_id, run.suspended_at, calls)


def _plain_waiting(served: ServedAgent, run: Suspended) -> dict[str, Json] | None:
    try:
        questions = served.run.open_questions(run.run_id)
    except RunNotFoundError:
        questions = []
    if not questions:
        served.suspended.pop(run.run_id, None)
        return None
    calls = [
        _asked(each.tool_call_id, each.tool_name, each.args, each.kind == "approval", each.payload)
        for each in questions
    ]
    return _shown(run.run_id, run.thread_id, run.resource_id, run.at, calls)


def _asked(call: str, tool: str, args: Json, approval: bool, payload: Json) -> dict[str, Json]:
    told: dict[str, Json] = {"toolCallId": call, "toolName": tool, "requiresApproval": approval}
    return {**told, "args": args} if approval else {**told, "suspendPayload": payload}


def _shown(
    run_id: str, thread: str | None, resource: str | None, at: int, calls: list[dict[str, Json]]
) -> dict[str, Json]:
    told: dict[str, Json] = {"runId": run_id, "status": "suspended", "threadId": thread, "resourceId": resource}
    told = {key: value for key, value in told.items() if value is not None}
    return {**told, "suspendedAt": iso(at), "toolCalls": calls}
