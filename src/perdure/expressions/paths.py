"""Paths into a document, and the keys by which equal values are found.

A path is what follows `event.` or `async.` in a condition: `data.id`, `data["a-b"]`, `data.items[0].sku`. A
store that keeps conditions by (path, match key) finds the candidates for an incoming document with `lookup`
and `match_key`, without evaluating the others. Invariant: for a scalar, two match keys are equal exactly when
the dialect's `==` says the values are.
"""

from __future__ import annotations

import hashlib
import math
import re
from functools import lru_cache
from typing import Final

from perdure.expressions.compiler import pick
from perdure.expressions.errors import ExpressionError
from perdure.expressions.nodes import Index, Literal, Name, Node, Select
from perdure.expressions.parser import parse
from perdure.expressions.printer import quote
from perdure.model.json import Json

_MAX_KEY: Final = 200
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def match_key(value: Json) -> str | None:
    """A short string that is equal for values that `==` finds equal, and for no others.

    None for what cannot be looked up this way: null and missing, lists and maps, NaN.

    >>> match_key(5) == match_key(5.0) != match_key("5")
    True
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _short("s", value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        # Floats that are whole numbers share the key of the integer they equal.
        return _short("i", f"{int(value):x}") if value.is_integer() else _short("f", value.hex())
    if isinstance(value, int):
        return _short("i", f"{value:x}")
    return None


def _short(kind: str, text: str) -> str:
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) <= _MAX_KEY:
        return f"{kind}:{text}"
    return f"{kind}#{hashlib.sha256(encoded).hexdigest()}"


def path_text(steps: tuple[str | int, ...]) -> str:
    """The path of these steps; the inverse of `path_steps`.

    >>> path_text(("data", "a-b", 0, "id"))
    'data["a-b"][0].id'
    """
    parts: list[str] = []
    for step in steps:
        if isinstance(step, str) and _FIELD.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f"[{quote(step) if isinstance(step, str) else step}]")
    return "".join(parts)


@lru_cache(maxsize=4096)
def path_steps(path: str) -> tuple[str | int, ...]:
    """The steps of a path: field names and list positions; raises `ExpressionError` when it is none.

    >>> path_steps('data["a-b"][0].id')
    ('data', 'a-b', 0, 'id')
    """
    prefix = "event" if path.startswith("[") else "event."
    try:
        steps = steps_of(parse(prefix + path), "event")
    except ExpressionError as error:
        steps = None
        reason = f": {error.reason}"
    else:
        reason = ""
    if not steps:
        raise ExpressionError(f"{path[:80]!r} is not a path{reason}; write for example 'data.order_id'", path, 0)
    return steps


def steps_of(node: Node, root: str) -> tuple[str | int, ...] | None:
    """The steps when the node is a path of literal steps below the variable `root`; else None."""
    steps: list[str | int] = []
    while isinstance(node, (Select, Index)):
        if isinstance(node, Select):
            steps.append(node.field)
        elif isinstance(node.key, Literal) and node.key.kind in ("string", "int"):
            steps.append(node.key.value)
        else:
            return None
        node = node.operand
    return tuple(reversed(steps)) if isinstance(node, Name) and node.name == root else None


def lookup(document: Json, path: str) -> Json:
    """The value at the path, exactly as an expression would see it; `UNKNOWN` when the path leads nowhere.

    >>> lookup({"data": {"items": [{"sku": "x"}]}}, "data.items[0].sku")
    'x'
    >>> lookup({"data": {}}, "data.id")
    UNKNOWN
    """
    value = document
    for step in path_steps(path):
        value = pick(value, step)
    return value


def match_expression(path: str) -> str:
    """The condition that `match=path` stands for: the same value in both events.

    >>> match_expression("data.order_id")
    'event.data.order_id == async.data.order_id'
    """
    steps = path_text(path_steps(path))
    joint = "" if steps.startswith("[") else "."
    return f"event{joint}{steps} == async{joint}{steps}"
