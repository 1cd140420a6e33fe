"""`AgentClient`: one agent of a server, with everything that can be asked of it.

Its methods are those of the agents protocol; where one streams, it returns an `AgentStream` at once, which asks when it
is iterated. Invariant: what belongs to the run is sent with each request, nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias, Unpack
from urllib.parse import quote

from perdure.client.agents.connection import Connection
from perdure.client.agents.following import RunReader, ThreadSubscription
from perdure.client.agents.options import RunOptions, TurnOptions, as_body, as_query
from perdure.client.agents.result import AgentResult, read_result
from perdure.client.agents.rounds import Round, as_list
from perdure.client.agents.stream import AgentStream
from perdure.client.agents.tools import ClientTool, ClientTools, tools_by_name
from perdure.client.agents.versions import Versions
from perdure.model.json import Json

Status: TypeAlias = Literal["draft", "published", "archived"]


class AgentClient(Versions):
    """An agent. `version_id`, or `status`, is the stored version of it that is meant; runs take it, too."""

    def __init__(
        self, connection: Connection, id: str, *, version_id: str | None = None, status: Status | None = None
    ) -> None:
        super().__init__(connection, id)
        self.id = id
        self.version_id = version_id
        self.status = status
        self._path = f"/api/agents/{quote(id, safe='')}"

    # What it is.

    async def details(self, request_context: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """What the agent is: instructions, tools, model, memory, versions."""
        return await self._get("", requestContext=request_context)

    async def tool(self, tool_id: str, request_context: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """One of its tools."""
        return await self._get(f"/tools/{quote(tool_id, safe='')}", requestContext=request_context)

    async def execute_tool(
        self, tool_id: str, data: Json, *, request_context: Mapping[str, Json] | None = None
    ) -> Json:
        """One call of a tool, outside of any run. Nobody is asked first."""
        body = as_body({"data": data, "request_context": request_context})
        return await self._post(f"/tools/{quote(tool_id, safe='')}/execute", body)

    # Runs.

    async def generate(
        self, messages: Json, *, client_tools: ClientTools = (), **options: Unpack[RunOptions]
    ) -> AgentResult:
        """Runs the agent; its result. Calls of `client_tools` are carried out here, and the run goes on."""
        tools = tools_by_name(client_tools)
        body = self._body(messages, tools, options)
        while True:
            result = await self._result("/generate", body)
            this = _round_of(result, tools)
            if not this.is_ours:
                return result
            await this.carried_out()
            body = this.next_body(body)

    def stream(self, messages: Json, *, client_tools: ClientTools = (), **options: Unpack[RunOptions]) -> AgentStream:
        """Runs the agent; its chunks as they come. Calls of `client_tools` are carried out here."""
        return self._run("/stream", messages, client_tools, options)

    def stream_until_idle(
        self, messages: Json, *, client_tools: ClientTools = (), **options: Unpack[RunOptions]
    ) -> AgentStream:
        """The same, with what comes of its background tasks, until none is left."""
        return self._run("/stream-until-idle", messages, client_tools, options)

    def network(self, messages: Json, **options: Unpack[RunOptions]) -> AgentStream:
        """The agent chooses who carries the task out: its agents, functions and tools. It needs a memory."""
        return self._run("/network", messages, (), options)

    # Answers.

    def approve(
        self, run_id: str, tool_call_id: str, *, client_tools: ClientTools = (), **options: Unpack[TurnOptions]
    ) -> AgentStream:
        """Lets a call of a tool happen, and tells how the run goes on."""
        return self._answer("/approve-tool-call", run_id, tool_call_id, {}, client_tools, options)

    def decline(
        self,
        run_id: str,
        tool_call_id: str,
        *,
        reason: str | None = None,
        client_tools: ClientTools = (),
        **options: Unpack[TurnOptions],
    ) -> AgentStream:
        """Does not let a call happen; the model is told the reason."""
        return self._answer("/decline-tool-call", run_id, tool_call_id, {"reason": reason}, client_tools, options)

    async def approve_generate(self, run_id: str, tool_call_id: str) -> AgentResult:
        """Lets a call happen; the result of the run."""
        return await self._result("/approve-tool-call-generate", {"runId": run_id, "toolCallId": tool_call_id})

    async def decline_generate(self, run_id: str, tool_call_id: str, *, reason: str | None = None) -> AgentResult:
        """Does not let a call happen; the result of the run."""
        body = as_body({"runId": run_id, "toolCallId": tool_call_id, "reason": reason})
        return await self._result("/decline-tool-call-generate", body)

    def approve_network(self, run_id: str) -> AgentStream:
        """Lets the call happen about which a network asks."""
        return AgentStream(self._connection, self._path + "/approve-network-tool-call", {"runId": run_id})

    def decline_network(self, run_id: str, *, reason: str | None = None) -> AgentStream:
        """Does not let the call happen about which a network asks."""
        body = as_body({"runId": run_id, "reason": reason})
        return AgentStream(self._connection, self._path + "/decline-network-tool-call", body)

    def resume(
        self,
        resume_data: Json,
        *,
        run_id: str,
        tool_call_id: str | None = None,
        client_tools: ClientTools = (),
        **options: Unpack[TurnOptions],
    ) -> AgentStream:
        """Gives a suspended tool what it waits for, and tells how the run goes on."""
        given = {"resumeData": resume_data}
        return self._answer("/resume-stream", run_id, tool_call_id, given, client_tools, options)

    def resume_until_idle(
        self,
        resume_data: Json,
        *,
        run_id: str,
        tool_call_id: str | None = None,
        client_tools: ClientTools = (),
        **options: Unpack[TurnOptions],
    ) -> AgentStream:
        """The same, with what comes of background tasks."""
        given = {"resumeData": resume_data}
        return self._answer("/resume-stream-until-idle", run_id, tool_call_id, given, client_tools, options)

    async def send_tool_approval(
        self,
        tool_call_id: str,
        *,
        thread_id: str,
        resource_id: str,
        approved: bool = True,
        resume_data: Json = None,
        messages: Json = None,
        options: TurnOptions | None = None,
    ) -> dict[str, Json]:
        """Answers a question of a thread; how the run goes on, its subscribers hear."""
        body = {
            "toolCallId": tool_call_id,
            "threadId": thread_id,
            "resourceId": resource_id,
            "approved": approved,
            "resumeData": resume_data,
            "messages": messages,
            "streamOptions": None if options is None else self._options(options),
        }
        return await self._post("/send-tool-approval", as_body(body))

    async def suspended_runs(
        self,
        *,
        thread_id: str | None = None,
        resource_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        page: int | None = None,
        per_page: int | None = None,
    ) -> dict[str, Json]:
        """The runs that wait for somebody, newest first: `{"runs": [...], "total": n}`."""
        dates = {
            "fromDate": None if since is None else since.isoformat(),
            "toDate": None if until is None else until.isoformat(),
        }
        chosen = {"threadId": thread_id, "resourceId": resource_id, "page": page, "perPage": per_page}
        return await self._get("/suspended-runs", **chosen, **dates)

    # Reading once more.

    def observe(self, run_id: str, *, after: str = "", patience: float = 60.0) -> RunReader:
        """The chunks of a durable run, from its beginning, or from after a place in it.

        It comes back by itself where a connection breaks, for `patience` seconds of failures in a row.
        """
        path = f"{self._path}/runs/{quote(run_id, safe='')}/stream"
        return RunReader(self._connection, path, after, patience)

    def recover(self, run_id: str) -> AgentStream:
        """A durable run from its beginning."""
        return AgentStream(self._connection, self._path + "/recover", {"runId": run_id})

    # Threads.

    async def send_signal(
        self,
        signal: Json,
        *,
        thread_id: str | None = None,
        resource_id: str | None = None,
        run_id: str | None = None,
        if_active: Mapping[str, Json] | None = None,
        if_idle: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Sends a signal, `{"type": ..., "contents": ...}`, to a thread, or to a run: `{"accepted", "runId", ...}`."""
        body = _target(thread_id, resource_id, run_id, if_active, if_idle)
        return await self._post("/signals", {**body, "signal": signal})

    async def send_message(
        self,
        message: Json,
        *,
        thread_id: str,
        resource_id: str,
        if_active: Mapping[str, Json] | None = None,
        if_idle: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Sends what a user says to a thread: into the run that goes on, or it begins one."""
        body = _target(thread_id, resource_id, None, if_active, if_idle)
        return await self._post("/send-message", {**body, "message": message})

    async def queue_message(
        self, message: Json, *, thread_id: str, resource_id: str, if_idle: Mapping[str, Json] | None = None
    ) -> dict[str, Json]:
        """The same, but while a run goes on it waits, and is a run of its own then."""
        body = _target(thread_id, resource_id, None, None, if_idle)
        return await self._post("/queue-message", {**body, "message": message})

    def subscribe_to_thread(
        self,
        thread_id: str,
        resource_id: str | None = None,
        *,
        client_tools: ClientTools = (),
        patience: float = 60.0,
        **options: Unpack[TurnOptions],
    ) -> ThreadSubscription:
        """Hears all runs of a thread, whoever starts them. Calls of `client_tools` are carried out here."""
        tools = tools_by_name(client_tools)
        thread = as_body({"threadId": thread_id, "resourceId": resource_id})
        memory = {"thread": thread_id, "resource": resource_id}
        sent = {**self._options(options, tools), **({"memory": memory} if resource_id is not None else {})}
        return ThreadSubscription(self._connection, self._path, thread, tools=tools, options=sent, patience=patience)

    async def abort_thread(
        self, thread_id: str, *, resource_id: str | None = None, expected_run_id: str | None = None
    ) -> bool:
        """Ends the run of a thread that goes on; whether there was one."""
        body = {"threadId": thread_id, "resourceId": resource_id, "expectedRunId": expected_run_id}
        return bool((await self._post("/threads/abort", as_body(body)))["aborted"])

    # Its model, and copies of it.

    async def update_model(self, model_id: str, provider: str) -> dict[str, Json]:
        """Has the agent answer with another model."""
        return await self._post("/model", {"modelId": model_id, "provider": provider})

    async def reset_model(self) -> dict[str, Json]:
        """Has the agent answer with its own model again."""
        return await self._post("/model/reset", {})

    async def update_model_in_list(self, model_config_id: str, **changes: Json) -> dict[str, Json]:
        """Changes one of several models of the agent: `model`, `maxRetries`, `enabled`."""
        return await self._post(f"/models/{quote(model_config_id, safe='')}", changes)

    async def reorder_models(self, model_config_ids: list[str]) -> dict[str, Json]:
        """Puts the models of the agent into this order."""
        return await self._post("/models/reorder", {"reorderedModelIds": model_config_ids})

    async def clone(
        self,
        *,
        new_id: str | None = None,
        new_name: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Makes a stored agent of this one."""
        return await self._post("/clone", as_body({"newId": new_id, "newName": new_name, "metadata": metadata}))

    # What they have in common.

    async def _get(self, below: str, **query: Json) -> dict[str, Json]:
        version = {"versionId": self.version_id, "status": self.status}
        found: dict[str, Json] = await self._connection.ask(
            "GET", self._path + below, query=as_query(**version, **query)
        )
        return found

    async def _post(self, below: str, body: Json) -> dict[str, Json]:
        found: dict[str, Json] = await self._connection.ask("POST", self._path + below, body)
        return found

    async def _result(self, below: str, body: Json) -> AgentResult:
        return read_result(await self._connection.ask("POST", self._path + below, body, patient=True))

    def _run(self, below: str, messages: Json, client_tools: ClientTools, options: RunOptions) -> AgentStream:
        tools = tools_by_name(client_tools)
        return AgentStream(self._connection, self._path + below, self._body(messages, tools, options), tools=tools)

    def _answer(
        self,
        below: str,
        run_id: str,
        call: str | None,
        given: dict[str, Json],
        client_tools: ClientTools,
        options: TurnOptions,
    ) -> AgentStream:
        tools = tools_by_name(client_tools)
        named = as_body({"runId": run_id, "toolCallId": call, **given})
        body = {**self._options(options, tools), **named}
        again = self._path + "/stream"
        return AgentStream(self._connection, self._path + below, body, tools=tools, again=again)

    def _body(self, messages: Json, tools: Mapping[str, ClientTool], options: RunOptions) -> dict[str, Json]:
        return {
            **self._options(options, tools),
            "messages": messages if isinstance(messages, str) else as_list(messages),
        }

    def _options(self, options: TurnOptions, tools: Mapping[str, ClientTool] | None = None) -> dict[str, Json]:
        body = as_body(options)
        if tools:
            body["clientTools"] = {name: tool.to_json() for name, tool in tools.items()}
        chosen = {"agentVersionId": self.version_id, "agentVersionStatus": self.status}
        version = {key: value for key, value in chosen.items() if value is not None}
        if version:
            body["requestContext"] = {**version, **(body.get("requestContext") or {})}
        return body


def _target(
    thread_id: str | None,
    resource_id: str | None,
    run_id: str | None,
    if_active: Mapping[str, Json] | None,
    if_idle: Mapping[str, Json] | None,
) -> dict[str, Json]:
    named = {"threadId": thread_id, "resourceId": resource_id, "runId": run_id}
    return as_body({**named, "ifActive": if_active, "ifIdle": if_idle})


def _round_of(result: AgentResult, tools: Mapping[str, ClientTool]) -> Round:
    """A result as the round that it ends."""
    this = Round(tools)
    this.take_steps(result.steps, result.finish_reason)
    return this
