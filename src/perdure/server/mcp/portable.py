"""JSON schemas as every client of a model reads them: one type at each place, and never null.

Some providers of models know no lists of types. An argument that may be null may as well be left out, and one of
several types is written as alternatives.
"""

from __future__ import annotations

from perdure.model.json import Json

_ALTERNATIVES: Json = {"array": {"type": "array", "items": {"type": "object"}}}
"""An array that stands for one object or several."""


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
    plain = {key: portable(value) for key, value in schema.items()}
    types = plain.get("type")
    if not isinstance(types, list):
        return plain
    left = [each for each in types if each != "null"]
    if len(left) == 1:
        return plain | {"type": left[0]}
    del plain["type"]
    return plain | {"anyOf": [_ALTERNATIVES.get(each, {"type": each}) for each in left]}
