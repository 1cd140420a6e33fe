"""`perdure.client` for code that does not await: `from perdure.client.blocking import BlockingClient`.

A client has an event loop of its own, which runs in the caller's thread while the caller waits; nothing goes on between
two calls. This file is made from the async client by tests/support/blocking_client.py: change that one, not this.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Unpack

from perdure.client.agents import (
    AgentClient,
    AgentResult,
    BackgroundTasks,
    MemoryClient,
    StoredAgentClient,
    StoredAgents,
    ThreadClient,
)
from perdure.client.agents.agent import Status
from perdure.client.agents.options import RunOptions, TurnOptions
from perdure.client.agents.stored import RecordStatus
from perdure.client.agents.tools import ClientTools
from perdure.client.client import DEFAULT_URL, Client, EventLike
from perdure.client.shapes import ReplayInfo, RunInfo, RunPage, Span
from perdure.client.waiting import Blocking, BlockingReader, BlockingStream, BlockingSubscription, Waiter
from perdure.model.json import Json
from perdure.model.keys import NO_EVENT_KEY


class BlockingClient(Waiter):
    """`Client`, blocking."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        event_key: str = NO_EVENT_KEY,
        signing_key: str | None = None,
        bearer: str | None = None,
        timeout: float = 30.0,
        environment: str | None = None,
    ) -> None:
        self._it = Client(
            base_url,
            event_key=event_key,
            signing_key=signing_key,
            bearer=bearer,
            timeout=timeout,
            environment=environment,
        )
        super().__init__(self._it)

    def send(self, events: EventLike | Sequence[EventLike]) -> builtins.list[str]:
        """Sends one event or several; returns their internal ids once they are stored. All or none is stored."""
        return self._wait(self._it.send(events))

    def events(
        self, *, limit: int = 20, cursor: str | None = None, name: str | None = None
    ) -> builtins.list[dict[str, Json]]:
        """Received events, newest first; the last one's `internal_id` is the cursor of the next page."""
        return self._wait(self._it.events(limit=limit, cursor=cursor, name=name))

    def runs_of_event(self, event_id: str) -> builtins.list[str]:
        """The ids of the runs that an event started."""
        return self._wait(self._it.runs_of_event(event_id))

    def get_run(self, run_id: str, *, output: bool = True) -> RunInfo:
        """A run, by default with its output."""
        return self._wait(self._it.get_run(run_id, output=output))

    def get_trace(self, run_id: str, *, output: bool = True) -> Span:
        """The trace of a run: its root span."""
        return self._wait(self._it.get_trace(run_id, output=output))

    def list_runs(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        status: str | None = None,
        function: str | None = None,
        app: str | None = None,
    ) -> RunPage:
        """Runs, newest first, at most 100 a page. `function` is a slug or an id within an app."""
        return self._wait(self._it.list_runs(limit=limit, cursor=cursor, status=status, function=function, app=app))

    def signal(self, name: str, data: Json = None) -> str | None:
        """Sends a signal; returns the id of the run that waited for it, None when none did."""
        return self._wait(self._it.signal(name, data))

    def invoke(self, function: str, data: Mapping[str, Json] | None = None, *, id: str | None = None) -> str:
        """Starts one function (a slug or an id within an app); returns the id of its run."""
        return self._wait(self._it.invoke(function, data, id=id))

    def rerun(self, run_id: str, *, from_step: str | None = None, arguments: Sequence[Json] | None = None) -> str:
        """Starts a run once more; returns the id of the new run."""
        return self._wait(self._it.rerun(run_id, from_step=from_step, arguments=arguments))

    def skip_step(self, run_id: str, step: str, value: Json = None) -> str:
        """Gives a step that waits, or is to be tried again later, a value; returns the step's hash."""
        return self._wait(self._it.skip_step(run_id, step, value))

    def wake_step(self, run_id: str, step: str) -> str:
        """Ends what a step waits for: a sleep ends, a wait times out, a retry is attempted now; returns its hash."""
        return self._wait(self._it.wake_step(run_id, step))

    def cancel(self, run_id: str) -> str:
        """Cancels a run; returns its status, which is "Cancelled" unless it had ended before."""
        return self._wait(self._it.cancel(run_id))

    def cancel_many(
        self,
        function: str,
        *,
        if_: str | None = None,
        started_after: str | None = None,
        started_before: str | None = None,
    ) -> int:
        """Cancels the runs of a function that were queued in a span of time and satisfy `if_`; returns how many."""
        return self._wait(
            self._it.cancel_many(function, if_=if_, started_after=started_after, started_before=started_before)
        )

    def cancellations(self, *, limit: int = 20, cursor: str | None = None) -> builtins.list[dict[str, Json]]:
        """Cancellations in bulk, newest first; the last one's `id` is the cursor of the next page."""
        return self._wait(self._it.cancellations(limit=limit, cursor=cursor))

    def replay(
        self,
        function: str,
        *,
        status: Sequence[str] = ("FAILED",),
        queued_from: str | None = None,
        queued_until: str | None = None,
        id: str | None = None,
    ) -> ReplayInfo:
        """Starts the ended runs of a function (a slug or an id within an app) once more."""
        return self._wait(
            self._it.replay(function, status=status, queued_from=queued_from, queued_until=queued_until, id=id)
        )

    def call(self, method: str, path: str, *, query: Mapping[str, Json] | None = None, body: Json = None) -> Json:
        """Any request to the server's API; returns the JSON of the answer, None where it is empty."""
        return self._wait(self._it.call(method, path, query=query, body=body))

    def functions(self) -> builtins.list[dict[str, Json]]:
        """The registered functions."""
        return self._wait(self._it.functions())

    def pause(self, function: str) -> str:
        """Pauses a function (a slug or an id within an app); returns its slug."""
        return self._wait(self._it.pause(function))

    def resume(self, function: str) -> str:
        """Ends the pause of a function; returns its slug."""
        return self._wait(self._it.resume(function))

    def health(self) -> bool:
        """Whether the server says that it is well."""
        return self._wait(self._it.health())

    def doctor(self) -> dict[str, Json]:
        """What the server knows of its own state: counts, and what should not be there."""
        return self._wait(self._it.doctor())

    def agents(
        self, request_context: Mapping[str, Json] | None = None, *, partial: bool = False
    ) -> dict[str, dict[str, Json]]:
        """All agents by id; `partial` without the schemas of their tools."""
        return self._wait(self._it.agents(request_context, partial=partial))

    def agent(self, id: str, *, version_id: str | None = None, status: Status | None = None) -> BlockingAgent:
        """One agent; nothing is asked yet. `version_id`, or `status`: the stored version of it that is meant."""
        return BlockingAgent(self._it.agent(id, version_id=version_id, status=status), self._waiter)

    def model_providers(self) -> dict[str, Json]:
        """The providers of models that the server knows: `{"providers": [...]}`."""
        return self._wait(self._it.model_providers())

    def tools(self) -> dict[str, Json]:
        """All tools by id."""
        return self._wait(self._it.tools())

    def tool(self, tool_id: str) -> dict[str, Json]:
        """One tool."""
        return self._wait(self._it.tool(tool_id))

    def execute_tool(self, tool_id: str, data: Json) -> Json:
        """One call of a tool, outside of any run."""
        return self._wait(self._it.execute_tool(tool_id, data))

    @property
    def memory(self) -> BlockingMemory:
        """What agents remember."""
        return BlockingMemory(self._it.memory, self._waiter)

    @property
    def stored_agents(self) -> BlockingStoredAgents:
        """Agents that are stored."""
        return BlockingStoredAgents(self._it.stored_agents, self._waiter)

    @property
    def background_tasks(self) -> BlockingTasks:
        """Calls of tools that go on beside their runs."""
        return BlockingTasks(self._it.background_tasks, self._waiter)


class BlockingAgent(Blocking):
    """`AgentClient`, blocking."""

    def __init__(self, it: AgentClient, waiter: Waiter) -> None:
        super().__init__(waiter)
        self._it = it

    def details(self, request_context: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """What the agent is: instructions, tools, model, memory, versions."""
        return self._wait(self._it.details(request_context))

    def tool(self, tool_id: str, request_context: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """One of its tools."""
        return self._wait(self._it.tool(tool_id, request_context))

    def execute_tool(self, tool_id: str, data: Json, *, request_context: Mapping[str, Json] | None = None) -> Json:
        """One call of a tool, outside of any run. Nobody is asked first."""
        return self._wait(self._it.execute_tool(tool_id, data, request_context=request_context))

    def generate(self, messages: Json, *, client_tools: ClientTools = (), **options: Unpack[RunOptions]) -> AgentResult:
        """Runs the agent; its result. Calls of `client_tools` are carried out here, and the run goes on."""
        return self._wait(self._it.generate(messages, client_tools=client_tools, **options))

    def stream(
        self, messages: Json, *, client_tools: ClientTools = (), **options: Unpack[RunOptions]
    ) -> BlockingStream:
        """Runs the agent; its chunks as they come. Calls of `client_tools` are carried out here."""
        return BlockingStream(self._it.stream(messages, client_tools=client_tools, **options), self._waiter)

    def stream_until_idle(
        self, messages: Json, *, client_tools: ClientTools = (), **options: Unpack[RunOptions]
    ) -> BlockingStream:
        """The same, with what comes of its background tasks, until none is left."""
        return BlockingStream(self._it.stream_until_idle(messages, client_tools=client_tools, **options), self._waiter)

    def network(self, messages: Json, **options: Unpack[RunOptions]) -> BlockingStream:
        """The agent chooses who carries the task out: its agents, functions and tools. It needs a memory."""
        return BlockingStream(self._it.network(messages, **options), self._waiter)

    def approve(
        self, run_id: str, tool_call_id: str, *, client_tools: ClientTools = (), **options: Unpack[TurnOptions]
    ) -> BlockingStream:
        """Lets a call of a tool happen, and tells how the run goes on."""
        return BlockingStream(
            self._it.approve(run_id, tool_call_id, client_tools=client_tools, **options), self._waiter
        )

    def decline(
        self,
        run_id: str,
        tool_call_id: str,
        *,
        reason: str | None = None,
        client_tools: ClientTools = (),
        **options: Unpack[TurnOptions],
    ) -> BlockingStream:
        """Does not let a call happen; the model is told the reason."""
        return BlockingStream(
            self._it.decline(run_id, tool_call_id, reason=reason, client_tools=client_tools, **options), self._waiter
        )

    def approve_generate(self, run_id: str, tool_call_id: str) -> AgentResult:
        """Lets a call happen; the result of the run."""
        return self._wait(self._it.approve_generate(run_id, tool_call_id))

    def decline_generate(self, run_id: str, tool_call_id: str, *, reason: str | None = None) -> AgentResult:
        """Does not let a call happen; the result of the run."""
        return self._wait(self._it.decline_generate(run_id, tool_call_id, reason=reason))

    def approve_network(self, run_id: str) -> BlockingStream:
        """Lets the call happen about which a network asks."""
        return BlockingStream(self._it.approve_network(run_id), self._waiter)

    def decline_network(self, run_id: str, *, reason: str | None = None) -> BlockingStream:
        """Does not let the call happen about which a network asks."""
        return BlockingStream(self._it.decline_network(run_id, reason=reason), self._waiter)

    def resume(
        self,
        resume_data: Json,
        *,
        run_id: str,
        tool_call_id: str | None = None,
        client_tools: ClientTools = (),
        **options: Unpack[TurnOptions],
    ) -> BlockingStream:
        """Gives a suspended tool what it waits for, and tells how the run goes on."""
        return BlockingStream(
            self._it.resume(
                resume_data, run_id=run_id, tool_call_id=tool_call_id, client_tools=client_tools, **options
            ),
            self._waiter,
        )

    def resume_until_idle(
        self,
        resume_data: Json,
        *,
        run_id: str,
        tool_call_id: str | None = None,
        client_tools: ClientTools = (),
        **options: Unpack[TurnOptions],
    ) -> BlockingStream:
        """The same, with what comes of background tasks."""
        return BlockingStream(
            self._it.resume_until_idle(
                resume_data, run_id=run_id, tool_call_id=tool_call_id, client_tools=client_tools, **options
            ),
            self._waiter,
        )

    def send_tool_approval(
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
        return self._wait(
            self._it.send_tool_approval(
                tool_call_id,
                thread_id=thread_id,
                resource_id=resource_id,
                approved=approved,
                resume_data=resume_data,
                messages=messages,
                options=options,
            )
        )

    def suspended_runs(
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
        return self._wait(
            self._it.suspended_runs(
                thread_id=thread_id, resource_id=resource_id, since=since, until=until, page=page, per_page=per_page
            )
        )

    def observe(self, run_id: str, *, after: str = "", patience: float = 60.0) -> BlockingReader:
        """The chunks of a durable run, from its beginning, or from after a place in it."""
        return BlockingReader(self._it.observe(run_id, after=after, patience=patience), self._waiter)

    def recover(self, run_id: str) -> BlockingStream:
        """A durable run from its beginning."""
        return BlockingStream(self._it.recover(run_id), self._waiter)

    def send_signal(
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
        return self._wait(
            self._it.send_signal(
                signal,
                thread_id=thread_id,
                resource_id=resource_id,
                run_id=run_id,
                if_active=if_active,
                if_idle=if_idle,
            )
        )

    def send_message(
        self,
        message: Json,
        *,
        thread_id: str,
        resource_id: str,
        if_active: Mapping[str, Json] | None = None,
        if_idle: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Sends what a user says to a thread: into the run that goes on, or it begins one."""
        return self._wait(
            self._it.send_message(
                message, thread_id=thread_id, resource_id=resource_id, if_active=if_active, if_idle=if_idle
            )
        )

    def queue_message(
        self, message: Json, *, thread_id: str, resource_id: str, if_idle: Mapping[str, Json] | None = None
    ) -> dict[str, Json]:
        """The same, but while a run goes on it waits, and is a run of its own then."""
        return self._wait(
            self._it.queue_message(message, thread_id=thread_id, resource_id=resource_id, if_idle=if_idle)
        )

    def subscribe_to_thread(
        self,
        thread_id: str,
        resource_id: str | None = None,
        *,
        client_tools: ClientTools = (),
        patience: float = 60.0,
        **options: Unpack[TurnOptions],
    ) -> BlockingSubscription:
        """Hears all runs of a thread, whoever starts them. Calls of `client_tools` are carried out here."""
        return BlockingSubscription(
            self._it.subscribe_to_thread(
                thread_id, resource_id, client_tools=client_tools, patience=patience, **options
            ),
            self._waiter,
        )

    def abort_thread(
        self, thread_id: str, *, resource_id: str | None = None, expected_run_id: str | None = None
    ) -> bool:
        """Ends the run of a thread that goes on; whether there was one."""
        return self._wait(self._it.abort_thread(thread_id, resource_id=resource_id, expected_run_id=expected_run_id))

    def update_model(self, model_id: str, provider: str) -> dict[str, Json]:
        """Has the agent answer with another model."""
        return self._wait(self._it.update_model(model_id, provider))

    def reset_model(self) -> dict[str, Json]:
        """Has the agent answer with its own model again."""
        return self._wait(self._it.reset_model())

    def update_model_in_list(self, model_config_id: str, **changes: Json) -> dict[str, Json]:
        """Changes one of several models of the agent: `model`, `maxRetries`, `enabled`."""
        return self._wait(self._it.update_model_in_list(model_config_id, **changes))

    def reorder_models(self, model_config_ids: builtins.list[str]) -> dict[str, Json]:
        """Puts the models of the agent into this order."""
        return self._wait(self._it.reorder_models(model_config_ids))

    def clone(
        self, *, new_id: str | None = None, new_name: str | None = None, metadata: Mapping[str, Json] | None = None
    ) -> dict[str, Json]:
        """Makes a stored agent of this one."""
        return self._wait(self._it.clone(new_id=new_id, new_name=new_name, metadata=metadata))

    def list_versions(
        self,
        *,
        page: int | None = None,
        per_page: int | None = None,
        order_by: str | None = None,
        direction: str | None = None,
    ) -> dict[str, Json]:
        """A page of versions, the latest first: `{"versions": [...], "total", "page", "perPage", "hasMore"}`."""
        return self._wait(self._it.list_versions(page=page, per_page=per_page, order_by=order_by, direction=direction))

    def create_version(self, *, change_message: str | None = None) -> dict[str, Json]:
        """Makes a version of what is active now."""
        return self._wait(self._it.create_version(change_message=change_message))

    def get_version(self, version_id: str) -> dict[str, Json]:
        """A version."""
        return self._wait(self._it.get_version(version_id))

    def activate_version(self, version_id: str) -> dict[str, Json]:
        """Makes a version the one that runs take."""
        return self._wait(self._it.activate_version(version_id))

    def restore_version(self, version_id: str) -> dict[str, Json]:
        """Makes a new version with what an old one has; it is not active."""
        return self._wait(self._it.restore_version(version_id))

    def delete_version(self, version_id: str) -> dict[str, Json]:
        """Forgets a version that is not active."""
        return self._wait(self._it.delete_version(version_id))

    def compare_versions(self, from_id: str, to_id: str) -> dict[str, Json]:
        """In which fields two versions differ: `{"diffs": [{"field", "previousValue", "currentValue"}], ...}`."""
        return self._wait(self._it.compare_versions(from_id, to_id))


class BlockingMemory(Blocking):
    """`MemoryClient`, blocking."""

    def __init__(self, it: MemoryClient, waiter: Waiter) -> None:
        super().__init__(waiter)
        self._it = it

    def thread(self, id: str, *, agent_id: str | None = None, resource_id: str | None = None) -> BlockingThread:
        """One thread; nothing is asked yet."""
        return BlockingThread(self._it.thread(id, agent_id=agent_id, resource_id=resource_id), self._waiter)

    def threads(
        self,
        *,
        resource_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        page: int | None = None,
        per_page: int | None = None,
        order_by: str | None = None,
        direction: str | None = None,
    ) -> dict[str, Json]:
        """A page of threads, newest first: `{"threads": [...], "total", "page", "perPage", "hasMore"}`."""
        return self._wait(
            self._it.threads(
                resource_id=resource_id,
                agent_id=agent_id,
                metadata=metadata,
                page=page,
                per_page=per_page,
                order_by=order_by,
                direction=direction,
            )
        )

    def create_thread(
        self,
        agent_id: str,
        resource_id: str,
        *,
        thread_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> dict[str, Json]:
        """Makes a thread."""
        return self._wait(
            self._it.create_thread(agent_id, resource_id, thread_id=thread_id, title=title, metadata=metadata)
        )

    def save_messages(self, agent_id: str, messages: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """Keeps messages; each has a `threadId` and a `resourceId`."""
        return self._wait(self._it.save_messages(agent_id, messages))

    def search(self, query: str, *, agent_id: str, resource_id: str, thread_id: str | None = None) -> dict[str, Json]:
        """Messages that fit a text: `{"results": [...], "count", "searchScope", "searchType"}`."""
        return self._wait(self._it.search(query, agent_id=agent_id, resource_id=resource_id, thread_id=thread_id))

    def status(self, agent_id: str) -> dict[str, Json]:
        """Whether an agent remembers."""
        return self._wait(self._it.status(agent_id))

    def config(self, agent_id: str) -> dict[str, Json]:
        """How an agent remembers."""
        return self._wait(self._it.config(agent_id))


class BlockingThread(Blocking):
    """`ThreadClient`, blocking."""

    def __init__(self, it: ThreadClient, waiter: Waiter) -> None:
        super().__init__(waiter)
        self._it = it

    def get(self) -> dict[str, Json]:
        """The thread: `id`, `resourceId`, `title`, `metadata`, `createdAt`, `updatedAt`."""
        return self._wait(self._it.get())

    def update(self, *, title: str | None = None, metadata: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """Changes the title, or the metadata."""
        return self._wait(self._it.update(title=title, metadata=metadata))

    def delete(self) -> dict[str, Json]:
        """Forgets the thread and its messages."""
        return self._wait(self._it.delete())

    def messages(self, *, page: int | None = None, per_page: int | None = None) -> dict[str, Json]:
        """A page of messages; page 0 has the newest, in the order in which they came."""
        return self._wait(self._it.messages(page=page, per_page=per_page))

    def delete_messages(self, message_ids: Sequence[str]) -> dict[str, Json]:
        """Forgets messages."""
        return self._wait(self._it.delete_messages(message_ids))

    def clone(
        self,
        *,
        new_thread_id: str | None = None,
        resource_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        message_limit: int | None = None,
    ) -> dict[str, Json]:
        """Copies the thread: `{"thread", "messageIdMap", "clonedMessages"}`."""
        return self._wait(
            self._it.clone(
                new_thread_id=new_thread_id,
                resource_id=resource_id,
                title=title,
                metadata=metadata,
                message_limit=message_limit,
            )
        )

    def transfer(self, resource_id: str) -> dict[str, Json]:
        """Gives the thread to another resource."""
        return self._wait(self._it.transfer(resource_id))

    def working_memory(self) -> dict[str, Json]:
        """What the agent has noted: `{"workingMemory", "source", "workingMemoryTemplate", "threadExists"}`."""
        return self._wait(self._it.working_memory())

    def set_working_memory(self, notes: str, *, resource_id: str | None = None) -> dict[str, Json]:
        """Writes over what the agent has noted."""
        return self._wait(self._it.set_working_memory(notes, resource_id=resource_id))


class BlockingStoredAgents(Blocking):
    """`StoredAgents`, blocking."""

    def __init__(self, it: StoredAgents, waiter: Waiter) -> None:
        super().__init__(waiter)
        self._it = it

    def agent(self, id: str) -> BlockingStoredAgent:
        """One of them; nothing is asked yet."""
        return BlockingStoredAgent(self._it.agent(id), self._waiter)

    def list(
        self,
        *,
        status: RecordStatus | None = None,
        author_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        page: int | None = None,
        per_page: int | None = None,
        order_by: str | None = None,
        direction: str | None = None,
    ) -> dict[str, Json]:
        """A page of records: `{"agents": [...], "total", "page", "perPage", "hasMore"}`; published ones by default."""
        return self._wait(
            self._it.list(
                status=status,
                author_id=author_id,
                metadata=metadata,
                page=page,
                per_page=per_page,
                order_by=order_by,
                direction=direction,
            )
        )

    def create(self, record: Mapping[str, Json]) -> dict[str, Json]:
        """Stores an agent: `name`, `instructions`, `model`, and more, in the spelling of the protocol."""
        return self._wait(self._it.create(record))


class BlockingStoredAgent(Blocking):
    """`StoredAgentClient`, blocking."""

    def __init__(self, it: StoredAgentClient, waiter: Waiter) -> None:
        super().__init__(waiter)
        self._it = it

    def details(
        self, *, status: RecordStatus | None = None, request_context: Mapping[str, Json] | None = None
    ) -> dict[str, Json]:
        """The record, with the configuration of the active version, or of the latest one (`status="draft"`)."""
        return self._wait(self._it.details(status=status, request_context=request_context))

    def update(self, changes: Mapping[str, Json]) -> dict[str, Json]:
        """Changes fields, in the spelling of the protocol; the new version is active only with `autoPublish`."""
        return self._wait(self._it.update(changes))

    def delete(self) -> dict[str, Json]:
        """Forgets the agent and its versions."""
        return self._wait(self._it.delete())

    def export(self) -> dict[str, Json]:
        """The agent as a document that another server takes."""
        return self._wait(self._it.export())

    def dependents(self) -> dict[str, Json]:
        """Which stored agents name this one."""
        return self._wait(self._it.dependents())

    def list_versions(
        self,
        *,
        page: int | None = None,
        per_page: int | None = None,
        order_by: str | None = None,
        direction: str | None = None,
    ) -> dict[str, Json]:
        """A page of versions, the latest first: `{"versions": [...], "total", "page", "perPage", "hasMore"}`."""
        return self._wait(self._it.list_versions(page=page, per_page=per_page, order_by=order_by, direction=direction))

    def create_version(self, *, change_message: str | None = None) -> dict[str, Json]:
        """Makes a version of what is active now."""
        return self._wait(self._it.create_version(change_message=change_message))

    def get_version(self, version_id: str) -> dict[str, Json]:
        """A version."""
        return self._wait(self._it.get_version(version_id))

    def activate_version(self, version_id: str) -> dict[str, Json]:
        """Makes a version the one that runs take."""
        return self._wait(self._it.activate_version(version_id))

    def restore_version(self, version_id: str) -> dict[str, Json]:
        """Makes a new version with what an old one has; it is not active."""
        return self._wait(self._it.restore_version(version_id))

    def delete_version(self, version_id: str) -> dict[str, Json]:
        """Forgets a version that is not active."""
        return self._wait(self._it.delete_version(version_id))

    def compare_versions(self, from_id: str, to_id: str) -> dict[str, Json]:
        """In which fields two versions differ: `{"diffs": [{"field", "previousValue", "currentValue"}], ...}`."""
        return self._wait(self._it.compare_versions(from_id, to_id))


class BlockingTasks(Blocking):
    """`BackgroundTasks`, blocking."""

    def __init__(self, it: BackgroundTasks, waiter: Waiter) -> None:
        super().__init__(waiter)
        self._it = it

    def list(
        self,
        *,
        agent_id: str | None = None,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        status: str | None = None,
        tool_name: str | None = None,
        page: int | None = None,
        per_page: int | None = None,
    ) -> dict[str, Json]:
        """A page of tasks: `{"tasks": [...], "total": n}`."""
        return self._wait(
            self._it.list(
                agent_id=agent_id,
                run_id=run_id,
                thread_id=thread_id,
                resource_id=resource_id,
                status=status,
                tool_name=tool_name,
                page=page,
                per_page=per_page,
            )
        )

    def get(self, task_id: str) -> dict[str, Json]:
        """A task."""
        return self._wait(self._it.get(task_id))

    def cancel(self, task_id: str) -> bool:
        """Ends a task; whether it was still going on."""
        return self._wait(self._it.cancel(task_id))

    def resume(self, task_id: str, resume_data: Json) -> dict[str, Json]:
        """Gives a suspended task what it waits for."""
        return self._wait(self._it.resume(task_id, resume_data))

    def stream(
        self,
        *,
        agent_id: str | None = None,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        task_id: str | None = None,
    ) -> Iterator[dict[str, Json]]:
        """What becomes of tasks, as it happens; it does not end by itself."""
        return self._each(
            self._it.stream(
                agent_id=agent_id, run_id=run_id, thread_id=thread_id, resource_id=resource_id, task_id=task_id
            )
        )
