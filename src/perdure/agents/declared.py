"""What an agent is declared to be: checked once, when it is made, and read by every run of it.

Invariant: nothing here runs anything; `Agent` (agent.py) adds how it is run, and the loop knows only this.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, cast

from perdure.agents.background.config import BackgroundConfig
from perdure.agents.faults import bad_options, bad_parts, bad_surroundings, bad_texts
from perdure.agents.models import ModelSpec, resolve
from perdure.agents.options import Policy, RunKeywords
from perdure.agents.processors import Pipeline
from perdure.agents.schemas import Shape, ShapeError
from perdure.agents.scoring import scorers_of
from perdure.agents.splitting import split_options
from perdure.agents.tools import Tool, tools_by_name
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.sdk.function import Function

Instructions: TypeAlias = str | Sequence[str] | Callable[[dict[str, Json]], Json]
"""A text, several, or a function of the request context that gives one; a plain or a coroutine function."""

DEFAULT_MAX_STEPS: Final = 5
DEFAULT_VERSION: Final = "1"
"""Of an agent that does not say it: new code goes on with older runs, as for every function."""
AGENT_PREFIX: Final = "agent-"
WORKFLOW_PREFIX: Final = "workflow-"
_ID: Final = re.compile(r"[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")


class DeclaredAgent:
    """Instructions, a model, tools and the rest. Raises `ConfigError`, or `ModelError` for the model.

    `agents` are sub-agents and `workflows` perdure functions by key: the model sees them as tools `agent-<key>` and
    `workflow-<key>`. `policies` are functions that options of a run may name; `toolsets` are sources of more tools
    by name, of which those in `default_toolsets` are always there. `max_retries` is for models that do not say it.
    `background_tasks` says which tools may run in the background besides those that say it themselves.
    `scorers` judge what runs have come to: functions, or `Scorer`, by name.
    `version` is kept with each run: give another one where a decision about an older run must not go on with this code.
    """

    def __init__(
        self,
        id: str,
        *,
        model: ModelSpec,
        instructions: Instructions = "",
        name: str | None = None,
        description: str = "",
        tools: Sequence[Tool | Callable[..., Json]] | Mapping[str, Tool] = (),
        agents: Mapping[str, DeclaredAgent] | Sequence[DeclaredAgent] = (),
        workflows: Mapping[str, Function[Json]] | None = None,
        toolsets: Mapping[str, Json] | None = None,
        default_toolsets: Sequence[str] | None = None,
        memory: Json = None,
        background_tasks: BackgroundConfig | None = None,
        input_processors: Sequence[Json] = (),
        output_processors: Sequence[Json] = (),
        max_steps: int = DEFAULT_MAX_STEPS,
        max_retries: int = 2,
        max_processor_retries: int = 3,
        default_options: Mapping[str, Json] | None = None,
        policies: Mapping[str, Policy] | None = None,
        scorers: Mapping[str, Json] | None = None,
        request_context_schema: object | None = None,
        version: str | None = None,
    ) -> None:
        self.id, self.name, self.description, self.instructions = id, name or id, description, instructions
        self.memory, self.background_tasks = memory, background_tasks
        self.max_steps, self.max_retries, self.max_processor_retries = max_steps, max_retries, max_processor_retries
        self.default_options, self.policies = dict(default_options or {}), dict(policies or {})
        self.tools, self.scorers, self.toolsets = tools_by_name(tools), scorers_of(scorers or {}), dict(toolsets or {})
        self.agents, self.workflows = _by_id(agents), dict(workflows or {})
        self.default_toolsets = list(self.toolsets if default_toolsets is None else default_toolsets)
        self.input_processors, self.output_processors = list(input_processors), list(output_processors)
        self.model_spec, self.models = model, resolve(model, max_retries)
        self._context_shape = None if request_context_schema is None else Shape(request_context_schema)
        self._check()
        self.version = version or DEFAULT_VERSION
        self.input_pipeline, self.output_pipeline = Pipeline(self.input_processors), Pipeline(self.output_processors)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    async def get_instructions(self, request_context: Mapping[str, Json] | None = None) -> list[str]:
        """The instructions for this request context, as the texts of the system prompt."""
        found: Json = self.instructions
        if callable(found):
            found = found(dict(request_context or {}))
            if inspect.isawaitable(found):
                found = await found
        texts = [found] if isinstance(found, str) else list(found or ())
        if not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"agent {self.id!r}", ["instructions: must give a text or a list of texts"])
        return [text for text in texts if text]

    def check_request_context(self, context: Mapping[str, Json]) -> None:
        """Raises `ShapeError` for a request context that is not as declared."""
        if self._context_shape is not None:
            try:
                self._context_shape.read(dict(context))
            except ShapeError as error:
                for fault in error.faults:
                    fault.path = f"request_context.{fault.path}"
                raise ShapeError(error.faults) from error

    def policy(self, name: str) -> Policy | None:
        """The registered policy of this name."""
        return self.policies.get(name)

    def tools_named(self, name: str) -> list[Tool]:
        """The tools of this name: the agent's, those of its registered toolsets, and those of agents below it."""
        found: list[Tool] = []
        seen: set[int] = set()
        left: list[DeclaredAgent] = [self]
        while left:
            agent = left.pop()
            if id(agent) not in seen:
                seen.add(id(agent))
                listed = [item for item in agent.toolsets.values() if isinstance(item, Mapping | list | tuple)]
                sources = [agent.tools, *map(tools_by_name, listed)]
                found += [source[name] for source in sources if name in source]
                left += agent.agents.values()
        return found

    def _check(self) -> None:
        problems = self._problems()
        if problems:
            raise ConfigError(f"agent {self.id!r}", problems)

    def _problems(self) -> list[str]:
        problems = [*bad_texts(self.name, self.description, self.instructions)]
        problems += bad_parts(self.agents, DeclaredAgent, self.workflows)
        processors = {name: getattr(self, name) for name in ("input_processors", "output_processors")}
        problems += bad_surroundings(self.memory, processors, self.policies, self.toolsets)
        problems += bad_options(self._read_defaults)
        if not _ID.fullmatch(str(self.id)) or len(self.id) > 120:
            problems.append(f"id: must be 1 to 120 letters and digits, in words joined by - _ or ., got {self.id!r}")
        for field in ("max_steps", "max_processor_retries"):
            value = getattr(self, field)
            least = int(field == "max_steps")
            if type(value) is not int or value < least:
                problems.append(f"{field}: must be a whole number, at least {least}, got {value!r}")
        problems += [
            f"default_toolsets: no toolset {name!r}; there are {', '.join(self.toolsets) or 'none'}"
            for name in self.default_toolsets
            if name not in self.toolsets
        ]
        problems += [] if self.background_tasks is None else self.background_tasks.problems()
        for found in self.tools.values():
            rule = found.requires_approval
            if isinstance(rule, str) and rule not in self.policies:
                problems.append(f"tools.{found.name}.requires_approval: no policy {rule!r} among policies=")
        return problems

    def _read_defaults(self) -> None:
        given = cast(RunKeywords, self.default_options)
        split_options(given, policies=self.policies, toolsets=self.toolsets)


def _by_id(agents: Mapping[str, DeclaredAgent] | Sequence[DeclaredAgent]) -> dict[str, DeclaredAgent]:
    if isinstance(agents, Mapping):
        return dict(agents)
    return {str(getattr(agent, "id", place)): agent for place, agent in enumerate(agents)}
