"""Parts that consumed and exposed objects share: parameters and authentication."""

from __future__ import annotations

import re

from perdure.capability.fields import Fields
from perdure.capability.model import PLACES, Authentication, Parameter
from perdure.capability.vocabulary import check_authentication

_TYPES = ("string", "number", "integer", "boolean", "array", "object")
_SCHEMA_KEYS = (
    "enum", "default", "format", "minimum", "maximum", "minLength", "maxLength", "pattern", "items", "properties",
    "examples",
)  # fmt: skip


def parameters(entry: Fields, kind: str, key: str = "inputParameters") -> list[Parameter]:
    """The parameters that an object declares."""
    return [_parameter(name, each) for name, each in entry.named(key, kind)]


def _parameter(name: str, entry: Fields) -> Parameter:
    place, type_ = entry.text("in"), entry.text("type")
    if place and place not in PLACES:
        entry.findings.error(entry.path("in"), "unknown-place", f"in: {place!r} is none of {', '.join(PLACES)}")
    if type_ and type_ not in _TYPES:
        entry.findings.error(entry.path("type"), "unknown-type", f"type {type_!r} is none of {', '.join(_TYPES)}")
    pattern = entry.text("pattern")
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            entry.findings.error(entry.path("pattern"), "bad-pattern", f"pattern is no regular expression: {error}")
    return Parameter(
        name=name,
        place=place,
        type=type_,
        description=entry.text("description"),
        required=entry.flag("required"),
        value=entry.value.get("value"),
        schema={key: entry.value[key] for key in _SCHEMA_KEYS if entry.has(key)},
        at=entry.at,
    )


def authentication(entry: Fields) -> Authentication | None:
    """How an object authenticates, or asks for it."""
    given = entry.mapping("authentication")
    if not given:
        return None
    at = entry.path("authentication")
    check_authentication(entry.findings, given, at)
    return Authentication(kind=str(given.get("type")), settings=given, at=at)
