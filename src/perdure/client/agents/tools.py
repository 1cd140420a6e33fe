"""Tools that the caller carries out: plain or `async` functions, told to the model, and called here.

A function's name, docstring and parameters are what the model is told; the arguments that it gives are converted to the
annotated types. Invariant: a tool that fails fails the call, not the run: the model is told what went wrong.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, cast, get_type_hints

import msgspec

from perdure.model import values
from perdure.model.errors import ConfigError
from perdure.model.json import Json

ToolFunction: TypeAlias = Callable[..., Json]
"""A plain function, which runs in a thread, or a coroutine function."""
_KEYWORDS: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class ClientTool:
    """A tool of the caller. `input_schema`: a JSON Schema, instead of the one that the parameters give.

    >>> def change_color(color: str) -> bool:
    ...     '''Changes the color of the page.'''
    ...     return True
    >>> ClientTool(change_color).input_schema["properties"]
    {'color': {'type': 'string'}}
    """

    def __init__(
        self,
        function: ToolFunction | None,
        *,
        name: str | None = None,
        description: str | None = None,
        input_schema: dict[str, Json] | None = None,
    ) -> None:
        found = name or getattr(function, "__name__", None)
        if not found:
            raise ConfigError("a client tool", ["name: is missing"])
        self.name: str = found
        self.description = description or inspect.getdoc(function) or ""
        self._function = function
        self._arguments = _arguments(found, function) if function is not None and input_schema is None else None
        self.input_schema = input_schema or _schema(self._arguments)

    @property
    def is_callable(self) -> bool:
        """Whether it is carried out here; one without a function is left to the program."""
        return self._function is not None

    def to_json(self) -> dict[str, Json]:
        """As the server is told of it."""
        return {"id": self.name, "description": self.description, "inputSchema": self.input_schema}

    async def call(self, args: Json) -> Json:
        """Carries a call out; what it returns is made plain JSON."""
        if self._function is None:
            raise ConfigError(f"client tool {self.name!r}", ["it has no function"])
        given = dict(args or {})
        if self._arguments is not None:
            converted = msgspec.convert(given, self._arguments)
            # What the model has left out keeps the function's own default.
            given = {key: getattr(converted, key) for key in self._arguments.__struct_fields__ if key in given}
        if inspect.iscoroutinefunction(self._function):
            result: Json = await self._function(**given)
        else:
            result = await asyncio.to_thread(self._function, **given)
        return values.decode(values.encode(result, where="result"), None, where="result")


ClientTools: TypeAlias = "Iterable[ToolFunction | ClientTool] | Mapping[str, ToolFunction | ClientTool]"
"""Tools of the caller: functions, or tools, by name where they have none."""


def tools_by_name(given: ClientTools) -> dict[str, ClientTool]:
    """The tools, by the names under which the model calls them. Raises `ConfigError`."""
    if isinstance(given, Mapping):
        named = cast("Mapping[str, ToolFunction | ClientTool]", given)
        return {name: _tool(each, name) for name, each in named.items()}
    return {tool.name: tool for tool in map(_tool, given)}


def _tool(given: ToolFunction | ClientTool, name: str | None = None) -> ClientTool:
    return given if isinstance(given, ClientTool) else ClientTool(given, name=name)


def _arguments(name: str, function: ToolFunction) -> type[msgspec.Struct] | None:
    """The arguments of a function as a struct; None for one that takes whatever comes."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    hints = get_type_hints(function)
    fields: list[Json] = []
    for parameter in parameters:
        if parameter.kind not in _KEYWORDS:
            raise ConfigError(f"client tool {name!r}", [f"{parameter.name}: must be a parameter with a name"])
        kind = hints.get(parameter.name, object)
        kind = Json if kind is object else kind
        required = parameter.default is inspect.Parameter.empty
        # The model is told what it may leave out; the default itself may be anything.
        fields.append((parameter.name, kind) if required else (parameter.name, kind, msgspec.field(default=None)))
    return msgspec.defstruct(name, fields, kw_only=True)


def _schema(arguments: type[msgspec.Struct] | None) -> dict[str, Json]:
    if arguments is None:
        return {"type": "object"}
    (shown,), parts = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    own = shown["$ref"].rpartition("/")[2]
    schema: dict[str, Json] = {key: value for key, value in parts.pop(own).items() if key != "title"}
    for each in schema.get("properties", {}).values():
        each.pop("default", None)
    return {**schema, "$defs": parts} if parts else schema
