"""What the operators mean over JSON values, null and missing.

All functions take the frame (they charge it for what costs) and two values. Missing (`UNKNOWN`) never raises:
it is null to `==`, less than everything to `<`, nothing to `+`, and it passes through the other arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from perdure.expressions.budget import MAX_ITEMS, MAX_STRING, Frame
from perdure.expressions.errors import EvaluationError
from perdure.expressions.times import duration, timestamp
from perdure.expressions.values import (
    INT_MAX,
    INT_MIN,
    UINT_MAX,
    UNKNOWN,
    Duration,
    Timestamp,
    Uint,
    is_number,
    text,
    truthy,
    type_name,
    whole,
)
from perdure.model.json import Json

Operation = Callable[[Frame, Json, Json], Json]


def equals(frame: Frame, left: Json, right: Json) -> bool:
    """`==`: numbers by value, everything else within its type; missing equals null and nothing else."""
    kind, other = type(left), type(right)
    if kind is other and kind in (str, int, bool, float):
        return bool(left == right)
    if left is UNKNOWN or right is UNKNOWN:
        return left is None or right is None
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if kind is not other:
        return False
    if isinstance(left, list):
        frame.charge(1 + len(left) // 4)
        return len(left) == len(right) and all(equals(frame, a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        frame.charge(1 + len(left) // 4)
        same_keys = len(left) == len(right) and all(key in right for key in left)
        return same_keys and all(equals(frame, value, right[key]) for key, value in left.items())
    if isinstance(left, (str, bytes)):
        frame.charge(len(left) // 1024)
    return bool(left == right)


def not_equals(frame: Frame, left: Json, right: Json) -> bool:
    return not equals(frame, left, right)


def _zero(like: Json) -> Json:
    """The value null stands for beside `like` in an ordering."""
    zeros: dict[type[Json], Json] = {str: "", bool: False, bytes: b"", Duration: Duration(0)}
    return 0 if is_number(like) else zeros.get(type(like))


def _order(symbol: str, compare: Callable[[Json, Json], bool], missing_left: bool) -> Operation:
    def ordered(frame: Frame, left: Json, right: Json) -> bool:
        if left is UNKNOWN:
            return missing_left
        if right is UNKNOWN:
            return not missing_left
        first = _zero(right) if left is None and right is not None else left
        second = _zero(left) if right is None and left is not None else right
        if (is_number(first) and is_number(second)) or (
            type(first) is type(second) and isinstance(first, (str, bool, bytes, Timestamp, Duration))
        ):
            return compare(first, second)
        raise EvaluationError(
            f"cannot compare {type_name(left)} {symbol} {type_name(right)}; convert one side, as in double(x)"
        )

    return ordered


def _fault(symbol: str, left: Json, right: Json) -> EvaluationError:
    return EvaluationError(f"`{symbol}` is not defined for {type_name(left)} and {type_name(right)}")


def _number(symbol: str, left: Json, right: Json, result: int | float) -> int | float:
    """The result, checked: integers fit 64 bits, doubles are finite."""
    if isinstance(result, float):
        if not math.isfinite(result):
            raise EvaluationError(f"`{symbol}` overflows: the result is too large for a double")
        return result
    if isinstance(left, Uint) and isinstance(right, Uint):
        if not 0 <= result <= UINT_MAX:
            raise EvaluationError(f"`{symbol}` overflows 64 unsigned bits")
        return Uint(result)
    if not INT_MIN <= result <= INT_MAX:
        raise EvaluationError(f"`{symbol}` overflows a 64-bit integer; write one operand as double(x)")
    return int(result)


def add(frame: Frame, left: Json, right: Json) -> Json:
    """`+`: sums numbers, durations and times, joins strings, bytes and lists; anything mixed becomes text."""
    if left is UNKNOWN or (left is None and right is not UNKNOWN):
        return right
    if right is UNKNOWN or right is None:
        return left
    if is_number(left) and is_number(right):
        return _number("+", left, right, left + right)
    if isinstance(left, Duration) and isinstance(right, Duration):
        return duration(left.ns + right.ns)
    if isinstance(left, (Timestamp, Duration)) and isinstance(right, (Timestamp, Duration)):
        if isinstance(left, Timestamp) and isinstance(right, Timestamp):
            raise _fault("+", left, right)
        return timestamp(left.ns + right.ns)
    if isinstance(left, list) and isinstance(right, list):
        return _joined(frame, left, right, MAX_ITEMS, 4)
    if isinstance(left, bytes) and isinstance(right, bytes):
        return _joined(frame, left, right, MAX_STRING, 64)
    if type(left) is type(right) and not isinstance(left, str):
        raise _fault("+", left, right)
    for operand in (left, right):
        if isinstance(operand, (list, dict)):
            _charge_text(frame, operand)
    return _joined(frame, text(left), text(right), MAX_STRING, 64)


def _charge_text(frame: Frame, value: Json) -> None:
    """Charges for writing out a list or map before it is done."""
    stack = [value]
    while stack:
        item = stack.pop()
        frame.charge(1 + (len(item) // 64 if isinstance(item, (str, bytes)) else 0))
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _joined(frame: Frame, left: Json, right: Json, limit: int, per_unit: int) -> Json:
    size = len(left) + len(right)
    if size > limit:
        raise EvaluationError(f"the result of `+` is longer than {limit}")
    frame.charge(size // per_unit)
    return left + right


def subtract(frame: Frame, left: Json, right: Json) -> Json:
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if is_number(left) and is_number(right):
        return _number("-", left, right, left - right)
    if isinstance(left, Timestamp) and isinstance(right, Timestamp):
        return duration(left.ns - right.ns)
    if isinstance(left, Timestamp) and isinstance(right, Duration):
        return timestamp(left.ns - right.ns)
    if isinstance(left, Duration) and isinstance(right, Duration):
        return duration(left.ns - right.ns)
    raise _fault("-", left, right)


def _arithmetic(symbol: str, compute: Callable[[Json, Json], int | float]) -> Operation:
    def computed(frame: Frame, left: Json, right: Json) -> Json:
        if left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        if not (is_number(left) and is_number(right)):
            raise _fault(symbol, left, right)
        if right == 0 and symbol != "*":
            raise EvaluationError("division by zero")
        return _number(symbol, left, right, compute(left, right))

    return computed


def _quotient(left: Json, right: Json) -> int | float:
    """Exact when two integers divide evenly, a double otherwise: JSON does not know integer division."""
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return float(left / right)


def _remainder(left: Json, right: Json) -> int | float:
    """The sign is the dividend's, as in C, Go and JavaScript."""
    if isinstance(left, int) and isinstance(right, int):
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return math.fmod(left, right)


def contains(frame: Frame, item: Json, container: Json) -> bool:
    """`in`: an element of a list or a key of a map; false when either side is missing."""
    if item is UNKNOWN or container is UNKNOWN:
        return False
    if isinstance(container, list):
        frame.charge(len(container) // 8)
        return any(equals(frame, item, element) for element in container)
    if isinstance(container, dict):
        key = item if isinstance(item, str) else whole(item)
        return key is not None and key in container
    raise EvaluationError(f"`in` needs a list or a map on its right, not {type_name(container)}")


def negate(frame: Frame, value: Json) -> Json:
    if value is UNKNOWN:
        return UNKNOWN
    if not is_number(value) or isinstance(value, Uint):
        raise EvaluationError(f"`-` is not defined for {type_name(value)}")
    return _number("-", value, value, -value)


def invert(frame: Frame, value: Json) -> bool:
    """`!`: of a bool; missing and null count as false."""
    if value is UNKNOWN or value is None or isinstance(value, bool):
        return not truthy(value)
    raise EvaluationError(f"`!` is for true and false, not {type_name(value)}; compare first, as in x == 0")


BINARY: Final[dict[str, Operation]] = {
    "==": equals,
    "!=": not_equals,
    "<": _order("<", lambda a, b: bool(a < b), True),
    "<=": _order("<=", lambda a, b: bool(a <= b), True),
    ">": _order(">", lambda a, b: bool(a > b), False),
    ">=": _order(">=", lambda a, b: bool(a >= b), False),
    "+": add,
    "-": subtract,
    "*": _arithmetic("*", lambda a, b: a * b),
    "/": _arithmetic("/", _quotient),
    "%": _arithmetic("%", _remainder),
    "in": contains,
}
UNARY: Final[dict[str, Callable[[Frame, Json], Json]]] = {"-": negate, "!": invert}
