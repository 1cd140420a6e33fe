"""What of a configuration holds for a request: conditions over the request context, and texts with its values.

A conditional field is a list of variants, `[{"value": ..., "rules": {...}}]`; those whose rules hold are laid one over
the other, in order. A group of rules is `{"operator": "AND" | "OR", "conditions": [...]}`, a condition
`{"field": "user.role", "operator": "equals", "value": "admin"}` or another group; an empty group holds, and an
operator that is not known does not. Invariant: nothing here fails, whatever the context is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from perdure.model.json import Json, encode

_SLOT: Final = re.compile(r"\{\{\s*([A-Za-z_][\w-]*(?:\.[\w-]+)*)\s*(?:\|\|\s*(?:'([^'{}]*)'|\"([^\"{}]*)\")\s*)?\}\}")


def is_conditional(value: Json) -> bool:
    """Whether a field has variants.

    >>> is_conditional([{"value": {"weather": {}}}]), is_conditional([{"type": "text", "content": "Hi"}])
    (True, False)
    """
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) and "value" in each for each in value)


def variants_of(value: Json) -> list[Json]:
    """All that a field may be.

    >>> variants_of({"a": {}}), variants_of(None)
    ([{'a': {}}], [])
    """
    if is_conditional(value):
        return [each["value"] for each in value if each["value"] is not None]
    return [] if value is None else [value]


def chosen(value: Json, context: Mapping[str, Json]) -> Json:
    """A field as it is for a request context; None where no variant holds.

    >>> rules = {"operator": "AND", "conditions": [{"field": "plan", "operator": "equals", "value": "pro"}]}
    >>> chosen([{"value": {"a": {}}}, {"value": {"b": {}}, "rules": rules}], {"plan": "pro"})
    {'a': {}, 'b': {}}
    """
    if not is_conditional(value):
        return value
    found: Json = None
    for each in value:
        if holds(each.get("rules"), context):
            both = isinstance(found, dict) and isinstance(each["value"], dict)
            found = {**found, **each["value"]} if both else each["value"]
    return found


def holds(rules: Json, context: Mapping[str, Json]) -> bool:
    """Whether a group of rules holds, or a condition. None always does.

    >>> holds({"field": "user.tags", "operator": "contains", "value": "beta"}, {"user": {"tags": ["beta"]}})
    True
    """
    if rules is None:
        return True
    if not isinstance(rules, dict):
        return False
    if "conditions" not in rules:
        found = at_path(context, str(rules.get("field", "")))
        test = _OPERATORS.get(str(rules.get("operator")))
        return test is not None and test(found, rules.get("value"))
    conditions = rules["conditions"] if isinstance(rules["conditions"], list) else []
    if not conditions:
        return True
    some = any if rules.get("operator") == "OR" else all
    return some(holds(each, context) for each in conditions)


def filled(text: str, context: Mapping[str, Json]) -> str:
    """A text with values of the context in place of `{{name}}`; one that is missing stays, unless it says what else.

    >>> filled("Hello {{user.name || 'you'}}, {{x}}!", {"user": {"name": "Ada"}})
    'Hello Ada, {{x}}!'
    """

    def value(slot: re.Match[str]) -> str:
        found = at_path(context, slot[1])
        if found is None:
            otherwise: str | None = slot[2] if slot[2] is not None else slot[3]
            return slot[0] if otherwise is None else otherwise
        return found if isinstance(found, str) else encode(found).decode()

    return _SLOT.sub(value, text)


def at_path(context: Json, path: str) -> Json:
    """What is at a path with dots, None where there is nothing."""
    if isinstance(context, Mapping) and path in context:
        return context[path]
    for name in path.split("."):
        if not isinstance(context, Mapping) or name not in context:
            return None
        context = context[name]
    return context


def _contains(found: Json, value: Json) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    return isinstance(found, list) and any(_equal(each, value) for each in found)


def _equal(found: Json, value: Json) -> bool:
    # In Python True is 1; in JSON it is not.
    return isinstance(found, bool) == isinstance(value, bool) and bool(found == value)


def _compared(test: Callable[[float, float], bool]) -> Callable[[Json, Json], bool]:
    def compare(found: Json, value: Json) -> bool:
        numbers = [each for each in (found, value) if isinstance(each, int | float) and not isinstance(each, bool)]
        return len(numbers) == 2 and test(numbers[0], numbers[1])

    return compare


def _among(found: Json, value: Json) -> bool:
    return isinstance(value, list) and any(_equal(found, each) for each in value)


_OPERATORS: Final[dict[str, Callable[[Json, Json], bool]]] = {
    "equals": _equal,
    "not_equals": lambda found, value: not _equal(found, value),
    "contains": _contains,
    "not_contains": lambda found, value: not _contains(found, value),
    "greater_than": _compared(lambda left, right: left > right),
    "less_than": _compared(lambda left, right: left < right),
    "greater_than_or_equal": _compared(lambda left, right: left >= right),
    "less_than_or_equal": _compared(lambda left, right: left <= right),
    "in": _among,
    "not_in": lambda found, value: not _among(found, value),
    "exists": lambda found, _: found is not None,
    "not_exists": lambda found, _: found is None,
}
