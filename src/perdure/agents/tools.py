"""Tools: what a model may have done, described for the model and for whoever carries it out.

A tool is made from a typed function (`@tool`) or from a JSON Schema and a callable (`Tool`). One without a callable is
a client tool: its calls end the run, and the caller brings their results.

Invariants: a tool's declaration is checked when it is made; it is never changed afterwards.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeAlias, overload

import msgspec

from perdure.agents.context import ToolContext
from perdure.agents.schemas import ROOT, Fault, Schema, Shape, ShapeError
from perdure.agents.signatures import Signature, signature_of
from perdure.model import values
from perdure.model.config import Duration
from perdure.model.durations import DurationError, parse_duration
from perdure.model.errors import ConfigError
from perdure.model.json import Json, decode
from perdure.model.limits import MAX_RETRIES

Executor: TypeAlias = Callable[[dict[str, Json], ToolContext], Json]
"""Carries a call out, given its arguments and its context: a plain function, or a coroutine function."""
ApprovalRule: TypeAlias = bool | str | Callable[..., Json]
"""Whether a call needs approval: always or never, a registered policy by name, or a function of the call."""
CrashPolicy: TypeAlias = Literal["retry", "at_most_once", "ask"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_POLICIES: Final = ("retry", "at_most_once", "ask")


class Background(msgspec.Struct, frozen=True):
    """How a tool's calls may run in the background: in time (ms), with how many retries, waited for or not."""

    disposition: Literal["deferred", "awaited", "foreground"] = "deferred"
    timeout: int | None = None
    retries: int | None = None


class Tool:
    """One tool. `name` is what models call it by; `input_schema` describes its arguments as one object.

    `execute` is None for a client tool. `requires_approval` is a bool, the name of a policy registered with the agent,
    or a function of `(args, ctx)` or `(args)`. `on_crash` says what becomes of a call whose process died in it: it is
    tried again (`retry`), told to the model as interrupted (`at_most_once`), or a person is asked (`ask`).
    `timeout` and `approval_timeout` are durations; `retries` are attempts after the first, before the error goes to
    the model. With `steps` the body runs beside the run's steps and may have its own (`ctx.step`); everything
    that it does outside of them is done again at replays. Raises `ConfigError`.

    >>> Tool("add", "Adds.", {"type": "object"}, lambda args, ctx: args["a"] + args["b"]).name
    'add'
    """

    def __init__(
        self,
        name: str,
        description: str,
        input_schema: object,
        execute: Executor | None = None,
        *,
        output_schema: object | None = None,
        requires_approval: ApprovalRule = False,
        approval_timeout: Duration | None = None,
        edit_args: bool = False,
        resume_schema: object | None = None,
        background: bool | Background = False,
        timeout: Duration | None = None,
        retries: int = 0,
        on_crash: CrashPolicy = "retry",
        steps: bool = False,
        sequential: bool = False,
        model_output: Callable[[Json], Json] | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.execute = execute
        self.requires_approval = requires_approval
        self.edit_args = edit_args
        self.background = Background() if background is True else background or None
        self.retries = retries
        self.on_crash: CrashPolicy = on_crash
        self.steps = steps
        self.sequential = sequential
        self.model_output = model_output
        self._input = input_schema if isinstance(input_schema, Signature) else Shape(input_schema)
        self._output = None if output_schema is None else Shape(output_schema)
        self._resume = None if resume_schema is None else Shape(resume_schema)
        problems = list(self._problems())
        self.timeout = _millis("timeout", timeout, problems)
        self.approval_timeout = _millis("approval_timeout", approval_timeout, problems)
        if problems:
            raise ConfigError(f"tool {name!r}", problems)

    def __repr__(self) -> str:
        return f"<Tool {self.name!r}>"

    @property
    def is_client_tool(self) -> bool:
        """Whether its calls are the caller's to carry out."""
        return self.execute is None

    @property
    def input_schema(self) -> Schema:
        """The JSON Schema of its arguments."""
        return self._input.schema

    @property
    def output_schema(self) -> Schema | None:
        """The JSON Schema of its results, where it is known."""
        return None if self._output is None else self._output.schema

    @property
    def resume_schema(self) -> Schema | None:
        """The JSON Schema of what a suspended call is resumed with, where it is declared."""
        return None if self._resume is None else self._resume.schema

    def read_args(self, args: Json) -> dict[str, Json]:
        """The arguments as the tool wants them. Raises `ShapeError`."""
        plain = {} if args is None else args
        if not isinstance(plain, dict):
            raise ShapeError([Fault("root", f"must be an object, got {plain!r}")])
        read: dict[str, Json] = self._input.read(plain)
        return read

    def read_resume(self, data: Json) -> Json:
        """Resume data as the tool wants it. Raises `ShapeError`."""
        return data if self._resume is None else self._resume.read(data)

    async def call(self, args: dict[str, Json], ctx: ToolContext) -> Json:
        """Carries out a call, plain functions in a thread; gives the result as plain JSON."""
        if self.execute is None:
            raise ConfigError(f"tool {self.name!r}", ["execute: a client tool is carried out by the caller"])
        if _is_async(self.execute):
            result = await self.execute(args, ctx)
        else:
            result = await asyncio.to_thread(self.execute, args, ctx)
            if inspect.isawaitable(result):
                result = await result
        return decode(values.encode(result, where=f"tool {self.name!r}"))

    def _problems(self) -> list[str]:
        problems = []
        if not _NAME.fullmatch(str(self.name)):
            problems.append(f"name: must be 1 to 128 letters, digits, or _ - . :, got {self.name!r}")
        if self.on_crash not in _POLICIES:
            problems.append(f"on_crash: must be one of {', '.join(_POLICIES)}, got {self.on_crash!r}")
        if type(self.retries) is not int or not 0 <= self.retries <= MAX_RETRIES:
            problems.append(f"retries: must be 0 to {MAX_RETRIES}, got {self.retries!r}")
        elif self.retries and self.on_crash != "retry":
            problems.append(f"retries: a tool with on_crash={self.on_crash!r} is not tried again: leave it at 0")
        if self.steps and (self.execute is None or not _is_async(self.execute)):
            problems.append("steps: only a coroutine function can have steps: make it async def")
        if self.steps and self.on_crash != "retry":
            problems.append("on_crash: the body of a tool with steps is replayed: its steps are what is done once")
        return problems


@overload
def tool(function: Callable[..., Json], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    input_schema: object | None = None,
    output_schema: object | None = None,
    requires_approval: ApprovalRule = False,
    approval_timeout: Duration | None = None,
    edit_args: bool = False,
    resume_schema: object | None = None,
    background: bool | Background = False,
    timeout: Duration | None = None,
    retries: int = 0,
    on_crash: CrashPolicy = "retry",
    steps: bool = False,
    sequential: bool = False,
    model_output: Callable[[Json], Json] | None = None,
) -> Callable[[Callable[..., Json]], Tool]: ...
def tool(
    function: Callable[..., Json] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    input_schema: object | None = None,
    **options: Json,
) -> Tool | Callable[[Callable[..., Json]], Tool]:
    """Makes a tool from a typed function; options are those of `Tool`.

    The name is the function's, the description its docstring, and the schema comes from its annotations. A parameter
    annotated `ToolContext` (or named `ctx`) is given the context. With `input_schema` the function takes the arguments
    as one dict. Raises `ConfigError`.

    >>> @tool(requires_approval=True)
    ... def refund(order: str, cents: int = 0) -> dict[str, int]:
    ...     "Pays an order back."
    ...     return {"cents": cents}
    >>> refund.name, refund.description, refund.input_schema["required"]
    ('refund', 'Pays an order back.', ['order'])
    """

    def make(target: Callable[..., Json]) -> Tool:
        return _from_function(target, name, description, input_schema, options)

    return make if function is None else make(function)


def client_tool(name: str, description: str, input_schema: object) -> Tool:
    """A tool that the caller of the run carries out."""
    return Tool(name, description, input_schema)


def tools_by_name(
    tools: Sequence[Tool | Callable[..., Json]] | Mapping[str, Tool | Callable[..., Json]],
) -> dict[str, Tool]:
    """Tools under the names that models call them by: a mapping's keys, or their own. Raises `ConfigError`."""
    if isinstance(tools, Mapping):
        return {name: renamed(_tool_of(found), name) for name, found in tools.items()}
    named: dict[str, Tool] = {}
    for item in tools:
        found = _tool_of(item)
        if found.name in named:
            raise ConfigError("tools", [f"{found.name}: is there twice: give one another name"])
        named[found.name] = found
    return named


def _tool_of(item: Tool | Callable[..., Json]) -> Tool:
    if isinstance(item, Tool):
        return item
    if not callable(item):
        raise ConfigError("tools", [f"{item!r}: must be a function or a Tool"])
    return tool(item)


def renamed(found: Tool, name: str) -> Tool:
    """The same tool under another name."""
    if found.name == name:
        return found
    copy = object.__new__(Tool)
    copy.__dict__ = {**found.__dict__, "name": name}
    return copy


def _from_function(
    function: Callable[..., Json],
    name: str | None,
    description: str | None,
    input_schema: object | None,
    options: dict[str, Json],
) -> Tool:
    found_name: str = name or getattr(function, "__name__", None) or type(function).__name__
    text = description or inspect.getdoc(function) or ""
    if input_schema is not None:
        wants_context = len(inspect.signature(function).parameters) > 1
        execute = function if wants_context else _without_context(function)
        return Tool(found_name, text, input_schema, execute, **options)
    signature = signature_of(function, ToolContext)
    return Tool(found_name, description or signature.description, signature, _spread(function, signature), **options)


def _without_context(function: Callable[..., Json]) -> Executor:
    if _is_async(function):

        async def call_async(args: dict[str, Json], ctx: ToolContext) -> Json:
            return await function(args)

        return call_async
    return lambda args, ctx: function(args)


def _spread(function: Callable[..., Json], signature: Signature) -> Executor:
    def arguments(args: dict[str, Json], ctx: ToolContext) -> dict[str, Json]:
        return {**args, signature.context: ctx} if signature.context is not None else args

    if _is_async(function):

        async def call_async(args: dict[str, Json], ctx: ToolContext) -> Json:
            return await function(**arguments(args, ctx))

        return call_async
    return lambda args, ctx: function(**arguments(args, ctx))


def _is_async(function: Callable[..., Json]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _millis(field: str, value: Duration | None, problems: list[str]) -> int | None:
    if value is None:
        return None
    try:
        millis = parse_duration(value)
    except DurationError as error:
        problems.append(f"{field}: {error}")
        return None
    if millis <= 0:
        problems.append(f"{field}: must be more than 0, got {value!r}")
    return millis


def input_refusal(name: str, args: Json, error: ShapeError) -> dict[str, Json]:
    """The result of a call whose arguments do not fit: no error of the run, for the model can mend it.

    `validationErrors` is a tree: what is wrong with a value (`errors`), and with those in it (`fields`).
    """
    listed = "\n".join(f"- {fault}" for fault in error.faults)
    shown = json.dumps(args, indent=2, ensure_ascii=False)
    tree: dict[str, Json] = {"errors": [], "fields": {}}
    for fault in error.faults:
        place = tree
        for field in () if fault.path == ROOT else fault.path.split("."):
            place = place["fields"].setdefault(field, {"errors": [], "fields": {}})
        place["errors"].append(fault.message)
    return {
        "error": True,
        "message": (
            f"Tool input validation failed for {name}. Please fix the following errors and try again:\n{listed}\n\n"
            f"Provided arguments: {shown}"
        ),
        "validationErrors": tree,
    }
