"""`compile` and what it returns: the front of the room.

An `Expression` is immutable and safe to share between threads and tasks; all state of an evaluation lives in
a `Frame` of its own. Whatever the text and the data, only `ExpressionError` and `EvaluationError` come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from perdure.expressions.budget import Frame
from perdure.expressions.checks import check
from perdure.expressions.compiler import compile_tree
from perdure.expressions.errors import EvaluationError, ExpressionError
from perdure.expressions.nodes import Index, Name, Node, Select, depth, free_names
from perdure.expressions.parser import MAX_NESTING, MAX_SOURCE, parse
from perdure.expressions.partial import Known, equalities, index_of, literal, reduce_tree
from perdure.expressions.printer import unparse
from perdure.expressions.values import UNKNOWN, is_number, number_text, to_json, truthy
from perdure.model.json import Json, encode

VARIABLES: Final = frozenset({"event", "async", "vars"})
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Partial:
    """What is left of a condition when its first event is fixed.

    - `source`: the remaining condition over `async`, in canonical text that compiles again;
    - `constant`: whether it is true, when the event alone decides; else None;
    - `equalities`: pairs (path below `async`, JSON value) that must be equal for the condition to hold;
    - `index`: the first of them that a store can look up, as (path, `match_key` of the value); else None.
    """

    source: str
    constant: bool | None
    equalities: tuple[tuple[str, Json], ...]
    index: tuple[str, str] | None


class Expression:
    """A compiled expression; made by `compile`."""

    __slots__ = ("_is_path", "_local_count", "_node", "_run", "source", "variables")

    def __init__(self, source: str, node: Node, variables: frozenset[str]) -> None:
        program = compile_tree(node)
        self.source = source
        self.variables = frozenset(name.name for name in free_names(node)) & variables
        """The variables the expression really uses."""
        self._node = node
        self._run = program.run
        self._local_count = program.local_count
        self._is_path = _is_path(node)

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, scope: Mapping[str, Json], *, now: int) -> Json:
        """The value as JSON: missing is false, times and durations are strings (`now` in ms since the epoch).

        Raises `EvaluationError` when the operators are not defined for the values.

        >>> compile("event.data.n + 1").evaluate({"event": {"data": {"n": 5}}}, now=0)
        6
        """
        value = self._value(scope, now)
        if value is None or isinstance(value, (str, bool)) or (self._is_path and isinstance(value, (list, dict))):
            return value
        return self._guarded(lambda: to_json(value, Frame(scope, now, 0).charge))

    def truthy(self, scope: Mapping[str, Json], *, now: int) -> bool:
        """Whether the value counts as true: not missing, null, false, zero or an empty string."""
        return truthy(self._value(scope, now))

    def key(self, scope: Mapping[str, Json], *, now: int) -> str | None:
        """The value as a stable string for flow control; None when it is missing, null or false.

        >>> compile("event.data.user").key({"event": {"data": {"user": 7}}}, now=0)
        '7'
        """
        value = self._value(scope, now)
        if isinstance(value, str):
            return value
        return (
            None
            if value is None or value is False
            else self._guarded(lambda: _key_text(to_json(value, Frame(scope, now, 0).charge)))
        )

    def number(self, scope: Mapping[str, Json], *, now: int) -> float | None:
        """The value as a number; None when it is anything else."""
        value = self._value(scope, now)
        return self._guarded(lambda: float(value)) if is_number(value) else None

    def partial(self, event: Json, *, now: int) -> Partial:
        """Fixes `event` and the time, leaves `async` (and `vars`) open.

        Raises `EvaluationError` when a value of the event is too large to be kept in the condition's text.

        >>> event = {"data": {"id": "ab_1", "value": 1295.0}}
        >>> left = compile("event.data.id == async.data.id && async.data.val <= event.data.value")
        >>> left.partial(event, now=0).source
        '"ab_1" == async.data.id && async.data.val <= 1295.0'
        >>> left.partial(event, now=0).index
        ('data.id', 's:ab_1')
        """
        return self._guarded(lambda: self._partial(event, now))

    def _partial(self, event: Json, now: int) -> Partial:
        reduced = reduce_tree(self._node, {"event": event}, now)
        node = literal(reduced.value) if isinstance(reduced, Known) else reduced
        constant = truthy(reduced.value) if isinstance(reduced, Known) else None
        source = unparse(node)
        if len(source) > MAX_SOURCE:
            raise EvaluationError("the event's values are too long to be kept in a condition")
        if depth(node) > MAX_NESTING:
            _check_depth(source)
        pairs = equalities(node)
        return Partial(source, constant, tuple(pairs), index_of(pairs))

    def _value(self, scope: Mapping[str, Json], now: int) -> Json:
        value = UNKNOWN
        try:
            value = self._run(Frame(scope, now, self._local_count))
        except EvaluationError as error:
            error.source = self.source
            raise
        except (RecursionError, OverflowError, MemoryError) as error:
            raise EvaluationError(_exhausted(error), self.source) from None
        return False if value is UNKNOWN else value

    def _guarded(self, compute: Callable[[], _Result]) -> _Result:
        try:
            return compute()
        except EvaluationError as error:
            error.source = self.source
            raise
        except (RecursionError, OverflowError, MemoryError) as error:
            raise EvaluationError(_exhausted(error), self.source) from None


def _is_path(node: Node) -> bool:
    """Whether the value is part of a variable, thus JSON already (part of a literal list need not be)."""
    while isinstance(node, (Select, Index)):
        node = node.operand
    return isinstance(node, Name)


def _check_depth(source: str) -> None:
    """Values nested in a nested expression may be too much together: the text would not compile again."""
    try:
        parse(source)
    except ExpressionError:
        raise EvaluationError("the event's values are nested too deeply to be kept in a condition") from None


def _exhausted(error: BaseException) -> str:
    if isinstance(error, OverflowError):
        return "a number is too large"
    return "the data is nested too deeply or too large"


def _key_text(plain: Json) -> str:
    if isinstance(plain, (bool, int, float)):
        return str(plain).lower() if isinstance(plain, bool) else number_text(plain)
    return plain if isinstance(plain, str) else encode(_ordered(plain)).decode("utf-8")


def _ordered(value: Json) -> Json:
    """The value with sorted keys and whole numbers as integers: equal values become equal text."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def compile(source: str, *, variables: frozenset[str] = VARIABLES) -> Expression:
    """Compiles an expression over these variables; the result is cached.

    Raises `ExpressionError` for syntax errors, unknown names and functions, wrong numbers of arguments,
    unreadable literals, and text that is too long or nested too deeply.

    >>> compile("event.data.plan == 'pro' ? 120 : 0").evaluate({"event": {"data": {"plan": "pro"}}}, now=0)
    120
    """
    if not isinstance(source, str):
        raise ExpressionError(f"an expression is a string, not {type(source).__name__}")
    if len(source) > MAX_SOURCE:
        raise ExpressionError(f"the expression is longer than {MAX_SOURCE} characters; shorten it")
    return _compile(source, variables)


@lru_cache(maxsize=4096)
def _compile(source: str, variables: frozenset[str]) -> Expression:
    try:
        node = parse(source)
        check(node, source, variables)
        return Expression(source, node, variables)
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply; split it or use lists", source, 0) from None
