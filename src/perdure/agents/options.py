"""The options of a run: what is data and travels with it, what is a named policy, and what belongs to the caller.

`RunOptions` is stored with the run. Policies (`stop_when`, `prepare_step`, `require_tool_approval`,
`on_iteration_complete`) are functions; in a durable run they must be registered with the agent, and the run stores
their names. `Callbacks` belong to the reader that passed them and never reach the run.

Invariant: nothing that is not JSON is in `RunOptions`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias, TypedDict

import msgspec

from perdure.agents.background.config import bad_until_idle
from perdure.agents.errors import AgentError
from perdure.agents.schemas import Shape
from perdure.agents.tools import Tool, client_tool, tools_by_name
from perdure.model.json import Json

Policy: TypeAlias = Callable[..., Json]
"""A function that decides something about a run; a plain one or a coroutine function."""
Callback: TypeAlias = Callable[[Json], Json]
ErrorStrategy: TypeAlias = Literal["strict", "warn", "fallback"]

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
    `auto_resume_suspended_tools` lets the model call a tool that suspended in an earlier turn again, with the user's
    answer; what that turn had asked stays open.
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
            raise OptionError(f"options: {error}") from error
        options.check()
        return options

    def check(self) -> None:
        """Raises `OptionError` for a value out of its range."""
        for name, least in (("max_steps", 1), ("tool_call_concurrency", 1), ("repeated_call_limit", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name}: must be at least {least}, got {value}")
        if (fault := bad_until_idle(self.until_idle)) is not None:
            raise OptionError(f"until_idle: {fault}")
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
    on_chunk: Callback | None
    on_step_finish: Callback | None
    on_finish: Callback | None
    on_error: Callback | None
    on_suspended: Callback | None
    on_abort: Callback | None


@dataclass
class SplitOptions:
    """The three kinds of options, apart; and the run id that was asked for."""

    data: RunOptions
    callbacks: Callbacks
    closures: Closures
    run_id: str | None


def split_options(
    keywords: RunKeywords,
    *,
    policies: Mapping[str, Policy],
    toolsets: Mapping[str, Json],
    durable: bool = False,
    strict: bool = False,
) -> SplitOptions:
    """The options of a call, checked and taken apart.

    A function that is registered in `policies` becomes its name. Any other is a closure: in a durable run it is warned
    of (`NonPortableOptionWarning`), or refused where the run is strict. Raises `OptionError`.
    """
    given: dict[str, Json] = {name: value for name, value in keywords.items() if value is not None}
    for name in given.keys() - RunKeywords.__annotations__.keys():
        near = get_close_matches(name, RunKeywords.__annotations__, n=1)
        raise OptionError(f"{name}: is no option" + (f"; did you mean {near[0]}?" if near else ""))
    callbacks = Callbacks(**{name: given.pop(name) for name in CALLBACKS if name in given})
    closures = Closures()
    run_id = given.pop("run_id", None)
    if run_id is not None and (not isinstance(run_id, str) or not 0 < len(run_id) <= 256):
        raise OptionError(f"run_id: must be a text of 1 to 256 characters, got {run_id!r}")
    _name_policies(given, policies, closures)
    _split_objects(given, toolsets, closures)
    if durable:
        _warn(closures, strict)
    return SplitOptions(RunOptions.from_json(_camel(given)), callbacks, closures, run_id)


def _name_policies(given: dict[str, Json], policies: Mapping[str, Policy], closures: Closures) -> None:
    for option in POLICIES:
        value = given.get(option)
        if isinstance(value, str) and value not in policies:
            known = ", ".join(sorted(policies)) or "none"
            raise OptionError(f"{option}: no policy {value!r} is registered with the agent; there are: {known}")
        if callable(value):
            name = next((name for name, known in policies.items() if known is value), None)
            if name is None:
                # The run's data names the option itself: `Closures` knows the function under that name.
                name = f"@{option}"
                closures.policies[name] = value
            given[option] = name


def _split_objects(given: dict[str, Json], toolsets: Mapping[str, Json], closures: Closures) -> None:
    if isinstance(given.get("system"), str):
        given["system"] = [given["system"]]
    if "request_context" in given:
        given["request_context"] = dict(given["request_context"])
    model = given.get("model")
    if model is not None and not _plain(model):
        closures.model = given.pop("model")
    if "client_tools" in given:
        given["client_tools"] = _client_tools(given["client_tools"])
    if "structured_output" in given:
        given["structured_output"] = _structured(given["structured_output"], closures)
    if "toolsets" in given:
        given["toolsets"] = _toolsets(given["toolsets"], toolsets, closures)


def _plain(value: Json) -> bool:
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    return value is None or isinstance(value, str | int | float | bool)


def _client_tools(value: Json) -> dict[str, Json]:
    if isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        return {name: dict(item) for name, item in value.items()}
    found = tools_by_name(value)
    return {name: {"description": item.description, "inputSchema": item.input_schema} for name, item in found.items()}


def _structured(value: Json, closures: Closures) -> dict[str, Json]:
    if isinstance(value, StructuredOutput):
        plain: dict[str, Json] = msgspec.to_builtins(value)
        return plain
    options = dict(value) if isinstance(value, Mapping) and "schema" in value else {"schema": value}
    if not isinstance(options["schema"], Mapping):
        closures.output_shape = Shape(options["schema"])
        options["schema"] = closures.output_shape.schema
    return _camel(options)


def _toolsets(value: Json, registered: Mapping[str, Json], closures: Closures) -> list[str]:
    """Names of registered toolsets; tools and toolsets given as objects are closures."""
    names: list[str] = []
    items = value.values() if isinstance(value, Mapping) else value
    for item in items:
        if isinstance(item, str):
            if item not in registered:
                raise OptionError(f"toolsets: none {item!r} is registered with the agent: Agent(toolsets={{...}})")
            names.append(item)
        elif isinstance(item, Mapping | list | tuple):
            closures.tools |= tools_by_name(item)
        else:
            name = next((name for name, known in registered.items() if known is item), None)
            if name is None:
                closures.toolsets.append(item)
            else:
                names.append(name)
    return names


def _warn(closures: Closures, strict: bool) -> None:
    names = [name.removeprefix("@") for name in closures.names()]
    if not names:
        return
    listed = ", ".join(names)
    text = (
        f"{listed}: a durable run may move to another process, which does not have what was given here; "
        "register it with the agent (policies=, toolsets=, tools=), or give data"
    )
    if strict:
        raise NonPortableOptionError(text)
    warnings.warn(NonPortableOptionWarning(text), stacklevel=4)


def _camel(given: Mapping[str, Json]) -> dict[str, Json]:
    return {_camel_name(name): value for name, value in given.items()}


def _camel_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
