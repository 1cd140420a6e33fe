"""What can be told wrong about a parsed expression before any data is seen.

Unknown names, functions and methods, wrong numbers of arguments, and literals that a function could never
read (a bad duration, time or regular expression).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from perdure.expressions.errors import EvaluationError, ExpressionError
from perdure.expressions.functions import FUNCTIONS, LITERAL_READERS, METHODS, Function
from perdure.expressions.nodes import Call, Comprehension, Literal, MapNode, Name, Node, Select, children
from perdure.expressions.parser import MACROS
from perdure.expressions.values import DURATION_TYPE, TIMESTAMP_TYPE, TYPE_NAMES


def check(node: Node, source: str, variables: frozenset[str]) -> None:
    """Raises `ExpressionError` at the first thing that is wrong."""
    if type_constant(node) is not None:
        return
    scope = variables
    if isinstance(node, Name):
        _check_name(node, source, variables)
    elif isinstance(node, Call):
        _check_call(node, source)
    elif isinstance(node, MapNode):
        for key, _ in node.entries:
            if isinstance(key, Literal) and key.kind not in ("string", "int", "uint"):
                raise ExpressionError("a map's keys are strings or integers", source, key.position)
    elif isinstance(node, Comprehension):
        if node.variable in TYPE_NAMES:
            reason = f"`{node.variable}` is a type's name; choose another variable"
            raise ExpressionError(reason, source, node.position)
        check(node.source, source, scope)
        for body in node.bodies:
            check(body, source, scope | {node.variable})
        return
    for child in children(node):
        check(child, source, scope)


def type_constant(node: Node) -> str | None:
    """The full name when the node is one of the two types that have a dotted name."""
    match node:
        case Select(operand=Select(operand=Name(name="google"), field="protobuf"), field=field):
            full = f"google.protobuf.{field}"
            return full if full in (TIMESTAMP_TYPE, DURATION_TYPE) else None
        case _:
            return None


def _check_name(node: Name, source: str, variables: frozenset[str]) -> None:
    if node.name in variables or node.name in TYPE_NAMES:
        return
    known = ", ".join(f"`{name}`" for name in sorted(variables))
    raise ExpressionError(
        f"`{node.name}` is not known here{_suggestion(node.name, variables)}; the variables are {known}",
        source,
        node.position,
    )


def _check_call(node: Call, source: str) -> None:
    if node.target is None:
        function = _known(node, source, FUNCTIONS, METHODS, f"x.{node.function}(...)", "function")
    else:
        function = _known(node, source, METHODS, FUNCTIONS, f"{node.function}(x)", "method")
    given = len(node.arguments)
    if not function.least <= given <= function.most:
        wanted = str(function.least) if function.least == function.most else f"{function.least} or {function.most}"
        plural = "" if wanted == "1" else "s"
        raise ExpressionError(f"{node.function}() takes {wanted} argument{plural}, not {given}", source, node.position)
    reader = LITERAL_READERS.get(node.function)
    last = node.arguments[-1] if node.arguments else None
    if reader is not None and isinstance(last, Literal) and last.kind == "string":
        try:
            reader(last.value)
        except EvaluationError as error:
            raise ExpressionError(error.reason, source, last.position) from None


def _known(
    node: Call, source: str, table: dict[str, Function], others: dict[str, Function], instead: str, what: str
) -> Function:
    if node.function in table:
        return table[node.function]
    if node.function in others or (what == "function" and node.function in MACROS):
        reason = f"`{node.function}` is not a {what}; write {instead}"
    else:
        known = {*table, *MACROS} if what == "method" else {*table, "has"}
        reason = f"there is no {what} `{node.function}`{_suggestion(node.function, known)}"
    raise ExpressionError(reason, source, node.position)


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:60], sorted(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""
