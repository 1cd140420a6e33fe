"""Schemas: the JSON Schema of a Python type, and values read by it.

What a model sends for a tool, or as an object, is checked here. Types may be builtins, dataclasses, msgspec Structs,
TypedDicts, enums and pydantic models; a JSON Schema may be given instead of a type.

Invariants: `Shape.read` never raises anything but `ShapeError`, which lists each fault with its path; pydantic is
loaded only for annotations that hold something of pydantic's.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from perdure.model import json, values
from perdure.model.errors import ConfigError, PerdureError
from perdure.model.json import Json
from perdure.model.storable import is_model

Schema: typing.TypeAlias = dict[str, Json]
_JSON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "integer": (int,),
    "null": (type(None),),
}
ROOT: Final = "root"
"""The path of a fault that is of the whole value."""


class Fault(msgspec.Struct):
    """What is wrong with a value: where (`root`, `items.0.name`) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ShapeError(PerdureError, ValueError):
    """A value does not have the shape that was asked for; `faults` says where."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(map(str, faults)))


class Shape:
    """What values have to be: a Python type, or a JSON Schema as a dict.

    >>> Shape(list[int]).schema
    {'type': 'array', 'items': {'type': 'integer'}}
    >>> Shape(list[int]).read([1, "two"])
    Traceback (most recent call last):
    ...
    perdure.agents.schemas.ShapeError: 1: Expected `int`, got `str`
    """

    def __init__(self, kind: object) -> None:
        self.kind = kind
        self._given = dict(kind) if isinstance(kind, Mapping) else None
        self._pydantic = self._given is None and _needs_pydantic(kind)
        self._schema: Schema | None = self._given

    @property
    def schema(self) -> Schema:
        """Its JSON Schema. Raises `ConfigError` for a type that has none."""
        if self._schema is None:
            self._schema = _schema_of(self.kind, self._pydantic)
        return self._schema

    def read(self, value: Json) -> Json:
        """The value as the type asks for; plain JSON where a schema was given. Raises `ShapeError`."""
        if self._given is not None:
            faults = list(_schema_faults(value, self._given))
            if faults:
                raise ShapeError(faults)
            return value
        try:
            if self._pydantic:
                return _adapter(self.kind).validate_json(json.encode(value))
            return values.decode(json.encode(value), self.kind)
        except values.RestoreError as error:
            raise ShapeError([Fault(_dotted(error.path), _problem(error))]) from error
        except ValueError as error:
            raise ShapeError(list(_pydantic_faults(error))) from error


def hoisted(schema: Schema, definitions: Schema) -> Schema:
    """The schema without its `$defs`, which go to `definitions`: several can then stand in one document."""
    definitions.update(schema.get("$defs", {}))
    return {key: value for key, value in schema.items() if key != "$defs"}


def _schema_of(kind: object, pydantic: bool) -> Schema:
    shape: Json = kind
    if kind is object:
        return {}
    try:
        if pydantic:
            found: Schema = _adapter(kind).json_schema()
            return found
        (schema,), definitions = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    except Exception as error:
        # Building a schema evaluates annotations of user classes, which may fail in any way.
        fix = "use types that JSON can carry, or give a JSON Schema"
        raise ConfigError(f"type {kind!r}", [f"has no JSON Schema ({error}): {fix}"]) from error
    reference = schema.get("$ref", "")
    if definitions and reference.startswith("#/$defs/"):
        schema = definitions.pop(reference.removeprefix("#/$defs/"))
    return {**schema, "$defs": definitions} if definitions else schema


def _adapter(kind: object) -> Json:
    from pydantic import TypeAdapter  # optional, and there: the annotation holds something of it

    shape: Json = kind
    return TypeAdapter(shape)


def _needs_pydantic(kind: object) -> bool:
    if isinstance(kind, type) and is_model(kind):
        return True
    metadata: tuple[object, ...] = getattr(kind, "__metadata__", ())
    foreign = ("pydantic", "annotated_types")
    if any(type(item).__module__.split(".")[0] in foreign for item in metadata):
        return True
    return any(_needs_pydantic(arg) for arg in typing.get_args(kind) if arg is not ...)


def _pydantic_faults(error: ValueError) -> Iterator[Fault]:
    listed: Json = getattr(error, "errors", None)
    if listed is None:
        yield Fault(ROOT, str(error))
        return
    for item in listed(include_url=False):
        yield Fault(".".join(map(str, item["loc"])) or ROOT, item["msg"])


def _problem(error: values.RestoreError) -> str:
    text = str(error.__cause__ or error)
    return text.split(" - at `", 1)[0]


def _dotted(path: str) -> str:
    """`$.items[0].name` as `items.0.name`, and `$` as `root`."""
    return path.removeprefix("$").replace("[", ".").replace("]", "").strip(".") or ROOT


def _schema_faults(value: Json, schema: Schema) -> Iterator[Fault]:
    try:
        from jsonschema import Draft202012Validator, SchemaError, validators  # optional: the extra "agents"
    except ImportError:
        yield from _plain_faults(value, schema, ROOT)
        return
    try:
        validator = validators.validator_for(schema, Draft202012Validator)(schema)
        for fault in validator.iter_errors(value):
            yield Fault(".".join(map(str, fault.absolute_path)) or ROOT, fault.message)
    except SchemaError as error:
        raise ConfigError("JSON Schema", [f"is not one: {error.message}"]) from error


def _plain_faults(value: Json, schema: Schema, path: str) -> Iterator[Fault]:
    """The commonest rules of JSON Schema: types, required fields, enums, nested ones."""
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind] if isinstance(kind, str) else []
    known = [_JSON_TYPES[name] for name in kinds if name in _JSON_TYPES]
    wrong = bool(known) and not any(isinstance(value, found) for found in known)
    if wrong or (isinstance(value, bool) and known and "boolean" not in kinds):
        yield Fault(path, f"must be {' or '.join(kinds)}")
        return
    if "enum" in schema and value not in schema["enum"]:
        yield Fault(path, f"must be one of {schema['enum']}")
    if isinstance(value, dict):
        for name in schema.get("required", []):
            if name not in value:
                yield Fault(path, f"{name!r} is required")
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                yield from _plain_faults(value[name], inner, name if path == ROOT else f"{path}.{name}")
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _plain_faults(item, schema["items"], f"{path}.{index}")
