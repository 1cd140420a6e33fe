"""How durable agents are made: `create_durable_agent` and its two siblings, and how they are told apart."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeGuard, TypeVar, Unpack, cast

from perdure.agents.declared import DeclaredAgent
from perdure.agents.durable.accelerators import Accelerators, Cache, PubSub
from perdure.agents.durable.agent import DurableAgent
from perdure.agents.durable.base import DurableSettings
from perdure.agents.durable.body import Body
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.loop_body import LoopBody
from perdure.agents.durable.reading import new_ids
from perdure.agents.durable.remote import RemoteEngine, remote_engine
from perdure.agents.foreign import is_pydantic_agent, pydantic_body
from perdure.agents.tools import CrashPolicy, Tool
from perdure.model.config import Duration
from perdure.model.durations import DurationError, parse_duration
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.sdk.app import App
from perdure.sdk.options import FunctionOptions
from perdure.store.protocol import Store

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent

D = TypeVar("D", bound=DurableAgent)
AgentLike: TypeAlias = "DeclaredAgent | Body | AbstractAgent[Json, Json]"
"""What can be made durable: an `Agent`, an agent of pydantic-ai, or a body of one's own."""
AnyVersion: TypeAlias = Literal["any"]


class EventedAgent(DurableAgent):
    """A durable agent by its other name: `stream` returns as soon as the run has begun, as that of all of them does."""


class InngestAgent(DurableAgent):
    """A durable agent whose functions are served to a server of the protocol."""


class AgentOptions(FunctionOptions, total=False):
    """What all factories take. The options of functions (`retries`, `concurrency`, `throttle`, `priority`,
    `rate_limit`, `timeouts`, ...) are those of the agent's function.

    `id`: the id, where it is not the agent's. `max_steps`: instead of the agent's. `retention`: how long a run that is
    over is remembered (7 days; None for ever). `compact_after`: when the pieces of text in its log are put together (1
    minute; None never). `on_tool_crash`: what becomes of a tool call that died with its process,
    for tools that do not say it themselves. `strict`: options that only this process has are errors, not warnings.
    `accepts_versions`: versions of the agent, or "any", whose questions may be answered through this one. `pubsub`,
    `cache`: plug-ins that are told what is said, and on which nothing depends.
    """

    id: str | None
    max_steps: int | None
    retention: Duration | None
    compact_after: Duration | None
    on_tool_crash: CrashPolicy
    strict: bool
    accepts_versions: Collection[str] | AnyVersion
    pubsub: PubSub | None
    cache: Cache | None


def create_durable_agent(
    *, agent: AgentLike, app: App, engine: Engine | None = None, **options: Unpack[AgentOptions]
) -> DurableAgent:
    """Makes an agent durable: its runs are runs of a function of the app, `agent-<id>`.

    They are carried out by the engine that runs the app in this process (`perdure.embedded`, `perdure dev`), or by
    `engine`, a server. See `AgentOptions`. Raises `ConfigError`.
    """
    return _make(DurableAgent, agent, app, engine, options)


def create_evented_agent(
    *, agent: AgentLike, app: App, engine: Engine | None = None, **options: Unpack[AgentOptions]
) -> EventedAgent:
    """The same as `create_durable_agent`, for those who know it by this name."""
    return _make(EventedAgent, agent, app, engine, options)


def create_inngest_agent(
    *,
    agent: AgentLike,
    app: App,
    server: str | RemoteEngine,
    store: str | Path | Store = "agents.db",
    **options: Unpack[AgentOptions],
) -> InngestAgent:
    """Makes an agent durable on a server: the app is served to it (`perdure.serve(app)`), and it calls the functions.

    `server` is its URL, or what `remote_engine` gives; `store` is where the app keeps what the agents know. The engine
    is open as long as `async with agent.engine:` lasts.
    """
    engine = remote_engine(server, store=store) if isinstance(server, str) else server
    return _make(InngestAgent, agent, app, engine, options)


def _make(kind: type[D], agent: AgentLike, app: App, engine: Engine | None, options: AgentOptions) -> D:
    own: AgentOptions = {name: options.pop(name) for name in _OWN if name in options}  # type: ignore[misc, assignment]
    problems: list[str] = []
    keep_for = _millis("retention", own.get("retention", "7d"), problems)
    compact_after = _millis("compact_after", own.get("compact_after", "1m"), problems)
    policy: Json = own.get("on_tool_crash")
    if policy not in (None, "retry", "at_most_once", "ask"):
        problems.append(f'on_tool_crash: must be "retry", "at_most_once" or "ask", got {policy!r}')
    if isinstance(agent, DurableAgent):
        problems.append(f"agent: {agent.id!r} is durable already")
    if problems:
        raise ConfigError("a durable agent", problems)
    name = options.pop("name", None)
    body = _body(agent, own, name)
    settings = DurableSettings(
        keep_for=keep_for,
        compact_after=None if compact_after is None else compact_after / 1000,
        strict=own.get("strict", False),
        max_steps=own.get("max_steps"),
        engine=engine,
        accepts_versions=_versions(own.get("accepts_versions", ())),
        accelerators=Accelerators(own.get("pubsub"), own.get("cache")),
        options=options,
    )
    return kind(body, app, settings, new_ids())


_OWN = tuple(AgentOptions.__annotations__.keys() - FunctionOptions.__annotations__.keys())


def _millis(name: str, given: Duration | None, problems: list[str]) -> int | None:
    try:
        return None if given is None else parse_duration(given)
    except DurationError as error:
        problems.append(f"{name}: {error}")
        return None


def _versions(accepted: Collection[str] | str) -> frozenset[str] | None:
    return None if accepted == "any" else frozenset([accepted] if isinstance(accepted, str) else accepted)


def _body(agent: AgentLike, own: AgentOptions, name: str | None) -> Body:
    if is_pydantic_agent(agent):
        found: Body = pydantic_body(agent, own.get("id"), name)
        return found
    if not isinstance(agent, DeclaredAgent):
        given: Json = agent
        return cast(Body, given)
    policy = own.get("on_tool_crash", "retry")
    if policy != "retry":
        agent = _crashing(agent, policy, {})
    return LoopBody(agent, own.get("id") or agent.id, name or agent.name)


def _crashing(agent: DeclaredAgent, policy: CrashPolicy, made: dict[int, DeclaredAgent]) -> DeclaredAgent:
    """A copy of an agent, and of those below it, whose tools have this policy; agents may have each other."""
    known = made.get(id(agent))
    if known is not None:
        return known
    changed = made[id(agent)] = copy.copy(agent)
    changed.tools = {key: _with_policy(tool, policy) for key, tool in agent.tools.items()}
    changed.agents = {key: _crashing(inner, policy, made) for key, inner in agent.agents.items()}
    return changed


def _with_policy(tool: Tool, policy: CrashPolicy) -> Tool:
    if tool.on_crash != "retry" or tool.retries or tool.steps:
        # It says itself that it may be tried again.
        return tool
    changed = copy.copy(tool)
    changed.on_crash = policy
    return changed


def is_durable_agent(value: object) -> TypeGuard[DurableAgent]:
    """Whether it is a durable agent of any kind."""
    return isinstance(value, DurableAgent)


def is_evented_agent(value: object) -> TypeGuard[EventedAgent]:
    """Whether `create_evented_agent` made it."""
    return isinstance(value, EventedAgent)


def is_inngest_agent(value: object) -> TypeGuard[InngestAgent]:
    """Whether `create_inngest_agent` made it."""
    return isinstance(value, InngestAgent)
