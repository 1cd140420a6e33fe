"""From a configuration to an agent: its parts looked up by key in the app's registry.

What a key does not lead to is left out, and told (`Missing`), so that an agent still answers when a tool is gone. An
agent that is declared in code keeps what is its own: a configuration changes its instructions, adds tools and
describes them, and its models may be chosen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

import msgspec

from perdure.agents.agent import Agent
from perdure.agents.declared import DEFAULT_MAX_STEPS, DeclaredAgent
from perdure.agents.errors import AgentError
from perdure.agents.memory import Memory
from perdure.agents.memory.embedders import Embedder, EmbeddingError
from perdure.agents.memory.settings import SemanticRecall, Titles, applied
from perdure.agents.models import ModelEntry, Models
from perdure.agents.models.call import Answer, Call, Prompt
from perdure.agents.models.failure import ModelError, ModelRejectedError
from perdure.agents.models.settings import snake
from perdure.agents.options import CALLBACKS, POLICIES, RunKeywords
from perdure.agents.scoring import Scorer
from perdure.agents.stored.config import KEPT_ONLY
from perdure.agents.stored.registry import Registry
from perdure.agents.tools import Tool
from perdure.model.errors import PerdureError
from perdure.model.json import Json

MAX_RETRIES: Final = 2
_PARTS: Final = ("tools", "workflows", "agents", "scorers")
_OPTIONS: Final = RunKeywords.__annotations__.keys() - {*CALLBACKS, *POLICIES, "run_id", "memory"}
"""The options of a run that a configuration may set."""


class Variant(msgspec.Struct, omit_defaults=True, rename="camel"):
    """An agent as data: a version of its configuration as it is for one request, and which models were chosen.

    `in_code`: it is laid over an agent that is declared in code. `agents` are the variants of those below it, by id.
    """

    version_id: str | None = None
    config: dict[str, Json] = {}
    model: dict[str, Json] | None = None
    in_code: bool = False
    agents: dict[str, Variant] = {}

    def to_json(self) -> dict[str, Json]:
        """As it travels with a run."""
        plain: dict[str, Json] = msgspec.to_builtins(self)
        return plain


class Missing(msgspec.Struct, frozen=True):
    """A key of a configuration that leads to nothing."""

    field: str
    key: str
    message: str


class UnknownModel:
    """A model that nobody here can ask: whoever asks it is told so."""

    def __init__(self, name: str, reason: str) -> None:
        self._name = name
        self._reason = reason

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        """Raises `ModelRejectedError`."""
        raise ModelRejectedError(self._reason, code="unknown_model", model=self._name)

    async def close(self) -> None:
        """There is nothing to close."""


def missing(config: Mapping[str, Json], registry: Registry, stored: Mapping[str, object]) -> Iterator[Missing]:
    """What of a configuration is not there. `stored` are the stored agents that it may name besides."""
    known: dict[str, Mapping[str, object]] = {
        "tools": registry.tools,
        "workflows": registry.workflows,
        "agents": {**registry.agents, **stored},
        "scorers": registry.scorers,
    }
    for field in _PARTS:
        for key in config.get(field) or {}:
            if key not in known[field]:
                yield Missing(field, key, f"{field}.{key}: the app has none of this key; it is left out")
    for field in ("inputProcessors", "outputProcessors"):
        for key in _processor_keys(config.get(field)):
            if key not in registry.processors:
                yield Missing(field, key, f"{field}: the app has no processor {key!r}; it is left out")
    for field in KEPT_ONLY:
        if config.get(field):
            yield Missing(field, field, f"{field}: is kept, and changes nothing here")
    memory: Json = config.get("memory") or {}
    asked: list[tuple[str, str | None, Callable[[str], object]]] = [
        ("model", model_name(config.get("model")), lambda name: registry.model(name, MAX_RETRIES)),
        ("memory", memory.get("embedder"), registry.embedder),
    ]
    for field, name, find in asked:
        try:
            _ = name is not None and find(name)
        except PerdureError as error:
            yield Missing(field, str(name), str(error))


def build(agent_id: str, variant: Variant, registry: Registry, declared: DeclaredAgent | None) -> Agent:
    """The agent that a variant describes; `declared` is the one in code that it is laid over.

    Raises `ConfigError` for a configuration that no agent can have.
    """
    return _Building(variant, registry).agent(agent_id, variant, declared)


class _Building:
    """One agent with those below it; agents may have each other."""

    def __init__(self, variant: Variant, registry: Registry) -> None:
        self._inner = variant.agents
        self._registry = registry
        self._made: dict[str, Agent] = {}

    def agent(self, agent_id: str, variant: Variant, declared: DeclaredAgent | None) -> Agent:
        if variant.in_code and declared is not None:
            made = _laid_over(declared, variant, self._registry)
            named = {key: self._below(key, inner) for key, inner in declared.agents.items()}
        else:
            made = _of_data(agent_id, variant, self._registry)
            named = {}
        self._made[agent_id] = made
        known = self._registry.agents
        for key, given in (variant.config.get("agents") or {}).items():
            if key in known or key in self._inner:
                named[key] = _described(self._below(key, known.get(key)), given)
        made.agents = named
        return made

    def _below(self, key: str, declared: DeclaredAgent | None) -> DeclaredAgent:
        id = key if declared is None else declared.id
        if id in self._made:
            return self._made[id]
        variant = self._inner.get(id)
        if variant is None:
            assert declared is not None
            return declared
        return self.agent(id, variant, declared)


def _laid_over(declared: DeclaredAgent, variant: Variant, registry: Registry) -> Agent:
    config = variant.config
    made = cast(Agent, copy.copy(declared))
    if config.get("instructions"):
        made.instructions = config["instructions"]
    chosen = config.get("tools") or {}
    own = {key: _told(tool, chosen.get(key)) for key, tool in declared.tools.items()}
    made.tools = {**own, **_tools({key: given for key, given in chosen.items() if key not in own}, registry)}
    made.models = with_choice(declared.models, variant.model, registry)
    return made


def _of_data(agent_id: str, variant: Variant, registry: Registry) -> Agent:
    config = variant.config
    options = default_options(config.get("defaultOptions"))
    durable: Json = config.get("durable")
    most: Json = durable.get("maxSteps") if isinstance(durable, dict) else None
    return Agent(
        agent_id,
        name=config.get("name") or agent_id,
        description=config.get("description") or "",
        instructions=config.get("instructions") or "",
        model=with_choice(_models(config.get("model"), registry), variant.model, registry),
        tools=_tools(config.get("tools") or {}, registry),
        workflows={key: each for key, each in registry.workflows.items() if key in (config.get("workflows") or {})},
        memory=memory_of(config.get("memory"), registry),
        scorers=_scorers(config.get("scorers") or {}, registry),
        input_processors=_processors(config.get("inputProcessors"), registry),
        output_processors=_processors(config.get("outputProcessors"), registry),
        max_steps=options.get("max_steps") or most or DEFAULT_MAX_STEPS,
        default_options=options,
        request_context_schema=config.get("requestContextSchema"),
        version=variant.version_id,
    )


def default_options(given: Json) -> dict[str, Json]:
    """The options of runs that a configuration sets; what is no option of a run is left out.

    >>> default_options({"maxSteps": 3, "tracingOptions": {}})
    {'max_steps': 3}
    """
    named = {snake(key): value for key, value in (given or {}).items() if value is not None}
    if isinstance(named.get("tool_call_concurrency"), dict):
        named["tool_call_concurrency"] = named["tool_call_concurrency"].get("limit") or 10
    return {key: value for key, value in named.items() if key in _OPTIONS}


def model_name(given: Json) -> str | None:
    """The name of a model, `provider/model`; None where none is given.

    >>> model_name({"provider": "openai", "name": "gpt-5.5"})
    'openai/gpt-5.5'
    """
    return f"{given['provider']}/{given['name']}" if isinstance(given, dict) else None


def with_choice(models: Models, choice: Mapping[str, Json] | None, registry: Registry) -> Models:
    """The models of an agent, or those that were chosen for it.

    A choice is `{"model": name}`, or for a list `{"entries": {id: {model, maxRetries, enabled}}, "order": [ids]}`.
    """
    if not choice:
        return models
    if "model" in choice:
        return _named(choice["model"], MAX_RETRIES, registry)
    entries = {entry.id: entry for entry in models.entries}
    for id, change in (choice.get("entries") or {}).items():
        if id not in entries:
            continue
        entry = entries[id]
        retries = change.get("maxRetries", entry.max_retries)
        model = _named(change["model"], retries, registry).entries[0].model if "model" in change else entry.model
        entries[id] = ModelEntry(model, retries, id)
        if change.get("enabled") is False and len(entries) > 1:
            del entries[id]
    order = [id for id in choice.get("order") or [] if id in entries]
    return Models([entries[id] for id in [*order, *(id for id in entries if id not in order)]])


def memory_of(given: Json, registry: Registry) -> Memory | None:
    """The memory that a configuration describes; None where it has none. Raises `InvalidOptionError`."""
    if given is None:
        return None
    embedder = None if given.get("embedder") is None else _embedder(given["embedder"], registry)
    options = {key: value for key, value in (given.get("options") or {}).items() if value is not None}
    base = Memory(embedder=embedder).settings
    found = applied(base, options, can_recall=embedder is not None)
    return Memory(
        last_messages=found.last_messages,
        semantic_recall=found.recall if isinstance(found.recall, SemanticRecall) else False,
        embedder=embedder,
        working_memory=found.working or False,
        generate_title=found.titles if isinstance(found.titles, Titles) else False,
        read_only=found.read_only,
    )


def _embedder(name: str, registry: Registry) -> Embedder:
    """An embedder; one that cannot be had says so when it is asked."""
    try:
        return registry.embedder(name)
    except AgentError as error:
        told = str(error)

    async def refuse(texts: list[str]) -> list[list[float]]:
        raise EmbeddingError(told)

    return refuse


def _models(given: Json, registry: Registry) -> Models:
    name = model_name(given)
    if name is None:
        unknown = UnknownModel("none/none", "the agent has no model: give it one")
        return Models([ModelEntry(unknown, 0, unknown.name)])
    return _named(name, MAX_RETRIES, registry)


def _named(name: str, max_retries: int, registry: Registry) -> Models:
    try:
        return registry.model(name, max_retries)
    except ModelError as error:
        return Models([ModelEntry(UnknownModel(name, str(error)), 0, name)])


def _tools(chosen: Mapping[str, Json], registry: Registry) -> dict[str, Tool]:
    known = registry.tools if chosen else {}
    return {key: _told(known[key], given) for key, given in chosen.items() if key in known}


def _told(tool: Tool, given: Json) -> Tool:
    """A tool with the description that a configuration has for it."""
    if not given or not given.get("description"):
        return tool
    made = copy.copy(tool)
    made.description = given["description"]
    return made


def _described(agent: DeclaredAgent, given: Json) -> DeclaredAgent:
    if not given.get("description"):
        return agent
    made = copy.copy(agent)
    made.description = given["description"]
    return made


def _scorers(chosen: Mapping[str, Json], registry: Registry) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, given in chosen.items():
        scorer = registry.scorers.get(key)
        sampling = given.get("sampling")
        if scorer is not None and sampling is not None:
            judge = scorer.judge if isinstance(scorer, Scorer) else scorer
            scorer = Scorer(judge, sampling["rate"] if sampling["type"] == "ratio" else 0.0)
        if scorer is not None:
            found[key] = scorer
    return found


def _processors(graph: Json, registry: Registry) -> list[Json]:
    known = registry.processors if graph else {}
    return [known[key] for key in _processor_keys(graph) if key in known]


def _processor_keys(graph: Json) -> Iterator[str]:
    for entry in (graph or {}).get("steps") or []:
        step = entry["step"]
        yield step.get("providerId") or step.get("id") or "?"
