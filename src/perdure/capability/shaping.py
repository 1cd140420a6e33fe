"""From the answer of an upstream to the result that the document promises.

Of several unnamed outputs the first that gives something is the whole result; outputs with names are the fields of an
object. An object or array without parts passes through as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.capability.jsonpath import parse
from perdure.capability.model import Mapping, Output
from perdure.capability.templates import Lookup, as_text, render
from perdure.model.json import Json


def is_whole(outputs: Sequence[Output]) -> bool:
    """Whether the answer passes through as it is."""
    if not outputs:
        return True
    only = outputs[0]
    return (
        len(outputs) == 1
        and only.type in ("object", "array")
        and only.properties is None
        and only.items is None
        and only.value is None
        and only.mapping in ("", "$", "$.")
    )


def mapped(outputs: Sequence[Output], answer: Json, lookup: Lookup) -> Json:
    """The result of a simple operation. Raises `TemplateError`."""
    if is_whole(outputs):
        return answer
    if len(outputs) > 1 and all(each.name for each in outputs):
        return {each.name: _mapped(each, answer, lookup) for each in outputs}
    for output in outputs:
        found = _mapped(output, answer, lookup)
        if found is not None:
            return found
    return None


def fixed(outputs: Sequence[Output], lookup: Lookup) -> Json:
    """The result of a mock: fixed values and templates. Raises `TemplateError`."""
    if outputs and all(each.name for each in outputs):
        return {each.name: _mapped(each, None, lookup) for each in outputs}
    return mapped(outputs, None, lookup) if outputs else None


def orchestrated(mappings: Sequence[Mapping], outputs: Sequence[Output], steps: Json, lookup: Lookup) -> Json:
    """The result of an operation with steps: its mappings, or its outputs, over the results of the steps by name."""
    if not mappings:
        if any(each.mapping or each.value is not None or each.properties or each.items for each in outputs):
            return mapped(outputs, steps, lookup)
        return next(reversed(steps.values()), None) if not outputs else _named(outputs, steps)
    result: dict[str, Json] = {}
    for mapping in mappings:
        place = result
        *parents, last = mapping.target.split(".")
        for parent in parents:
            inner = place.setdefault(parent, {})
            place = inner if isinstance(inner, dict) else {}
        place[last] = source(mapping.value, steps, lookup)
    return _named(outputs, result) if outputs else result


def source(text: Json, steps: Json, lookup: Lookup) -> Json:
    """A value by its JSONPath over the steps, its template, or as it is. Raises `TemplateError`."""
    if not isinstance(text, str):
        return text
    return parse(text)(steps) if text.startswith("$") else render(text, lookup)


def _named(outputs: Sequence[Output], result: Json) -> Json:
    """The fields of a result that are declared, with their types."""
    if not all(each.name for each in outputs) or not isinstance(result, dict):
        return result
    return {each.name: _typed(each, result.get(each.name)) for each in outputs}


def _typed(output: Output, value: Json) -> Json:
    if value is None:
        return None
    if output.type == "array" and isinstance(value, list) and output.items is not None:
        return [_typed(output.items, each) for each in value]
    if output.type == "object" and output.properties and isinstance(value, dict):
        return _named(output.properties, value)
    return _scalar(output.type, value)


def _mapped(output: Output, context: Json, lookup: Lookup) -> Json:
    if output.value is not None:
        given = render(output.value, lookup) if isinstance(output.value, str) else output.value
        return _scalar(output.type, given)
    node = parse(output.mapping)(context) if output.mapping else context
    if output.type == "array":
        if node is None or output.items is None:
            return node
        items = output.items
        return [_mapped(items, each, lookup) for each in (node if isinstance(node, list) else [node])]
    if output.type == "object":
        if output.properties is None or (node is None and output.mapping):
            return node
        return {each.name: _mapped(each, node, lookup) for each in output.properties}
    if not output.mapping and output.name:
        node = context.get(output.name) if isinstance(context, dict) else None
    return _scalar(output.type, node)


def _scalar(type_: str, value: Json) -> Json:
    """A value as its declared type has it; one that cannot be so stays as it is."""
    if type_ == "string" and isinstance(value, int | float | bool):
        return as_text(value)
    if type_ in ("number", "integer") and isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return _float(value)
    if type_ == "boolean" and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _float(text: str) -> Json:
    try:
        return float(text)
    except ValueError:
        return text
