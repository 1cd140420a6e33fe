"""The operations about what is kept of agents: memory, stored agents and their versions, background tasks."""

from __future__ import annotations

from functools import partial
from typing import Final

from perdure.model.roles import Role
from perdure.server.catalogue import schemas as s
from perdure.server.catalogue.agents import EVENTS, operation, query
from perdure.server.catalogue.operation import Operation

_STORED: Final = "/api/stored/agents"
_ONE: Final = _STORED + "/{stored}"
_VERSIONS: Final = _ONE + "/versions"
_PAGE: Final = query("page", "perPage", "orderBy[field]", "orderBy[direction]")
_OF: Final = query("agentId", "resourceId", "requestContext")
_THREAD_FIELDS: Final = {"title": s.TEXT, "metadata": s.OBJECT}


def _memory(mount: str, of: str) -> tuple[Operation, ...]:
    """The memory of agents, or of networks, whose routes are the same."""
    thread = mount + "/threads/{thread}"
    kept = partial(operation, tag="memory", given=_OF)
    return (
        operation(
            f"List{of}Threads", "GET", mount + "/threads", "Threads, newest first",
            tag="memory", given=(*_OF, *query("metadata"), *_PAGE),
            answer=s.record({"threads": s.array(s.OBJECT), "total": s.NUMBER}),
        ),
        kept(
            f"Create{of}Thread", "POST", mount + "/threads", "Makes a thread",
            body=s.record({"resourceId": s.NAME}, {"agentId": s.TEXT, "threadId": s.TEXT, **_THREAD_FIELDS}),
        ),
        kept(f"Get{of}Thread", "GET", thread, "A thread"),
        kept(f"Update{of}Thread", "PATCH", thread, "Changes a thread", body=s.record({}, _THREAD_FIELDS)),
        kept(f"Delete{of}Thread", "DELETE", thread, "Forgets a thread and its messages"),
        kept(f"Clone{of}Thread", "POST", thread + "/clone", "Copies a thread", body=s.OBJECT),
        kept(
            f"Transfer{of}Thread", "POST", thread + "/transfer", "Gives a thread to another resource",
            body=s.record({"resourceId": s.NAME}),
        ),
        operation(
            f"List{of}Messages", "GET", thread + "/messages", "Messages of a thread; page 0 has the newest",
            tag="memory", given=(*_OF, *query("page", "perPage")),
            answer=s.record({"messages": s.array(s.OBJECT)}),
        ),
        kept(f"Get{of}WorkingMemory", "GET", thread + "/working-memory", "What an agent has noted"),
        kept(
            f"Set{of}WorkingMemory", "POST", thread + "/working-memory", "Writes over what an agent has noted",
            body=s.record({"workingMemory": s.TEXT}, {"resourceId": s.TEXT}),
        ),
    )  # fmt: skip


def _messages(mount: str, of: str) -> tuple[Operation, ...]:
    """What is asked about messages of any thread."""
    kept = partial(operation, tag="memory", given=_OF)
    return (
        kept(
            f"Save{of}Messages", "POST", mount + "/save-messages", "Keeps messages",
            body=s.record({"messages": s.array(s.OBJECT)}),
        ),
        kept(
            f"Delete{of}Messages", "POST", mount + "/messages/delete", "Forgets messages",
            body=s.record({"messageIds": s.ANY}),
        ),
        kept(f"Get{of}MemoryStatus", "GET", mount + "/status", "Whether an agent remembers"),
    )  # fmt: skip


_RECALL: Final = (
    operation("GetMemoryConfig", "GET", "/api/memory/config", "How an agent remembers", tag="memory", given=_OF),
    operation(
        "SearchMemory", "GET", "/api/memory/search", "Messages that fit a text",
        tag="memory", given=(*_OF, *query("searchQuery", "threadId", "memoryConfig")),
    ),
    operation(
        "GetObservationalMemory", "GET", "/api/memory/observational-memory", "What an agent has observed",
        tag="memory", given=(*_OF, *query("threadId")),
    ),
    operation(
        "GetObservationalBuffer", "POST", "/api/memory/observational-memory/buffer-status",
        "What an agent has yet to observe", tag="memory", body=s.OBJECT, reads=True,
    ),
)  # fmt: skip

_RECORD: Final = s.record({}, {"name": s.TEXT, "instructions": s.ANY, "model": s.ANY, "autoPublish": s.FLAG})
_shaping: Final = partial(operation, tag="stored agents", asks=Role.ADMIN)
_RECORDS: Final = (
    operation(
        "ListStoredAgents", "GET", _STORED, "Stored agents", tag="stored agents",
        given=(*query("status", "authorId"), *_PAGE),
    ),
    _shaping("CreateStoredAgent", "POST", _STORED, "Stores an agent", body=_RECORD),
    operation(
        "GetStoredAgent", "GET", _ONE, "A stored agent", tag="stored agents", given=query("status", "requestContext")
    ),
    _shaping("UpdateStoredAgent", "PATCH", _ONE, "Changes a stored agent", body=_RECORD),
    _shaping("DeleteStoredAgent", "DELETE", _ONE, "Forgets a stored agent"),
    operation("ListDependents", "GET", _ONE + "/dependents", "Which stored agents name this one", tag="stored agents"),
    operation(
        "ExportStoredAgent", "POST", _ONE + "/export", "A stored agent as a document",
        tag="stored agents", body=s.OBJECT, reads=True,
    ),
    operation("ListVersions", "GET", _VERSIONS, "Versions, the latest first", tag="stored agents", given=_PAGE),
    _shaping(
        "CreateVersion", "POST", _VERSIONS, "Makes a version of what is active",
        body=s.record({}, {"changeMessage": s.TEXT}),
    ),
    operation(
        "CompareVersions", "GET", _VERSIONS + "/compare", "In which fields two versions differ",
        tag="stored agents", given=query("from", "to"),
    ),
    operation("GetVersion", "GET", _VERSIONS + "/{version}", "A version", tag="stored agents"),
    _shaping("DeleteVersion", "DELETE", _VERSIONS + "/{version}", "Forgets a version"),
    _shaping("ActivateVersion", "POST", _VERSIONS + "/{version}/activate", "Has runs take a version"),
    _shaping(
        "RestoreVersion", "POST", _VERSIONS + "/{version}/restore", "Makes a new version of an old one"
    ),
)  # fmt: skip

_TASKS: Final = (
    operation(
        "ListBackgroundTasks", "GET", "/api/background-tasks", "Background tasks", tag="background tasks",
        given=query("agentId", "runId", "threadId", "resourceId", "status", "toolName", "page", "perPage"),
        answer=s.record({"tasks": s.array(s.OBJECT), "total": s.NUMBER}),
    ),
    operation(
        "StreamBackgroundTasks", "GET", "/api/background-tasks/stream", "What becomes of tasks, as it happens",
        tag="background tasks", media=EVENTS,
        given=query("agentId", "runId", "threadId", "resourceId", "taskId"),
    ),
    operation("GetBackgroundTask", "GET", "/api/background-tasks/{task}", "A background task", tag="background tasks"),
    operation(
        "CancelBackgroundTask", "POST", "/api/background-tasks/{task}/cancel", "Ends a background task",
        tag="background tasks", body=s.OBJECT,
    ),
    operation(
        "ResumeBackgroundTask", "POST", "/api/background-tasks/{task}/resume", "Gives a suspended task its data",
        tag="background tasks", body=s.record({"resumeData": s.ANY}),
    ),
)  # fmt: skip

_MOUNTS: Final = (("/api/memory", ""), ("/api/memory/network", "Network"))
KEEPING: Final = (
    *(each for mount in _MOUNTS for each in (*_memory(*mount), *_messages(*mount))),
    *_RECALL,
    *_RECORDS,
    *_TASKS,
)
"""What is kept of agents."""
