"""The arguments of an exposed operation: what its document declares, and what follows from what it calls.

Many documents declare no arguments where they are exposed. What `with` refers to, what stands in the paths, and what
the called operation declares are arguments then; an operation that sends something takes a `body`. A caller's values
are checked against the arguments before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec

from perdure.capability import references
from perdure.capability.model import Action, Capability, ConsumedOperation, Exposure, Parameter
from perdure.capability.requests import WITH_BODY, RawBody, find
from perdure.capability.templates import TemplateError, names, path_names
from perdure.model.json import Json
from perdure.server.mcp.portable import portable

_NO_BODY = frozenset({"cancel", "pause", "resume", "stop", "start", "archive", "unarchive", "retry"})
"""Last words of paths that ask for something to be done, and take nothing."""


_IN_BODY = {"body": "object"}


class Argument(msgspec.Struct, kw_only=True):
    """An argument: where REST takes it from, and its JSON schema."""

    name: str
    place: str
    schema: dict[str, Json]
    required: bool
    inferred: bool = False
    """Whether it is not declared where it is exposed."""


def arguments(capability: Capability, exposure: Exposure, action: Action, path: str = "") -> list[Argument]:
    """The arguments of an action; `path` is its route, where it has one."""
    return _Collecting(capability, exposure, action, path).collect()


class _Collecting:
    def __init__(self, capability: Capability, exposure: Exposure, action: Action, path: str) -> None:
        self._capability = capability
        self._exposure = exposure
        self._action = action
        self._in_path = {name.lower(): name for name in _safe(path_names, path)}
        self._found: dict[str, Argument] = {}

    def collect(self) -> list[Argument]:
        for parameter in self._action.inputs:
            self._declare(parameter)
        for name in self._in_path.values():
            self._add(name, "path", {"type": "string"}, True)
        for call, given in self._calls():
            target = references.operation(self._capability, call)
            if target is not None:
                self._follow(target[1], given, whole=bool(self._action.call))
        if not self._action.call and not self._action.steps:
            for output in self._action.outputs:
                for name in _safe(names, output.value if isinstance(output.value, str) else ""):
                    self._add(name, "query", {"type": "string"}, True)
        return list(self._found.values())

    def _calls(self) -> Iterable[tuple[str, dict[str, Json]]]:
        if self._action.call:
            yield self._action.call, self._action.arguments
        for step in self._action.steps:
            if step.call:
                yield step.call, step.arguments

    def _declare(self, parameter: Parameter) -> None:
        if parameter.value is not None:
            return
        place = "path" if parameter.name.lower() in self._in_path else parameter.place or "query"
        self._found[parameter.name.lower()] = Argument(
            name=parameter.name, place=place, schema=_schema(parameter), required=self._is_required(parameter, place)
        )

    def _is_required(self, parameter: Parameter, place: str) -> bool:
        """A tool's argument is required by default; not so where the document says `required: true` elsewhere."""
        if parameter.required is not None:
            return parameter.required
        if self._exposure.kind == "rest":
            return place == "path"
        return not self._capability.explicit_required

    def _follow(self, called: ConsumedOperation, given: dict[str, Json], *, whole: bool) -> None:
        """Adds what a called operation needs, and `with` leads to an argument or says nothing of."""
        in_path = _safe(path_names, called.path)
        declared = {each.name.lower(): each for each in called.inputs}
        undeclared = [name for name in in_path if name.lower() not in declared]
        consumed = [*called.inputs, *(Parameter(name=name, place="path", type="string") for name in undeclared)]
        known = references.prefixes(self._exposure, self._capability.flows)
        steps = {step.name for step in self._action.steps}
        for name, value in given.items():
            target = declared.get(name.lower()) or Parameter(name=name, place="path" if name in in_path else "")
            argument = references.argument(value, known - steps)
            if argument is not None:
                self._infer(argument, target)
            for each in self._asked(value, steps):
                self._infer(each, target if _is_only(value, each) else Parameter(name=each, required=True))
        by_lower = {name.lower() for name in given}
        for parameter in consumed:
            needed = parameter.required or parameter.place == "path"
            # What is typed on the consumed side is meant for callers; what is bare is, too, where nothing else is said.
            silent = not self._action.inputs and not given
            meant = needed or (whole and (silent or bool(parameter.type or parameter.schema)))
            if parameter.value is None and meant and parameter.name.lower() not in by_lower:
                self._infer(parameter.name, parameter)
        for each in self._asked(called.body.data, steps) if whole and called.body is not None else ():
            if each.lower() not in by_lower:
                self._infer(
                    each, Parameter(name=each, place="body", type=_IN_BODY.get(each.lower(), ""), required=True)
                )
        if whole and _takes_body(called, given):
            self._add("body", "body", {"type": ["object", "array"], "description": "The body, as JSON."}, False)

    def _asked(self, value: Json, steps: Collection[str]) -> Iterator[str]:
        """The names in a template that only a caller can fill in; none where the document declares who gives what."""
        if self._action.inputs:
            return
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                yield from self._asked(each, steps)
        for name in _safe(names, value) if isinstance(value, str) else ():
            first, _, rest = name.partition(".")
            known = references.prefixes(self._exposure, self._capability.flows)
            if rest and first in known and first not in steps:
                yield rest
            elif not rest and not any(name in bind.keys for bind in self._capability.binds):
                yield name

    def _infer(self, name: str, target: Parameter) -> None:
        place = target.place if target.place in ("header", "cookie", "body") else "query"
        if name.lower() == "body" and target.place in ("", "body"):
            place = "body"
        schema = _schema(target, place)
        if place == "body" and schema.get("type") == "object":
            # An event may come alone, or in an array.
            schema["type"] = ["object", "array"]
        schema.setdefault("description", target.description or name)
        self._add(name, place, schema, bool(target.required) or target.place == "path")

    def _add(self, name: str, place: str, schema: dict[str, Json], required: bool) -> None:
        found = self._found.get(name.lower())
        if found is None:
            place = "path" if name.lower() in self._in_path else place
            self._found[name.lower()] = Argument(
                name=name, place=place, schema=schema, required=required or place == "path", inferred=True
            )
        elif found.inferred:
            # A path may write a name in lower case, and what refers to it knows how it is meant.
            found.schema = {**schema, **found.schema} if "description" in found.schema else schema
            if found.place != "path":
                found.name = name
            found.required = found.required or required


def _is_only(value: Json, name: str) -> bool:
    """Whether a template is nothing but a name, and so is of the type of what it stands for."""
    return isinstance(value, str) and value.replace(" ", "") == f"{{{{{name}}}}}"


def _takes_body(called: ConsumedOperation, given: dict[str, Json]) -> bool:
    if called.method not in WITH_BODY or called.body is not None or "body" in given:
        return False
    last = called.path.rstrip("/").rpartition("/")[2].lower()
    return last not in _NO_BODY and not any(each.place == "body" for each in called.inputs)


def _schema(parameter: Parameter, place: str = "") -> dict[str, Json]:
    schema: dict[str, Json] = {"type": parameter.type or "string"}
    if parameter.type == "array":
        schema["items"] = {}
    if not parameter.type and "body" in (parameter.place, place):
        schema["type"] = ["object", "array", "string", "number", "boolean"]
    if parameter.description:
        schema["description"] = parameter.description
    return schema | parameter.schema


def _safe(read: Callable[[str], tuple[str, ...]], text: str) -> tuple[str, ...]:
    """The names in a text; none where it cannot be read, which the checks tell."""
    try:
        return read(text)
    except TemplateError:
        return ()


class ArgumentError(ValueError):
    """An argument that is missing, unknown or of the wrong kind."""


def schema_of(found: Iterable[Argument], skip: Mapping[str, str | None] | None = None) -> dict[str, Json]:
    """The JSON schema of arguments as one object; those in `skip` that have a value need not be given."""
    found = list(found)
    defaults = skip or {}
    return {
        "type": "object",
        "properties": {each.name: portable(each.schema) for each in found},
        "required": [each.name for each in found if each.required and not defaults.get(each.name)],
        "additionalProperties": False,
    }


def check(found: Iterable[Argument], given: Mapping[str, Json]) -> None:
    """Raises `ArgumentError` for the first value that is not of its type, or not as its schema has it."""
    for argument in found:
        value = find(given, argument.name)
        if value is not None and not isinstance(value, RawBody):
            _check(argument, value)


def _check(argument: Argument, value: Json) -> None:
    types = argument.schema.get("type")
    wanted = [types] if isinstance(types, str) else types or []
    if wanted and not any(_is(value, each) for each in wanted):
        raise ArgumentError(f"{argument.name} must be of type {' or '.join(wanted)}")
    if "enum" in argument.schema and value not in argument.schema["enum"]:
        raise ArgumentError(f"{argument.name} must be one of {', '.join(map(str, argument.schema['enum']))}")
    pattern = argument.schema.get("pattern")
    if pattern and isinstance(value, str) and not re.search(pattern, value):
        raise ArgumentError(f"{argument.name} must match {pattern}")


def _is(value: Json, type_: str) -> bool:
    if type_ == "string":
        return isinstance(value, str)
    if type_ == "boolean":
        return isinstance(value, bool)
    if type_ == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if type_ == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, list if type_ == "array" else dict)


def from_text(argument: Argument, text: str) -> Json:
    """The value of an argument that came as text, in a path, query or header. Raises `ArgumentError`."""
    type_ = argument.schema.get("type")
    if type_ == "integer" and re.fullmatch(r"[-+]?\d{1,18}", text):
        return int(text)
    if type_ == "number" and re.fullmatch(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", text):
        return float(text) if "." in text or "e" in text.lower() else int(text)
    if type_ == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if type_ in ("integer", "number", "boolean"):
        raise ArgumentError(f"{argument.name} must be of type {type_}, not {text[:80]!r}")
    return text
