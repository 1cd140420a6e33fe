"""Syntax tree to Python closures: one per node, called with the evaluation's `Frame`.

Paths are resolved directly in the event's dictionaries, so the cost depends on the expression, never on how
large the event is. A part that fails raises `EvaluationError` carrying the part's position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from perdure.expressions.budget import Frame
from perdure.expressions.checks import type_constant
from perdure.expressions.errors import EvaluationError
from perdure.expressions.functions import FUNCTIONS, METHODS, Function
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
)
from perdure.expressions.operators import BINARY, UNARY
from perdure.expressions.values import TYPE_NAMES, UNKNOWN, TypeName, truthy, type_name, whole
from perdure.model.json import Json

Closure: TypeAlias = Callable[[Frame], Json]
Loop: TypeAlias = Callable[[Frame, Iterable[Json]], Json]


@dataclass(frozen=True, slots=True)
class Program:
    """The closure of a whole expression and how many macro variables its frame must hold."""

    run: Closure
    local_count: int


def compile_tree(node: Node) -> Program:
    """The program of a checked tree."""
    compiler = _Compiler()
    run = compiler.closure(node, {})
    return Program(run, compiler.local_count)


def pick(value: Json, key: Json) -> Json:
    """One step of a path: a field of a map or an element of a list; `UNKNOWN` when it leads nowhere."""
    if isinstance(key, str):
        return value.get(key, UNKNOWN) if isinstance(value, dict) else UNKNOWN
    number = whole(key)
    if number is None:
        return UNKNOWN
    if isinstance(value, dict):
        return value.get(number, UNKNOWN)
    return value[number] if isinstance(value, list) and 0 <= number < len(value) else UNKNOWN


class _Compiler:
    """Knows how many macro variables are in use; `bound` maps the visible ones to their slots."""

    def __init__(self) -> None:
        self.local_count = 0

    def closure(self, node: Node, bound: dict[str, int]) -> Closure:
        constant = type_constant(node)
        if constant is not None:
            return _constant(TypeName(constant))
        match node:
            case Literal():
                return _constant(node.value)
            case Name():
                return _name(node.name, bound)
            case Select() | Index():
                return self._path(node, bound)
            case Call():
                return self._call(node, bound)
            case Has():
                inner = self.closure(node.operand, bound)
                return lambda frame: inner(frame) is not UNKNOWN
            case Comprehension():
                return self._comprehension(node, bound)
            case Unary():
                return _unary(node, self.closure(node.operand, bound))
            case Binary():
                return _binary(node, self.closure(node.left, bound), self.closure(node.right, bound))
            case Logical():
                items = tuple(self.closure(item, bound) for item in node.items)
                return _all_of(items) if node.operator == "&&" else _any_of(items)
            case Conditional():
                test, then = self.closure(node.test, bound), self.closure(node.then, bound)
                other = self.closure(node.other, bound)
                return lambda frame: then(frame) if truthy(test(frame)) else other(frame)
            case ListNode():
                return _list(tuple(self.closure(item, bound) for item in node.items))
            case MapNode():
                return _map(node, [(self.closure(k, bound), self.closure(v, bound)) for k, v in node.entries])

    def _path(self, node: Select | Index, bound: dict[str, int]) -> Closure:
        keys: list[str] = []
        inner: Node = node
        while isinstance(inner, (Select, Index)):
            if isinstance(inner, Select):
                keys.append(inner.field)
            elif isinstance(inner.key, Literal) and inner.key.kind == "string":
                keys.append(inner.key.value)
            else:
                break
            inner = inner.operand
        if not keys:
            assert isinstance(inner, Index)
            return _index(self.closure(inner.operand, bound), self.closure(inner.key, bound))
        keys.reverse()
        if isinstance(inner, Name) and inner.name not in bound and inner.name not in TYPE_NAMES:
            return _fields_of_variable(inner.name, tuple(keys))
        return _fields(self.closure(inner, bound), tuple(keys))

    def _call(self, node: Call, bound: dict[str, int]) -> Closure:
        function = FUNCTIONS[node.function] if node.target is None else METHODS[node.function]
        parts = node.arguments if node.target is None else (node.target, *node.arguments)
        return _function(function, tuple(self.closure(part, bound) for part in parts), node.position)

    def _comprehension(self, node: Comprehension, bound: dict[str, int]) -> Closure:
        slot = max(bound.values(), default=-1) + 1
        self.local_count = max(self.local_count, slot + 1)
        inner = {**bound, node.variable: slot}
        bodies = [self.closure(body, inner) for body in node.bodies]
        return _over_elements(node, self.closure(node.source, bound), _loop(node.kind, slot, bodies))


def _constant(value: Json) -> Closure:
    return lambda frame: value


def _name(name: str, bound: dict[str, int]) -> Closure:
    if name in bound:
        slot = bound[name]
        return lambda frame: frame.locals[slot]
    if name in TYPE_NAMES:
        return _constant(TypeName(name))
    return lambda frame: frame.scope.get(name, UNKNOWN)


def _fields_of_variable(name: str, keys: tuple[str, ...]) -> Closure:
    def fields(frame: Frame) -> Json:
        value = frame.scope.get(name)
        for key in keys:
            if not isinstance(value, dict):
                return UNKNOWN
            value = value.get(key, UNKNOWN)
        return value

    return fields


def _fields(source: Closure, keys: tuple[str, ...]) -> Closure:
    def fields(frame: Frame) -> Json:
        value = source(frame)
        for key in keys:
            if not isinstance(value, dict):
                return UNKNOWN
            value = value.get(key, UNKNOWN)
        return value

    return fields


def _index(source: Closure, key: Closure) -> Closure:
    return lambda frame: pick(source(frame), key(frame))


def _located(position: int, run: Closure) -> Closure:
    """The closure, its errors marked with the position unless a part further in has marked them."""

    def located(frame: Frame) -> Json:
        try:
            return run(frame)
        except EvaluationError as error:
            error.locate(position)
            raise

    return located


def _unary(node: Unary, operand: Closure) -> Closure:
    apply = UNARY[node.operator]
    return _located(node.position, lambda frame: apply(frame, operand(frame)))


def _binary(node: Binary, left: Closure, right: Closure) -> Closure:
    position, apply = node.position, BINARY[node.operator]
    text_equality = node.operator == "=="

    def binary(frame: Frame) -> Json:
        first, second = left(frame), right(frame)
        # Two strings are what most conditions compare.
        if text_equality and type(first) is str and type(second) is str:
            return first == second
        try:
            return apply(frame, first, second)
        except EvaluationError as error:
            error.locate(position)
            raise

    return binary


def _all_of(items: tuple[Closure, ...]) -> Closure:
    def all_of(frame: Frame) -> Json:
        value: Json = True
        for item in items:
            value = item(frame)
            if not truthy(value):
                return value
        return value

    return all_of


def _any_of(items: tuple[Closure, ...]) -> Closure:
    """The first true operand, or the last; an operand that fails matters only when none is true."""

    def any_of(frame: Frame) -> Json:
        failure: EvaluationError | None = None
        value: Json = False
        for item in items:
            try:
                value = item(frame)
            except EvaluationError as error:
                failure = failure or error
                continue
            if truthy(value):
                return value
        if failure is not None:
            raise failure
        return value

    return any_of


def _function(function: Function, arguments: tuple[Closure, ...], position: int) -> Closure:
    call, when_missing = function.call, function.when_missing

    def called(frame: Frame) -> Json:
        values = [argument(frame) for argument in arguments]
        if any(value is UNKNOWN for value in values):
            return when_missing
        try:
            return call(frame, *values)
        except EvaluationError as error:
            error.locate(position)
            raise

    return called


def _list(items: tuple[Closure, ...]) -> Closure:
    def listed(frame: Frame) -> list[Json]:
        frame.charge(1 + len(items) // 4)
        return [None if (value := item(frame)) is UNKNOWN else value for item in items]

    return listed


def _map(node: MapNode, entries: list[tuple[Closure, Closure]]) -> Closure:
    def mapped(frame: Frame) -> dict[Json, Json]:
        frame.charge(1 + len(entries) // 2)
        result: dict[Json, Json] = {}
        for key, item in entries:
            name, value = key(frame), item(frame)
            number = whole(name)
            if number is None and not isinstance(name, str):
                raise EvaluationError(f"a map's keys are strings or integers, not {type_name(name)}")
            name = name if number is None else number
            if name in result:
                raise EvaluationError("a map's key is given twice")
            result[name] = None if value is UNKNOWN else value
        return result

    return _located(node.position, mapped)


def _over_elements(node: Comprehension, source: Closure, loop: Loop) -> Closure:
    """Runs the loop over a list's elements or a map's keys; a missing list answers no to every question."""
    when_missing = UNKNOWN if node.kind in ("filter", "map") else False

    def over_elements(frame: Frame) -> Json:
        value = source(frame)
        if value is UNKNOWN:
            return when_missing
        if not isinstance(value, (list, dict)):
            raise EvaluationError(f"{node.kind}() needs a list or a map, not {type_name(value)}")
        return loop(frame, value)

    return _located(node.position, over_elements)


def _loop(kind: str, slot: int, bodies: list[Closure]) -> Loop:
    test = bodies[0]

    def tests(frame: Frame, items: Iterable[Json]) -> Iterator[bool]:
        for item in items:
            frame.charge(1)
            frame.locals[slot] = item
            yield truthy(test(frame))

    match kind:
        case "all":
            return lambda frame, items: all(tests(frame, items))
        case "exists":
            return _exists(slot, test)
        case "exists_one":
            return lambda frame, items: sum(tests(frame, items)) == 1
        case "filter":
            return _collected(slot, test, None)
        case _:
            return _collected(slot, None if len(bodies) == 1 else test, bodies[-1])


def _exists(slot: int, test: Closure) -> Loop:
    def exists(frame: Frame, items: Iterable[Json]) -> bool:
        failure: EvaluationError | None = None
        for item in items:
            frame.charge(1)
            frame.locals[slot] = item
            try:
                if truthy(test(frame)):
                    return True
            except EvaluationError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return False

    return exists


def _collected(slot: int, test: Closure | None, change: Closure | None) -> Loop:
    def collected(frame: Frame, items: Iterable[Json]) -> Json:
        result: list[Json] = []
        for item in items:
            frame.charge(1)
            frame.locals[slot] = item
            if test is not None and not truthy(test(frame)):
                continue
            value = item if change is None else change(frame)
            result.append(None if value is UNKNOWN else value)
        return result

    return collected
