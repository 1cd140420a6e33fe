"""The syntax tree: small frozen nodes, compared by what they say, not by where they stood.

Every node keeps the position of its most telling character for error messages; positions take no part in
equality. A chain of `&&` (or of `||`) is one n-ary `Logical`, so that long conditions are flat, not deep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Final, TypeAlias

from perdure.model.json import Json

BINDING: Final = {
    "||": 2, "&&": 3, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "in": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6,
}  # fmt: skip
"""How tightly the operators between two values bind; all associate to the left."""


@dataclass(frozen=True, slots=True)
class Literal:
    """`kind` keeps `1`, `1u`, `1.0` and `true` apart, which Python's equality does not."""

    kind: str
    value: Json
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    name: str
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Select:
    operand: Node
    field: str
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    operand: Node
    key: Node
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function (`target` is None) or a method."""

    target: Node | None
    function: str
    arguments: tuple[Node, ...]
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Has:
    operand: Select | Index
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Comprehension:
    """A macro over a list or map: `all`, `exists`, `exists_one`, `filter` (one body), `map` (one or two)."""

    kind: str
    source: Node
    variable: str
    bodies: tuple[Node, ...]
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: Node
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Node
    right: Node
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Logical:
    operator: str
    items: tuple[Node, ...]
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Conditional:
    test: Node
    then: Node
    other: Node
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ListNode:
    items: tuple[Node, ...]
    position: int = attribute(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class MapNode:
    entries: tuple[tuple[Node, Node], ...]
    position: int = attribute(default=0, compare=False)


Node: TypeAlias = (
    Literal | Name | Select | Index | Call | Has | Comprehension | Unary | Binary | Logical | Conditional
    | ListNode | MapNode
)  # fmt: skip


def children(node: Node) -> tuple[Node, ...]:
    """The node's direct parts, in the order they are written."""
    match node:
        case Literal() | Name():
            return ()
        case Select(operand=operand) | Has(operand=operand) | Unary(operand=operand):
            return (operand,)
        case Index():
            return (node.operand, node.key)
        case Call():
            return node.arguments if node.target is None else (node.target, *node.arguments)
        case Comprehension():
            return (node.source, *node.bodies)
        case Binary():
            return (node.left, node.right)
        case Logical() | ListNode():
            return node.items
        case Conditional():
            return (node.test, node.then, node.other)
        case MapNode():
            return tuple(part for entry in node.entries for part in entry)


def depth(node: Node) -> int:
    """How many nodes the longest way down has; counted without recursion."""
    deepest, level = 0, [node]
    while level:
        deepest += 1
        level = [child for item in level for child in children(item)]
    return deepest


def free_names(node: Node, bound: frozenset[str] = frozenset()) -> Iterator[Name]:
    """The names that refer to something outside the expression (macro variables are left out)."""
    if isinstance(node, Name):
        if node.name not in bound:
            yield node
    elif isinstance(node, Comprehension):
        yield from free_names(node.source, bound)
        for body in node.bodies:
            yield from free_names(body, bound | {node.variable})
    else:
        for child in children(node):
            yield from free_names(child, bound)
