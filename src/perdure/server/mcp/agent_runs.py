"""Runs of agents, as tools ask for them: by the agents API, in this process or over HTTP.

A durable run is also a task: its id is `agent:<agent>:<run>`, and where it stands is read from what is recorded, so
any process can tell.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from perdure.model.json import Json, decode
from perdure.server.mcp.asking import Ask, parsed, read, told
from perdure.server.mcp.offering import Answer, NoResourceError, NoTaskError, Task, ToolError

PREFIX = "agent:"
_PAUSE = 0.02
_FLAT = frozenset({"string", "number", "integer", "boolean"})
_ANSWER: Json = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
_APPROVAL: Json = {
    "type": "object",
    "properties": {
        "approve": {"type": "boolean", "title": "Approve", "default": False},
        "reason": {"type": "string", "title": "Why not"},
    },
    "required": ["approve"],
}


class Waiting(msgspec.Struct, frozen=True):
    """A tool call that a run waits with: for an `approval`, or for an answer."""

    call_id: str
    tool: str
    approval: bool
    args: Json = None
    payload: Json = None

    def told(self) -> dict[str, Json]:
        """It as tools tell it."""
        shown: dict[str, Json] = {
            "toolCallId": self.call_id,
            "toolName": self.tool,
            "requiresApproval": self.approval,
        }
        return {**shown, "args": self.args} if self.approval else {**shown, "suspendPayload": self.payload}

    def question(self) -> dict[str, Json]:
        """It as a question to a person."""
        if self.approval:
            shown = msgspec.json.encode(self.args).decode()
            message, form = f"The agent wants to call {self.tool} with {shown}. Approve it?", _APPROVAL
        else:
            payload = self.payload if isinstance(self.payload, dict) else {}
            schema = payload.get("resumeSchema")
            form = schema if _is_form(schema) else _ANSWER
            asked = payload.get("suspendPayload", payload)
            said = asked.get("message") or asked.get("question") if isinstance(asked, dict) else None
            message = str(said or f"The tool {self.tool} asks: {msgspec.json.encode(asked).decode()}")
        return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": form}}


def _is_form(schema: Json) -> bool:
    """Whether a person can fill it in: one level of plain values."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return isinstance(properties, dict) and all(
        isinstance(each, dict) and each.get("type") in _FLAT for each in properties.values()
    )


class AgentRuns:
    """Begins runs, and decides what they wait for. Methods raise `ToolError`, which says what the API said.

    `new_id` makes ids of runs that nobody can guess.
    """

    def __init__(self, ask: Ask, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        self._ask = ask
        self._new_id = new_id
        self._begun: set[asyncio.Task[dict[str, Json]]] = set()

    async def agents(self) -> list[Json]:
        """The agents: id, name, description and the names of tools."""
        found = await read(self._ask, "/api/agents", {"partial": True})
        return [
            {
                "id": id,
                "name": each.get("name") or id,
                "description": each.get("description") or "",
                "tools": sorted(each.get("tools") or {}),
            }
            for id, each in found.items()
        ]

    async def generate(self, agent: str, given: Mapping[str, Json], run_id: str | None = None) -> dict[str, Json]:
        """What a new run comes to."""
        body: dict[str, Json] = {"messages": given["message"]}
        if given.get("threadId"):
            if not given.get("resourceId"):
                raise ToolError("threadId needs resourceId: whose conversation it is")
            body["memory"] = {"thread": given["threadId"], "resource": given["resourceId"]}
        if run_id is not None:
            body["runId"] = run_id
        return _result(await self._post(agent, "generate", body))

    async def begin(self, agent: str, given: Mapping[str, Json]) -> str:
        """Begins a durable run, and gives the id of its task once it is recorded."""
        run_id = self._new_id()
        running = asyncio.ensure_future(self.generate(agent, given, run_id))
        self._begun.add(running)
        running.add_done_callback(self._over)
        while not running.done():
            if await self._standing(agent, run_id) is not None:
                return f"{PREFIX}{agent}:{run_id}"
            await asyncio.sleep(_PAUSE)
        running.result()
        return f"{PREFIX}{agent}:{run_id}"

    def _over(self, running: asyncio.Task[dict[str, Json]]) -> None:
        self._begun.discard(running)
        if not running.cancelled():
            # What became of a run is read where it is recorded.
            running.exception()

    async def suspended(self, agent: str) -> list[dict[str, Json]]:
        """The runs of an agent that wait for a person."""
        path = f"/api/agents/{quote(agent, safe='')}/suspended-runs"
        try:
            found = await read(self._ask, path, {"perPage": 1000})
        except NoResourceError as error:
            raise ToolError(f"There is no agent {agent}; list_agents shows them.") from error
        return [{"agentId": agent, **run} for run in found["runs"]]

    async def waiting(self, agent: str, run_id: str) -> list[Waiting]:
        """The tool calls that a run waits with."""
        calls = [call for run in await self.suspended(agent) if run["runId"] == run_id for call in run["toolCalls"]]
        return [
            Waiting(
                call["toolCallId"],
                call["toolName"],
                bool(call.get("requiresApproval")),
                call.get("args"),
                call.get("suspendPayload"),
            )
            for call in calls
        ]

    async def decide(self, agent: str, run_id: str, waiting: Waiting, response: Mapping[str, Json]) -> dict[str, Json]:
        """What a run comes to with an answer, as forms give it; nothing is decided if it was dismissed."""
        action, content = response.get("action"), response.get("content")
        content = content if isinstance(content, dict) else {}
        body: dict[str, Json] = {"runId": run_id, "toolCallId": waiting.call_id}
        if action not in ("accept", "decline"):
            return {}
        if waiting.approval or action == "decline":
            approved = action == "accept" and content.get("approve") is True
            if not approved and content.get("reason"):
                body["reason"] = str(content["reason"])
            return _result(await self._post(agent, f"{'approve' if approved else 'decline'}-tool-call-generate", body))
        path = f"/api/agents/{quote(agent, safe='')}/resume-stream"
        status, answer = await self._ask("POST", path, {}, {**body, "resumeData": content})
        if status >= 400:
            raise ToolError(told(status, answer))
        return _streamed(run_id, answer)

    async def _post(self, agent: str, path: str, body: Json) -> Json:
        status, answer = await self._ask("POST", f"/api/agents/{quote(agent, safe='')}/{path}", {}, body)
        if status >= 400:
            raise ToolError(told(status, answer))
        return parsed(answer)

    async def _standing(self, agent: str, run_id: str) -> Json:
        try:
            return await read(self._ask, f"/api/agents/{quote(agent, safe='')}/runs/{run_id}")
        except NoResourceError:
            return None

    # As tasks.

    async def get(self, task_id: str) -> Task:
        """See `Tasks.get`."""
        agent, run_id = _parse(task_id)
        run = await self._standing(agent, run_id)
        if run is None:
            raise NoTaskError(task_id)
        times = {"created": run["createdAt"], "updated": run["updatedAt"]}
        if run["status"] == "suspended":
            questions = {each.call_id: each.question() for each in await self.waiting(agent, run_id)}
            return Task(id=task_id, status="input_required" if questions else "working", inputs=questions, **times)
        if run["status"] in ("running", "queued") or not run.get("engineRunId"):
            return Task(id=task_id, status="working", message=run["status"], **times)
        done = (await read(self._ask, f"/v2/runs/{run['engineRunId']}", {"includeOutput": True}))["data"]
        if done["status"] == "COMPLETED":
            found = {"text": "", **done["output"]}
            return Task(id=task_id, status="completed", answer=Answer(found, found["text"] or None), **times)
        if done["status"] == "CANCELLED":
            return Task(id=task_id, status="cancelled", **times)
        if done["status"] == "FAILED":
            output = done.get("output")
            why = output.get("message") if isinstance(output, dict) else output
            return Task(
                id=task_id, status="completed", answer=Answer(text=f"The agent failed: {why}", failed=True), **times
            )
        return Task(id=task_id, status="working", message=run["status"], **times)

    async def update(self, task_id: str, responses: Mapping[str, Json]) -> None:
        """See `Tasks.update`."""
        agent, run_id = _parse(task_id)
        for waiting in await self.waiting(agent, run_id):
            response = responses.get(waiting.call_id)
            if isinstance(response, dict):
                running = asyncio.ensure_future(self.decide(agent, run_id, waiting, response))
                self._begun.add(running)
                running.add_done_callback(self._over)
                await self._decided(agent, run_id, waiting.call_id, running)

    async def _decided(self, agent: str, run_id: str, call_id: str, running: asyncio.Task[dict[str, Json]]) -> None:
        """Waits until a decision is recorded; what comes of it takes its time."""
        while not running.done() and any(each.call_id == call_id for each in await self.waiting(agent, run_id)):
            await asyncio.sleep(_PAUSE)
        if running.done():
            running.result()

    async def cancel(self, task_id: str) -> None:
        """See `Tasks.cancel`."""
        agent, run_id = _parse(task_id)
        if await self._standing(agent, run_id) is None:
            raise NoTaskError(task_id)
        await self._post(agent, f"runs/{run_id}/abort", {})


def _parse(task_id: str) -> tuple[str, str]:
    agent, _, run_id = task_id.removeprefix(PREFIX).rpartition(":")
    if not task_id.startswith(PREFIX) or not agent or not run_id:
        raise NoTaskError(task_id)
    return agent, run_id


def _result(found: Json) -> dict[str, Json]:
    """What tools give of a result of the API."""
    shown = {"runId": found["runId"], "finishReason": found["finishReason"], "text": found.get("text") or ""}
    shown |= {name: found[name] for name in ("usage", "object") if found.get(name)}
    if found.get("error"):
        raise ToolError(f"The agent failed: {found['error']}")
    return shown


def _streamed(run_id: str, stream: bytes) -> dict[str, Json]:
    """What tools give of a stream of the API."""
    shown: dict[str, Json] = {"runId": run_id, "finishReason": "suspended", "text": ""}
    for line in stream.decode().splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = decode(line[6:])
        payload = chunk.get("payload") or {}
        if chunk["type"] == "step-start":
            shown["text"] = ""
        elif chunk["type"] == "text-delta":
            shown["text"] += payload.get("text", "")
        elif chunk["type"] == "finish":
            reason = payload.get("stepResult", {}).get("reason") or payload.get("finishReason")
            shown["finishReason"] = reason or "stop"
        elif chunk["type"] == "error":
            raise ToolError(f"The agent failed: {payload.get('error', payload)}")
    return shown
