"""Syntax tree to canonical text: `parse(unparse(tree)) == tree`.

Strings are written with double quotes, everything that is not printable as an escape; parentheses only where
the grammar needs them.
"""

from __future__ import annotations

from typing import Final

from perdure.expressions.nodes import (
    BINDING,
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

_CONDITIONAL, _UNARY, _POSTFIX, _ATOM = 1, 7, 8, 9
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def unparse(node: Node) -> str:
    """The canonical text of a tree."""
    return _text(node, 0)


def quote(value: str) -> str:
    """A string as a literal.

    >>> print(quote('say "hi"'))
    "say \\"hi\\""
    """
    return '"' + "".join(_character(char) for char in value) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"


def _text(node: Node, minimum: int) -> str:
    """The node's text, in parentheses when it binds more loosely than its place demands."""
    text, binding = _bound_text(node)
    return f"({text})" if binding < minimum else text


def _bound_text(node: Node) -> tuple[str, int]:
    match node:
        case Literal():
            return _literal(node)
        case Name():
            return node.name, _ATOM
        case Select():
            return f"{_text(node.operand, _POSTFIX)}.{node.field}", _POSTFIX
        case Index():
            return f"{_text(node.operand, _POSTFIX)}[{_text(node.key, 0)}]", _POSTFIX
        case Has():
            return f"has({_text(node.operand, 0)})", _POSTFIX
        case Call(target=None):
            return f"{node.function}({_joined(node.arguments)})", _POSTFIX
        case Call(target=target) if target is not None:
            return f"{_text(target, _POSTFIX)}.{node.function}({_joined(node.arguments)})", _POSTFIX
        case Comprehension():
            source = _text(node.source, _POSTFIX)
            return f"{source}.{node.kind}({node.variable}, {_joined(node.bodies)})", _POSTFIX
        case ListNode():
            return f"[{_joined(node.items)}]", _ATOM
        case MapNode():
            entries = ", ".join(f"{_text(key, 0)}: {_text(value, 0)}" for key, value in node.entries)
            return f"{{{entries}}}", _ATOM
        case _:
            return _operation(node)


def _operation(node: Node) -> tuple[str, int]:
    match node:
        case Unary(operator=operator, operand=operand):
            # A literal under a minus keeps its parentheses: `-5` is one literal, `-(5)` a negation.
            is_number = isinstance(operand, Literal) and operand.kind in ("int", "double") and operator == "-"
            return operator + _text(operand, _ATOM + 1 if is_number else _UNARY), _UNARY
        case Binary(operator=operator):
            binding = BINDING[operator]
            left, right = _text(node.left, binding), _text(node.right, binding + 1)
            return f"{left} {operator} {right}", binding
        case Logical(operator=operator):
            binding = BINDING[operator]
            return f" {operator} ".join(_text(item, binding + 1) for item in node.items), binding
        case Conditional():
            test, then = _text(node.test, _CONDITIONAL + 1), _text(node.then, 0)
            return f"{test} ? {then} : {_text(node.other, _CONDITIONAL)}", _CONDITIONAL
        case _:
            raise TypeError(f"not an operation: {node!r}")


def _joined(items: tuple[Node, ...]) -> str:
    return ", ".join(_text(item, 0) for item in items)


def _literal(node: Literal) -> tuple[str, int]:
    value = node.value
    if node.kind == "null":
        return "null", _ATOM
    if node.kind == "bool":
        return ("true" if value else "false"), _ATOM
    if node.kind == "string":
        return quote(value), _ATOM
    if node.kind == "bytes":
        octets = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in value)
        return f'b"{octets}"', _ATOM
    if node.kind == "uint":
        return f"{int(value)}u", _ATOM
    text = repr(value)
    # A signed literal is an operand like any unary: `(-5).x`, but `1 - -5`.
    return text, _UNARY if text.startswith("-") else _ATOM
