"""JSON schemas as every client of a model reads them: one type at each place, never null, never nothing said.

Some providers of models know no lists of types. An argument that may be null may as well be left out, and one of
several types is written as alternatives. A member of an answer that may be anything is not described.
"""

from __future__ import annotations

from perdure.model.json import Json

_ALTERNATIVES: Json = {"array": {"type": "array", "items": {"type": "object"}}}
"""An array that stands for one object or several."""
_ANYTHING = ("object", "array", "string", "number", "boolean")
_SAYS_NOTHING = frozenset({"description", "title"})


def portable(schema: Json) -> Json:
    """The schema of arguments without lists of types.

    >>> portable({"type": "object", "properties": {"a": {"type": ["string", "null"]}}})
    {'type': 'object', 'properties': {'a': {'type': 'string'}}}
    >>> portable({"type": ["number", "boolean"], "description": "x"})
    {'description': 'x', 'anyOf': [{'type': 'number'}, {'type': 'boolean'}]}
    """
    if isinstance(schema, list):
        return [portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _members(value) if key == "properties" else portable(value) for key, value in schema.items()}
    types = plain.get("type")
    if not isinstance(types, list):
        return plain
    left = [each for each in types if each != "null"]
    if len(left) == 1:
        return plain | {"type": left[0]}
    del plain["type"]
    return plain | {"anyOf": _alternatives(left)}


def _members(properties: Json) -> Json:
    return {name: _said(portable(each)) for name, each in properties.items()}


def _said(schema: Json) -> Json:
    """A schema that says something: of one for anything, what that is."""
    return schema | {"anyOf": _alternatives(_ANYTHING)} if _is_open(schema) else schema


def _alternatives(types: list[str] | tuple[str, ...]) -> list[Json]:
    return [_ALTERNATIVES.get(each, {"type": each}) for each in types]


def _is_open(schema: Json) -> bool:
    return isinstance(schema, dict) and not schema.keys() - _SAYS_NOTHING


def described(schema: Json) -> Json:
    """The schema of an answer, without members that may be anything, or of several types.

    >>> described(
    ...     {"type": "object", "properties": {"a": {}, "b": {"type": ["object", "null"]}, "c": {"type": "string"}}}
    ... )
    {'type': 'object', 'properties': {'c': {'type': 'string'}}}
    """
    if isinstance(schema, list):
        return [described(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: described(each) for name, each in value.items() if not _is_vague(each)}
        if key in ("properties", "$defs")
        else described(value)
        for key, value in schema.items()
    }


def _is_vague(schema: Json) -> bool:
    return _is_open(schema) or (isinstance(schema, dict) and isinstance(schema.get("type"), list))
