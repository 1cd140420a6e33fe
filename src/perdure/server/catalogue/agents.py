"""The operations of the agents protocol: what agents are, their runs, answers to their questions, their threads, chats.

Paths are whole, names in them those of the routes. Fields that are not listed are let pass, so no body is closed; how a
run's options are spelled is that protocol's. What is kept of agents is in `agent_records.py`.
"""

from __future__ import annotations

from typing import Final, Literal

from perdure.model.json import Json
from perdure.model.roles import Role
from perdure.server.catalogue import schemas as s
from perdure.server.catalogue.operation import Body, Failure, Operation, Parameter

EVENTS: Final = "text/event-stream"
AGENT: Final = "/api/agents/{agent}"
_ABOUTS: Final = {
    "agent": "The id of the agent.",
    "tool": "The id of the tool.",
    "run": "The id of the run.",
    "chat": "The id of the chat.",
    "thread": "The id of the thread.",
    "task": "The id of the task.",
    "stored": "The id of the stored agent.",
    "version": "The id of the version.",
    "config": "The id of the model among those of the agent.",
}
_INVALID: Final = Failure(400, "", "A field is missing, or has a value that it cannot have.")
_DENIED: Final = Failure(403, "", "It belongs to somebody else, or the caller's role does not allow it.")
_MISSING: Final = Failure(404, "", "There is no such thing.")
_OVER: Final = Failure(409, "", "It is decided, or taken, already.")
_GONE: Final = Failure(410, "", "Its time is over.")
_FAILED: Final = Failure(500, "", "The model has failed, or a tool that was called.")
_LARGE: Final = Failure(413, "", "The request is over a limit.")
_BUSY: Final = Failure(429, "", "The function of the agent takes no more runs now.")
FAILURES: Final = (_INVALID, _DENIED, _MISSING, _OVER, _GONE, _LARGE, _BUSY, _FAILED)


def query(*names: str) -> tuple[Parameter, ...]:
    """Optional parameters of a query."""
    return tuple(Parameter(name, _QUERY.get(name, s.TEXT), _QUERY_ABOUT.get(name, name)) for name in names)


_WHOLE: Final = {"type": "integer", "minimum": 0}
_QUERY: Final[dict[str, Json]] = {"page": _WHOLE, "perPage": {"type": "integer", "minimum": 1}}
_QUERY_ABOUT: Final = {
    "page": "Which page, counted from 0.",
    "perPage": "How many a page.",
    "requestContext": "The request context: base64 of JSON.",
    "resourceId": "Whose.",
    "agentId": "Of which agent.",
    "versionId": "The stored version that is meant.",
    "status": "The stored version that is meant, by its status.",
    "format": "The format of the AI SDK: v5 or v6.",
}


def operation(
    id: str,
    method: Literal["GET", "POST", "PATCH", "DELETE"],
    path: str,
    summary: str,
    *,
    tag: str = "agents",
    answer: Json = None,
    media: str = "application/json",
    body: Json = None,
    given: tuple[Parameter, ...] = (),
    reads: bool | None = None,
    asks: Role | None = None,
) -> Operation:
    """An operation of the agents protocol; GET reads, unless it is said otherwise."""
    named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    places = tuple(Parameter(name, s.NAME, _ABOUTS[name], "path", True) for name in named)
    return Operation(
        id=id,
        method=method,
        path=path,
        summary=summary,
        about=summary + ".",
        tag=tag,
        answer=(s.TEXT if media == EVENTS else s.OBJECT) if answer is None else answer,
        media=media,
        parameters=(*places, *given),
        body=None if body is None else Body(body, required=bool(body.get("required"))),
        failures=FAILURES,
        read_only=method == "GET" if reads is None else reads,
        asks=asks,
    )


_MESSAGES: Final = {"anyOf": [s.TEXT, s.array({"anyOf": [s.TEXT, s.OBJECT]})]}
_MEMORY: Final = s.record(
    {"thread": {"anyOf": [s.NAME, s.record({"id": s.NAME})]}}, {"resource": s.TEXT, "options": s.OBJECT}
)
OPTIONS: Final[dict[str, Json]] = {
    "runId": s.TEXT,
    "memory": _MEMORY,
    "instructions": s.TEXT,
    "system": s.ANY,
    "context": s.array(s.OBJECT),
    "maxSteps": {"type": "integer", "minimum": 1},
    "activeTools": s.array(s.TEXT),
    "toolChoice": {"anyOf": [s.TEXT, s.OBJECT]},
    "model": s.TEXT,
    "modelSettings": s.OBJECT,
    "providerOptions": s.OBJECT,
    "requireToolApproval": s.FLAG,
    "structuredOutput": s.OBJECT,
    "clientTools": s.OBJECT,
    "requestContext": s.OBJECT,
    "untilIdle": {"anyOf": [s.FLAG, s.OBJECT]},
    "versions": s.OBJECT,
}
_RUN: Final = s.record({"messages": _MESSAGES}, OPTIONS)
_CALL: Final = s.record({"runId": s.NAME, "toolCallId": s.NAME}, {"reason": s.TEXT, "requestContext": s.OBJECT})
_NETWORK_CALL: Final = s.record({"runId": s.NAME}, {"reason": s.TEXT, "requestContext": s.OBJECT})
_RESUME: Final = s.record({"runId": s.NAME, "resumeData": s.ANY}, {"toolCallId": s.TEXT, **OPTIONS})
_RESULT: Final = s.record(
    {"text": s.TEXT, "finishReason": s.TEXT, "steps": s.array(s.OBJECT), "usage": s.OBJECT},
    {"object": s.ANY, "suspendPayload": s.OBJECT, "toolCalls": s.array(s.OBJECT), "toolResults": s.array(s.OBJECT)},
)
_VERSION: Final = query("versionId", "status", "requestContext")
_THREAD: Final[dict[str, Json]] = {"threadId": s.TEXT, "resourceId": s.TEXT}
_SIGNAL: Final[dict[str, Json]] = {**_THREAD, "runId": s.TEXT, "ifActive": s.OBJECT, "ifIdle": s.OBJECT}
_SAID: Final = {"anyOf": [s.TEXT, s.array(s.OBJECT), s.OBJECT]}
_UI: Final = s.record(
    {"messages": s.array(s.OBJECT)},
    {"id": s.TEXT, "trigger": s.TEXT, "resumeData": s.ANY, "sendReasoning": s.FLAG, "sendSources": s.FLAG, **OPTIONS},
)
_MODEL: Final = s.record({"modelId": s.TEXT, "provider": s.TEXT})


def _whole(path: str) -> str:
    return AGENT + path


_TELLING: Final = (
    operation("ListAgents", "GET", "/api/agents", "All agents, by id", given=query("partial", "requestContext")),
    operation("GetAgent", "GET", AGENT, "What an agent is", given=_VERSION),
    operation("ListModelProviders", "GET", "/api/agents/providers", "The providers of models that are known"),
    operation("GetAgentTool", "GET", _whole("/tools/{tool}"), "A tool of an agent", given=_VERSION),
    operation(
        "ExecuteAgentTool", "POST", _whole("/tools/{tool}/execute"), "Calls a tool outside of any run",
        answer=s.ANY, body=s.record({"data": s.ANY}, {"requestContext": s.OBJECT}),
    ),
    operation("ListTools", "GET", "/api/tools", "All tools, by id", tag="tools"),
    operation("GetTool", "GET", "/api/tools/{tool}", "A tool", tag="tools"),
    operation(
        "ExecuteTool", "POST", "/api/tools/{tool}/execute", "Calls a tool outside of any run",
        tag="tools", answer=s.ANY, body=s.record({"data": s.ANY}, {"requestContext": s.OBJECT}),
    ),
    operation(
        "ChooseAgentModel", "POST", _whole("/model"), "Has an agent answer with another model",
        body=_MODEL, asks=Role.ADMIN,
    ),
    operation(
        "ResetAgentModel", "POST", _whole("/model/reset"), "Has an agent answer with its own model",
        body=s.OBJECT, asks=Role.ADMIN,
    ),
    operation(
        "ReorderAgentModels", "POST", _whole("/models/reorder"), "Puts the models of an agent into another order",
        body=s.record({"reorderedModelIds": s.array(s.TEXT)}), asks=Role.ADMIN,
    ),
    operation(
        "ChangeAgentModel", "POST", _whole("/models/{config}"), "Changes one of the models of an agent",
        body=s.OBJECT, asks=Role.ADMIN,
    ),
    operation(
        "CloneAgent", "POST", _whole("/clone"), "Makes a stored agent of this one", body=s.OBJECT, asks=Role.ADMIN
    ),
)  # fmt: skip

_RUNS: Final = (
    operation("Generate", "POST", _whole("/generate"), "Runs an agent; its result", answer=_RESULT, body=_RUN),
    operation("Stream", "POST", _whole("/stream"), "Runs an agent; its chunks as they come", media=EVENTS, body=_RUN),
    operation(
        "StreamUntilIdle", "POST", _whole("/stream-until-idle"),
        "The same, with what comes of its background tasks", media=EVENTS, body=_RUN,
    ),
    operation(
        "Network", "POST", _whole("/network"), "The agent chooses who carries the task out", media=EVENTS, body=_RUN
    ),
    *(
        operation(
            f"{decision.capitalize()}ToolCall{'Generate' if whole else ''}",
            "POST",
            _whole(f"/{decision}-tool-call{whole}"),
            f"{told} a call of a tool; {'the result' if whole else 'how the run goes on'}",
            answer=_RESULT if whole else None,
            media="application/json" if whole else EVENTS,
            body=_CALL,
        )
        for decision, told in (("approve", "Approves"), ("decline", "Declines"))
        for whole in ("", "-generate")
    ),
    *(
        operation(
            f"{decision.capitalize()}NetworkToolCall",
            "POST",
            _whole(f"/{decision}-network-tool-call"),
            f"{told} what a network asks about",
            media=EVENTS,
            body=_NETWORK_CALL,
        )
        for decision, told in (("approve", "Approves"), ("decline", "Declines"))
    ),
    operation(
        "ResumeStream", "POST", _whole("/resume-stream"), "Gives a suspended tool its data", media=EVENTS, body=_RESUME
    ),
    operation(
        "ResumeStreamUntilIdle", "POST", _whole("/resume-stream-until-idle"),
        "The same, with what comes of background tasks", media=EVENTS, body=_RESUME,
    ),
    operation(
        "ListSuspendedRuns", "GET", _whole("/suspended-runs"), "The runs that wait for somebody, newest first",
        answer=s.record({"runs": s.array(s.OBJECT), "total": s.NUMBER}),
        given=query("threadId", "resourceId", "fromDate", "toDate", "page", "perPage"),
    ),
    operation(
        "ObserveRun", "POST", _whole("/observe"), "A durable run once more, in envelopes with an index",
        media=EVENTS, body=s.record({"runId": s.NAME}, {"offset": _WHOLE}), reads=True,
    ),
    operation(
        "RecoverRun", "POST", _whole("/recover"), "A durable run from its beginning",
        media=EVENTS, body=s.record({"runId": s.NAME}),
    ),
    operation(
        "FollowRun", "GET", _whole("/runs/{run}/stream"), "A durable run for clients that come back by Last-Event-ID",
        media=EVENTS, given=query("offset"),
    ),
    operation("GetRunOfAgent", "GET", _whole("/runs/{run}"), "How a run of an agent stands"),
    operation("AbortRunOfAgent", "POST", _whole("/runs/{run}/abort"), "Ends a run of an agent", body=s.OBJECT),
)  # fmt: skip

_THREADS: Final = (
    operation(
        "SendSignal", "POST", _whole("/signals"), "Sends a signal to a thread, or to a run",
        tag="signals", body=s.record({"signal": s.OBJECT}, _SIGNAL),
    ),
    operation(
        "SendMessage", "POST", _whole("/send-message"), "Sends what a user says to a thread",
        tag="signals", body=s.record({"message": _SAID}, _SIGNAL),
    ),
    operation(
        "QueueMessage", "POST", _whole("/queue-message"), "The same, as a run of its own after the one that goes on",
        tag="signals", body=s.record({"message": _SAID}, _SIGNAL),
    ),
    operation(
        "SendToolApproval", "POST", _whole("/send-tool-approval"), "Answers a question of a thread",
        tag="signals",
        body=s.record({"toolCallId": s.NAME, "approved": s.FLAG, **_THREAD}, {"streamOptions": s.OBJECT}),
    ),
    operation(
        "SubscribeToThread", "POST", _whole("/threads/subscribe"), "Hears all runs of a thread; it does not end",
        tag="signals", media=EVENTS, body=s.record({"threadId": s.NAME}, {"resourceId": s.TEXT}), reads=True,
    ),
    operation(
        "AbortThread", "POST", _whole("/threads/abort"), "Ends the run of a thread",
        tag="signals", body=s.record({"threadId": s.NAME}, {"resourceId": s.TEXT, "expectedRunId": s.TEXT}),
    ),
)  # fmt: skip

_CHATS: Final = (
    operation(
        "Chat", "POST", "/chat/{agent}", "What useChat of the AI SDK asks: parts of a message as they come",
        tag="chats", media=EVENTS, body=_UI, given=query("format", "versionId", "status"),
    ),
    operation(
        "ResumeChat", "GET", "/chat/{agent}/{chat}/stream", "What is being said in a chat; 204 where nothing is",
        tag="chats", media=EVENTS, given=query("format"),
    ),
    operation(
        "ResumeAnyChat", "GET", "/chat/{chat}/stream", "The same, whichever agent the chat is with",
        tag="chats", media=EVENTS, given=query("format"),
    ),
    operation(
        "ChatWithNetwork", "POST", "/network/{agent}", "A chat in which the agent chooses who carries the task out",
        tag="chats", media=EVENTS, body=_UI, given=query("format"),
    ),
)  # fmt: skip

RUNNING: Final = (*_TELLING, *_RUNS, *_THREADS, *_CHATS)
"""What agents are asked to do."""
