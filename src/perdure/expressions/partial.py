"""Partial evaluation: what is left of a condition once the first event is known.

`reduce_tree` computes every part that does not depend on what is still open (`async`, `vars`) and simplifies
what remains. Invariant: over any `async`, the remaining tree gives the value of the whole, wherever the
whole gives one. Two things follow. A part that fails is left as it is, to fail (or not be reached) later.
And a missing operand is not simply null, for two missing values are not equal: a comparison of a path with
it becomes `has(path) && path == null`, anywhere else it stays a path that leads nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from perdure.expressions.budget import Frame
from perdure.expressions.compiler import compile_tree
from perdure.expressions.errors import EvaluationError
from perdure.expressions.functions import PREDICATES
from perdure.expressions.nodes import (
    Binary,
    Call,
    Comprehension,
    Conditional,
    Has,
    Index,
    ListNode,
    Literal,
    Logical,
    MapNode,
    Name,
    Node,
    Select,
    Unary,
    free_names,
)
from perdure.expressions.parser import MAX_SOURCE
from perdure.expressions.paths import match_key, path_text, steps_of
from perdure.expressions.values import (
    INT_MAX,
    INT_MIN,
    TYPE_NAMES,
    UINT_MAX,
    UNKNOWN,
    Duration,
    Timestamp,
    TypeName,
    Uint,
    duration_text,
    timestamp_text,
    truthy,
)
from perdure.model.json import Json

_MAX_VALUE_DEPTH: Final = 40
_MISSING: Final = Select(MapNode(()), "missing")
_QUESTIONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})


@dataclass(frozen=True, slots=True)
class Known:
    """A part whose value is decided; `node` is what it was computed from."""

    value: Json
    node: Node


def reduce_tree(node: Node, known: Mapping[str, Json], now: int) -> Node | Known:
    """The tree with everything computed that `known` and `now` decide.

    A decided missing result counts as false, which is what an expression's final value would be.
    """
    reduced = _Reducer(known, now).reduce(node, frozenset(), final=True)
    return Known(False, node) if isinstance(reduced, Known) and reduced.value is UNKNOWN else reduced


def literal(value: Json) -> Node:
    """The node that evaluates to the value; raises `EvaluationError` for what cannot be written down."""
    return _Writer().node(value, 0)


class _Writer:
    """Writes one value as a node; stops at what would not fit an expression's text."""

    def __init__(self) -> None:
        self._left = MAX_SOURCE

    def node(self, value: Json, depth: int) -> Node:
        self._left -= 1 + (len(value) if isinstance(value, (str, bytes)) else 0)
        if self._left < 0:
            raise EvaluationError("a value of the event is too long to be kept in a condition")
        if depth > _MAX_VALUE_DEPTH:
            raise EvaluationError("a value of the event is nested too deeply to be kept in a condition")
        if isinstance(value, list):
            return ListNode(tuple(self.node(item, depth + 1) for item in value))
        if isinstance(value, dict):
            entries = ((self.node(key, depth + 1), self.node(item, depth + 1)) for key, item in value.items())
            return MapNode(tuple(entries))
        return _scalar(value)


def _scalar(value: Json) -> Node:
    match value:
        case None:
            return Literal("null", None)
        case bool():
            return Literal("bool", value)
        case str():
            return Literal("string", value)
        case bytes():
            return Literal("bytes", value)
        case int() | float():
            return _number(value)
        case Timestamp():
            return Call(None, "timestamp", (Literal("string", timestamp_text(value)),))
        case Duration():
            return Call(None, "duration", (Literal("string", duration_text(value)),))
        case TypeName(name=name) if name in TYPE_NAMES:
            return Name(name)
        case TypeName(name=name):
            return Select(Select(Name("google"), "protobuf"), name.rpartition(".")[2])
        case _:
            return _MISSING


def _number(value: int | float) -> Node:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EvaluationError("a number of the event is not finite and cannot be kept in a condition")
        return Literal("double", value)
    if isinstance(value, Uint) or INT_MAX < value <= UINT_MAX:
        return Literal("uint", Uint(value))
    if INT_MIN <= value <= INT_MAX:
        return Literal("int", value)
    raise EvaluationError("a number of the event does not fit 64 bits and cannot be kept in a condition")


class _Reducer:
    def __init__(self, known: Mapping[str, Json], now: int) -> None:
        self._known = known
        # One budget for all parts: a part that fails is computed again as part of what is around it.
        self._frame = Frame(known, now, 0)

    def reduce(self, node: Node, bound: frozenset[str], final: bool = False) -> Node | Known:
        """`bound` are the macro variables around the node; `final` says its value is the expression's."""
        if not self._is_open(node, bound):
            try:
                program = compile_tree(node)
                self._frame.locals = [None] * program.local_count
                return Known(program.run(self._frame), node)
            except EvaluationError:
                # It may never be reached. Its parts are fixed all the same, so that no event is needed later.
                pass
        return self._parts(node, bound, final)

    def _is_open(self, node: Node, bound: frozenset[str]) -> bool:
        return any(
            name.name in bound or (name.name not in self._known and name.name not in TYPE_NAMES)
            for name in free_names(node)
            if name.name != "google"
        )

    def _node(self, node: Node, bound: frozenset[str]) -> Node:
        """The reduced node, a decided value written out."""
        return self._written(self.reduce(node, bound))

    def _written(self, reduced: Node | Known) -> Node:
        if not isinstance(reduced, Known):
            return reduced
        if reduced.value is not UNKNOWN:
            return literal(reduced.value)
        # The path says best what is missing; it leads nowhere in an empty scope too.
        return reduced.node if steps_of(reduced.node, "event") else _MISSING

    def _parts(self, node: Node, bound: frozenset[str], final: bool) -> Node | Known:
        match node:
            case Logical():
                return self._logical(node, bound, final)
            case Conditional():
                test = self.reduce(node.test, bound)
                if isinstance(test, Known):
                    return self.reduce(node.then if truthy(test.value) else node.other, bound, final)
                return Conditional(test, self._node(node.then, bound), self._node(node.other, bound), node.position)
            case Binary():
                return self._binary(node, bound)
            case Comprehension():
                inner = bound | {node.variable}
                bodies = tuple(self._node(body, inner) for body in node.bodies)
                return Comprehension(node.kind, self._node(node.source, bound), node.variable, bodies, node.position)
            case _:
                return self._plain(node, bound)

    def _plain(self, node: Node, bound: frozenset[str]) -> Node:
        match node:
            case Select():
                return Select(self._node(node.operand, bound), node.field, node.position)
            case Index():
                return Index(self._node(node.operand, bound), self._node(node.key, bound), node.position)
            case Has(operand=Select() as path):
                return Has(Select(self._node(path.operand, bound), path.field), node.position)
            case Has(operand=Index() as path):
                return Has(Index(self._node(path.operand, bound), self._node(path.key, bound)), node.position)
            case Call():
                target = None if node.target is None else self._node(node.target, bound)
                arguments = tuple(self._node(argument, bound) for argument in node.arguments)
                return Call(target, node.function, arguments, node.position)
            case Unary():
                return Unary(node.operator, self._node(node.operand, bound), node.position)
            case ListNode():
                return ListNode(tuple(self._node(item, bound) for item in node.items), node.position)
            case MapNode():
                entries = tuple((self._node(k, bound), self._node(v, bound)) for k, v in node.entries)
                return MapNode(entries, node.position)
            case _:
                return node

    def _binary(self, node: Binary, bound: frozenset[str]) -> Node:
        left, right = self.reduce(node.left, bound), self.reduce(node.right, bound)
        first, second = self._written(left), self._written(right)
        reduced = Binary(node.operator, first, second, node.position)
        missing_left = isinstance(left, Known) and left.value is UNKNOWN
        missing_right = isinstance(right, Known) and right.value is UNKNOWN
        if node.operator not in ("==", "!=") or missing_left == missing_right:
            return reduced
        path = second if missing_left else first
        if not isinstance(path, (Select, Index)):
            return reduced
        null = Literal("null", None)
        comparison = Binary(node.operator, null, path) if missing_left else Binary(node.operator, path, null)
        if node.operator == "==":
            return Logical("&&", (Has(path), comparison))
        return Logical("||", (Unary("!", Has(path)), comparison))

    def _logical(self, node: Logical, bound: frozenset[str], final: bool) -> Node | Known:
        """Drops what cannot change the value, cuts off what is never reached."""
        stops_at = node.operator == "||"
        kept: list[Node | Known] = []
        for position, item in enumerate(node.items):
            is_last = position == len(node.items) - 1
            reduced = self.reduce(item, bound, final)
            if isinstance(reduced, Known):
                if reduced.value is UNKNOWN and final:
                    reduced = Known(False, item)
                if truthy(reduced.value) == stops_at:
                    if reduced.value is stops_at and all(_is_question(part) for part in kept):
                        return reduced
                    kept.append(reduced)
                    break
                # The other boolean, as the last operand, is the value only where a question before gave it.
                is_neutral = reduced.value is not stops_at and isinstance(reduced.value, bool)
                if not is_last or (kept and is_neutral and all(_is_question(part) for part in kept)):
                    continue
            kept.append(reduced)
        return self._joined(node, kept)

    def _joined(self, node: Logical, kept: list[Node | Known]) -> Node | Known:
        if len(kept) == 1:
            return kept[0]
        items: list[Node] = []
        for part in kept:
            written = self._written(part)
            nested = isinstance(written, Logical) and written.operator == node.operator
            items.extend(written.items if nested and isinstance(written, Logical) else (written,))
        return Logical(node.operator, tuple(items), node.position)


def _is_question(node: Node | Known) -> bool:
    """Whether the part's value is always true or false."""
    match node:
        case Known():
            return isinstance(node.value, bool)
        case Has() | Unary(operator="!") | Literal(kind="bool"):
            return True
        case Binary(operator=operator):
            return operator in _QUESTIONS
        case Call(function=function):
            return function in PREDICATES
        case Comprehension(kind=kind):
            return kind in ("all", "exists", "exists_one")
        case Logical(items=items):
            return all(_is_question(item) for item in items)
        case Conditional(then=then, other=other):
            return _is_question(then) and _is_question(other)
        case _:
            return False


def equalities(node: Node) -> list[tuple[str, Json]]:
    """The conditions `async.<path> == literal` without which the tree cannot be true.

    Both sides of an `&&` must hold; nothing is taken from `||`, `? :` or `!`.
    """
    if isinstance(node, Logical) and node.operator == "&&":
        return [found for item in node.items for found in equalities(item)]
    if not isinstance(node, Binary) or node.operator != "==":
        return []
    found: list[tuple[str, Json]] = []
    for path, value in ((node.left, node.right), (node.right, node.left)):
        steps = steps_of(path, "async")
        if steps and isinstance(value, Literal) and value.kind in ("bool", "int", "uint", "double", "string"):
            found.append((path_text(steps), int(value.value) if value.kind == "uint" else value.value))
    return found


def index_of(pairs: list[tuple[str, Json]]) -> tuple[str, str] | None:
    """The first equality a store can look up, as (path, match key)."""
    for path, value in pairs:
        key = match_key(value)
        if key is not None:
            return path, key
    return None
