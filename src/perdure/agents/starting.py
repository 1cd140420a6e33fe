"""How a run begins: from what a caller gives, the input that is stored, and what only this process has.

Invariant: everything a run needs is either in its `RunInput`, which is data, or registered with its agent; the rest is
in `Closures`, and belongs to runs of this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from perdure.agents.declared import DeclaredAgent
from perdure.agents.inputs import InputError, MessagesLike, message_to_json, read_messages
from perdure.agents.messages import Message
from perdure.agents.options import Callbacks, Closures, OptionError, RunKeywords, RunOptions
from perdure.agents.splitting import split_options
from perdure.agents.state import RunInput
from perdure.agents.storage.texts import check_id, check_text
from perdure.model.json import Json

USERS_RESOURCE: Final = "mastra__resourceId"
"""Where in a request context a server says to which resource the user belongs who asks."""


@dataclass
class Start:
    """What a run is started with."""

    request: RunInput
    callbacks: Callbacks
    closures: Closures


def prepare_start(
    agent: DeclaredAgent,
    messages: MessagesLike,
    keywords: RunKeywords,
    *,
    new_id: str,
    now: int,
    durable: bool = False,
    strict: bool = False,
) -> Start:
    """A run of `agent` with these messages and options; `new_id` is its id where the caller gives none.

    Raises `OptionError`, `InputError` and `ShapeError` (of the request context), each naming the field, and
    `InvalidOptionError` for ids that cannot be kept.
    """
    merged = cast(RunKeywords, {**agent.default_options, **_given(keywords)})
    split = split_options(merged, policies=agent.policies, toolsets=agent.toolsets, durable=durable, strict=strict)
    agent.check_request_context(split.data.request_context)
    _check_context(split.data, now)
    for name in (split.data.scorers or {}).keys() - agent.scorers.keys():
        known = ", ".join(sorted(agent.scorers)) or "none"
        raise OptionError(f"scorers: no scorer {name!r} is registered with the agent; there are: {known}")
    run_id = split.run_id or new_id
    thread_id, resource_id = _conversation(agent, split.data)
    given = read_messages(messages, new_id=lambda place: f"{run_id}-u{place}", now=now)
    check_names(run_id, given, split.data.memory)
    if not given and thread_id is None:
        raise OptionError("messages: there is nothing to answer: give at least one, or a thread")
    for message in given:
        message.thread_id, message.resource_id = thread_id, resource_id
    request = RunInput(
        run_id=run_id,
        agent_id=agent.id,
        messages=[message_to_json(message) for message in given],
        options=split.data,
        started_at=now,
        thread_id=thread_id,
        resource_id=resource_id,
    )
    return Start(request, split.callbacks, split.closures)


def _check_context(options: RunOptions, now: int) -> None:
    try:
        read_messages(options.context, new_id=str, now=now)
    except InputError as error:
        raise OptionError(f"context: {error}") from error


def _given(keywords: RunKeywords) -> Mapping[str, Json]:
    return {name: value for name, value in keywords.items() if value is not None}


def check_names(run_id: str, messages: Sequence[Message], memory: Mapping[str, Json] | None) -> None:
    """Refuses what no store can keep: a run that has begun could only fail of it, again and again.

    Raises `InvalidOptionError`.
    """
    thread: Json = (memory or {}).get("thread")
    named = thread if isinstance(thread, dict) else {"id": thread}
    ids = [("run_id", run_id), ("memory.thread", named.get("id")), ("memory.resource", (memory or {}).get("resource"))]
    ids += [(f"messages[{index}].id", message.id) for index, message in enumerate(messages)]
    for name, id in ids:
        check_id(name, id if isinstance(id, str) else None)
    check_text("memory.thread.title", named["title"] if isinstance(named.get("title"), str) else None)


def users_resource(options: RunOptions) -> str | None:
    """The resource of the user who asks: a run without a thread belongs to it, too."""
    found = options.request_context.get(USERS_RESOURCE)
    return found if isinstance(found, str) and found else None


def _conversation(agent: DeclaredAgent, options: RunOptions) -> tuple[str | None, str | None]:
    """The thread and the resource that a run belongs to, as its options name them."""
    asked = options.memory
    if asked is None:
        return None, users_resource(options)
    if agent.memory is not None:
        scope = agent.memory.scope(asked)
        return scope.thread_id, scope.resource_id
    thread, resource = asked.get("thread"), asked.get("resource")
    thread_id = thread.get("id") if isinstance(thread, dict) else thread
    for name, value in (("memory.thread", thread_id), ("memory.resource", resource)):
        if value is not None and (not isinstance(value, str) or not value):
            raise OptionError(f"{name}: must be a text that is not empty, got {value!r}")
    if thread_id is None:
        raise OptionError("memory.thread: is missing: name the thread that the run belongs to")
    return thread_id, resource
