"""Signatures: what a function says about its arguments, as the schema that a model is shown.

Types come from annotations, what a parameter is for from `Annotated[..., "text"]` or from the docstring's `Args:`.
A parameter annotated `ToolContext`, or named `ctx` without an annotation, is no argument: it is given the context.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Final

import msgspec

from perdure.agents.schemas import Fault, Schema, Shape, ShapeError, hoisted
from perdure.model.errors import ConfigError
from perdure.model.json import Json

_ARGS: Final = re.compile(r"^\s*(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
_ARG: Final = re.compile(r"^\s+\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.+)$")


class Parameter(msgspec.Struct):
    """One argument: its name, shape, and whether it must be given."""

    name: str
    shape: Shape
    required: bool
    description: str | None


class Signature(msgspec.Struct):
    """All arguments of a function, and the name of the parameter that takes the context, if any."""

    parameters: list[Parameter]
    context: str | None
    description: str

    @property
    def schema(self) -> Schema:
        """A JSON Schema of the arguments as one object."""
        definitions: Schema = {}
        properties: Schema = {}
        for parameter in self.parameters:
            found = hoisted(parameter.shape.schema, definitions)
            if parameter.description is not None:
                found["description"] = parameter.description
            properties[parameter.name] = found
        schema: Schema = {"type": "object", "properties": properties}
        required = [parameter.name for parameter in self.parameters if parameter.required]
        if required:
            schema["required"] = required
        schema["additionalProperties"] = False
        if definitions:
            schema["$defs"] = definitions
        return schema

    def read(self, args: dict[str, Json]) -> dict[str, Json]:
        """The arguments as the annotations ask for. Raises `ShapeError`."""
        faults: list[Fault] = []
        known = {parameter.name for parameter in self.parameters}
        for name in args.keys() - known:
            faults.append(Fault(name, f"is no argument; there are {', '.join(sorted(known)) or 'none'}"))
        read: dict[str, Json] = {}
        for parameter in self.parameters:
            if parameter.name not in args:
                if parameter.required:
                    faults.append(Fault(parameter.name, "is required"))
                continue
            try:
                read[parameter.name] = parameter.shape.read(args[parameter.name])
            except ShapeError as error:
                faults += [_under(parameter.name, fault) for fault in error.faults]
        if faults:
            raise ShapeError(faults)
        return read


def signature_of(function: Callable[..., Json], context_type: type) -> Signature:
    """The signature of a function as a tool. Raises `ConfigError` for what no model can be shown.

    >>> def weather(city: str, days: int = 1) -> str:
    ...     "The weather of the next days."
    >>> signature_of(weather, type).schema["required"]
    ['city']
    """
    subject = f"tool {getattr(function, '__name__', function)!r}"
    hints = _hints(function, subject)
    document = inspect.getdoc(function) or ""
    text, about = _documented(document)
    parameters: list[Parameter] = []
    context: str | None = None
    for name, found in inspect.signature(function).parameters.items():
        kind = hints.get(name, found.annotation)
        if kind is context_type or (name == "ctx" and found.annotation is found.empty):
            context = name
            continue
        if found.kind in (found.VAR_POSITIONAL, found.VAR_KEYWORD, found.POSITIONAL_ONLY):
            raise ConfigError(subject, [f"{name}: must be a parameter that can be given by name"])
        if kind is found.empty:
            raise ConfigError(subject, [f"{name}: has no annotation, so no schema can be made: annotate it"])
        description = _note(kind) or about.get(name)
        parameters.append(Parameter(name, Shape(_bare(kind)), found.default is found.empty, description))
    signature = Signature(parameters, context, text)
    _ = signature.schema
    return signature


def _hints(function: Callable[..., Json], subject: str) -> dict[str, Json]:
    target = inspect.unwrap(function)
    if not inspect.isfunction(target) and not inspect.ismethod(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, localns=_around(target) | _enclosed(target), include_extras=True)
    except Exception as error:
        # Annotations are text written by the user, and evaluating them may fail in any way.
        raise ConfigError(subject, [f"annotations: cannot be read ({error}): import the types at run time"]) from error


def _around(function: Json) -> dict[str, Json]:
    """What is local to the functions around it that are still running: annotations that are texts may name it."""
    names = function.__qualname__.split(".<locals>")[:-1]
    found: dict[str, Json] = {}
    frame = inspect.currentframe()
    while frame is not None and names:
        outer = ".<locals>".join(names)
        if frame.f_code.co_qualname == outer and frame.f_globals is function.__globals__:
            found = {**frame.f_locals, **found}
            names.pop()
        frame = frame.f_back
    return found


def _enclosed(function: Json) -> dict[str, Json]:
    """What the function uses of those around it; what is defined only after it is not there yet."""
    found: dict[str, Json] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _note(kind: Json) -> str | None:
    for item in getattr(kind, "__metadata__", ()):
        text = item if isinstance(item, str) else getattr(item, "documentation", None)
        if isinstance(text, str):
            return text
    return None


def _bare(kind: Json) -> Json:
    """The annotation without texts, which are descriptions."""
    metadata = getattr(kind, "__metadata__", ())
    rest = tuple(item for item in metadata if not isinstance(item, str))
    if len(rest) == len(metadata):
        return kind
    return typing.Annotated[(kind.__origin__, *rest)] if rest else kind.__origin__


def _documented(document: str) -> tuple[str, dict[str, str]]:
    """A docstring as the text before its `Args:`, and what that says about each."""
    head = _ARGS.search(document)
    if head is None:
        return document.strip(), {}
    about: dict[str, str] = {}
    for line in document[head.end() :].strip("\n").splitlines():
        if line and not line[0].isspace():
            break
        if found := _ARG.match(line):
            about[found[1]] = found[2].strip()
    return document[: head.start()].strip(), about


def _under(name: str, fault: Fault) -> Fault:
    return Fault(name if fault.path == "root" else f"{name}.{fault.path}", fault.message)
