"""The options of a run: what is data and travels with it, what is a named policy, and what belongs to the caller.

`RunOptions` is stored with the run. Policies (`stop_when`, `prepare_step`, `require_tool_approval`,
`on_iteration_complete`) are functions; in a durable run they must be registered with the agent, and the run stores
their names. `Callbacks` belong to the reader that passed them and never reach the run.

Invariant: nothing that is not JSON is in `RunOptions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypedDict

import msgspec

from perdure.agents.background.config import bad_until_idle
from perdure.agents.errors import AgentError
from perdure.agents.models import ModelError, resolve
from perdure.agents.schemas import Shape
from perdure.agents.tools import Tool, client_tool
from perdure.model.json import Json

Policy: TypeAlias = Callable[..., Json]
"""A function that decides something about a run; a plain one or a coroutine function."""
Callback: TypeAlias = Callable[[Json], Json]
ErrorStrategy: TypeAlias = Literal["strict", "warn", "fallback"]

_LEAST: Final = {"max_steps": 1, "tool_call_concurrency": 1, "repeated_call_limit": 2, "max_processor_retries": 0}
POLICIES: Final = ("stop_when", "prepare_step", "require_tool_approval", "on_iteration_complete")
CALLBACKS: Final = ("on_chunk", "on_step_finish", "on_finish", "on_error", "on_suspended", "on_abort")


class OptionError(AgentError, ValueError):
    """An option cannot be taken; the text names it and the fix."""

    status = 400


class NonPortableOptionError(OptionError):
    """A durable run was given a function that only this process has, and is strict."""


class NonPortableOptionWarning(UserWarning):
    """A durable run was given a function that only this process has: another one goes on without it."""


class StructuredOutput(msgspec.Struct, rename="camel", omit_defaults=True):
    """What shape the answer must have. `schema` is a JSON Schema.

    An answer that does not fit fails the run (`strict`), is let through without an object (`warn`), or is replaced by
    `fallback_value` (`fallback`). With `model` a second model makes the object of the first one's text.
    """

    schema: dict[str, Json]
    error_strategy: ErrorStrategy = "strict"
    fallback_value: Json = None
    instructions: str | None = None
    model: str | None = None
    mode: Literal["auto", "native", "prompted", "tool"] = "auto"


class RunOptions(msgspec.Struct, rename="camel", omit_defaults=True):
    """The options of a run that are data. Field names are camelCase in JSON.

    `max_steps` None means the agent's (5 by default). `require_tool_approval` is a bool, or a policy's name, like
    `stop_when`, `prepare_step` and `on_iteration_complete`. `client_tools` are `{name: {description, inputSchema}}`;
    `toolsets` are names of those registered with the agent. `tool_call_concurrency` is 10 by default.
    `repeated_call_limit`: how often the same call may be made in a row before it is refused.
    `auto_resume_suspended_tools` lets the model call a tool that suspended in an earlier run of the thread again, with
    the user's answer; what that run had asked is closed then. `scorers` are names of the agent's, each with its share
    of runs from 0 to 1; None means all of them.
    """

    instructions: str | None = None
    system: list[str] = []
    context: list[Json] = []
    memory: dict[str, Json] | None = None
    request_context: dict[str, Json] = {}
    max_steps: int | None = None
    active_tools: list[str] | None = None
    tool_choice: Json = "auto"
    model: Json = None
    model_settings: dict[str, Json] = {}
    provider_options: dict[str, Json] = {}
    headers: dict[str, str] = {}
    require_tool_approval: bool | str = False
    tool_call_concurrency: int = 10
    repeated_call_limit: int | None = 5
    include_raw_chunks: bool = False
    max_processor_retries: int | None = None
    structured_output: StructuredOutput | None = None
    client_tools: dict[str, dict[str, Json]] = {}
    toolsets: list[str] = []
    stop_when: str | None = None
    prepare_step: str | None = None
    on_iteration_complete: str | None = None
    auto_resume_suspended_tools: bool = False
    until_idle: Json = False
    scorers: dict[str, float] | None = None

    def to_json(self) -> dict[str, Json]:
        """As it is stored; defaults are left out."""
        plain: dict[str, Json] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_json(cls, plain: Json) -> RunOptions:
        """Options from JSON; unknown fields are ignored. Raises `OptionError` naming the field."""
        try:
            options = msgspec.convert(plain, cls)
        except msgspec.ValidationError as error:
            # "$.maxSteps": which field it is comes after the text.
            text, _, path = str(error).partition(" - at `$.")
            raise OptionError(f"{path.rstrip('`') or 'options'}: {text}") from error
        options.check()
        return options

    def check(self) -> None:
        """Raises `OptionError` for a value out of its range."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name}: must be at least {least}, got {value}")
        if (fault := bad_until_idle(self.until_idle)) is not None:
            raise OptionError(f"until_idle: {fault}")
        _check_model(self.model)
        for name, rate in (self.scorers or {}).items():
            if not 0 <= rate <= 1:
                raise OptionError(f"scorers.{name}: must be a share of runs from 0 to 1, got {rate}")
        choice = self.tool_choice
        named = isinstance(choice, dict) and choice.get("type") == "tool" and isinstance(choice.get("toolName"), str)
        if choice not in ("auto", "none", "required") and not named:
            raise OptionError(
                'tool_choice: must be "auto", "none", "required" or {"type": "tool", "toolName": ...}, '
                f"got {choice!r}"
            )

    def client_tools_by_name(self) -> dict[str, Tool]:
        """The tools that the caller carries out. The model sees the keys, by which the caller looks them up."""
        found = {}
        for name, declared in self.client_tools.items():
            schema = declared.get("inputSchema") or declared.get("parameters") or {"type": "object"}
            found[name] = client_tool(name, declared.get("description") or "", schema)
        return found


def _check_model(model: Json) -> None:
    """Options may come from anywhere: a name is theirs to choose, the address that a model is asked at is not."""
    for item in model if isinstance(model, list) else [model]:
        named = item.get("model") if isinstance(item, dict) and "model" in item else item
        if named is not None and not isinstance(named, str):
            raise OptionError(f'model: must be "provider/model", or a list of models by name, got {named!r}')
    if model is not None:
        try:
            resolve(model)
        except ModelError as error:
            raise OptionError(str(error)) from error


@dataclass
class Callbacks:
    """What a caller wants to hear of a run; each is called once for each event that its reader reads."""

    on_chunk: Callback | None = None
    on_step_finish: Callback | None = None
    on_finish: Callback | None = None
    on_error: Callback | None = None
    on_suspended: Callback | None = None
    on_abort: Callback | None = None

    def any(self) -> bool:
        """Whether there is one."""
        return any(getattr(self, name) is not None for name in CALLBACKS)


@dataclass
class Closures:
    """Functions and objects that were given to this run and that only this process has."""

    policies: dict[str, Policy] = field(default_factory=dict)
    tools: dict[str, Tool] = field(default_factory=dict)
    toolsets: list[Json] = field(default_factory=list)
    model: Json = None
    output_shape: Shape | None = None

    def names(self) -> list[str]:
        """The options that they came by."""
        found = list(self.policies)
        found += [name for name in ("tools", "toolsets", "model") if getattr(self, name)]
        return found


class RunKeywords(TypedDict, total=False):
    """What `Agent.generate` and `Agent.stream` take by name; see `RunOptions` for what each means."""

    run_id: str | None
    instructions: str | None
    system: str | list[str] | None
    context: list[Json] | None
    memory: dict[str, Json] | None
    request_context: Mapping[str, Json] | None
    max_steps: int | None
    active_tools: list[str] | None
    tool_choice: Json
    model: Json
    model_settings: dict[str, Json] | None
    provider_options: dict[str, Json] | None
    headers: dict[str, str] | None
    require_tool_approval: bool | str | Policy
    tool_call_concurrency: int
    repeated_call_limit: int | None
    include_raw_chunks: bool
    max_processor_retries: int | None
    structured_output: Json
    client_tools: Json
    toolsets: Json
    stop_when: str | Policy | None
    prepare_step: str | Policy | None
    on_iteration_complete: str | Policy | None
    auto_resume_suspended_tools: bool
    until_idle: Json
    scorers: Json
    on_chunk: Callback | None
    on_step_finish: Callback | None
    on_finish: Callback | None
    on_error: Callback | None
    on_suspended: Callback | None
    on_abort: Callback | None
