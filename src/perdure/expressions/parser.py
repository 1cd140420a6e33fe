"""Tokens to syntax tree: a Pratt parser.

Nesting is counted while parsing (each level costs a few Python frames) and the finished tree's depth is
checked too (a chain of `+` is deep without any parenthesis), so nothing that walks a tree later can run out
of stack. Names and functions are checked in `checks`, not here.
"""

from __future__ import annotations

from typing import Final

from perdure.expressions.errors import ExpressionError
from perdure.expressions.lexer import RESERVED, Token, tokenize
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
    depth,
)
from perdure.expressions.values import INT_MAX

MAX_SOURCE: Final = 64 * 1024
MAX_NESTING: Final = 48
MAX_DEPTH: Final = 120
MACROS: Final = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}


def parse(source: str) -> Node:
    """The syntax tree of an expression; raises `ExpressionError` for anything that is not one."""
    if len(source) > MAX_SOURCE:
        raise ExpressionError(f"the expression is longer than {MAX_SOURCE} characters")
    parser = _Parser(source, tokenize(source))
    node = parser.expression()
    if parser.token.kind != "end":
        raise parser.unexpected("an operator or the end")
    if depth(node) > MAX_DEPTH:
        raise ExpressionError("the expression is nested too deeply; split it or use lists", source, 0)
    return node


class _Parser:
    def __init__(self, source: str, tokens: list[Token]) -> None:
        self._source = source
        self._tokens = tokens
        self._at = 0
        self._nesting = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def unexpected(self, wanted: str) -> ExpressionError:
        token = self.token
        found = "the end" if token.kind == "end" else repr(self._source[token.position : token.end][:40])
        return self.error(f"expected {wanted}, found {found}")

    def error(self, reason: str, position: int | None = None) -> ExpressionError:
        return ExpressionError(reason, self._source, self.token.position if position is None else position)

    def _advance(self) -> Token:
        token = self.token
        self._at += 1
        return token

    def _take(self, kind: str) -> bool:
        if self.token.kind != kind:
            return False
        self._at += 1
        return True

    def _expect(self, kind: str, why: str) -> Token:
        if self.token.kind != kind:
            raise self.unexpected(f"`{kind}` {why}")
        return self._advance()

    def expression(self) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self.error("the expression is nested too deeply; split it or use lists")
        node = self._binary(2)
        if self.token.kind == "?":
            position = self._advance().position
            then = self.expression()
            self._expect(":", "between the two results of `? :`")
            node = Conditional(node, then, self.expression(), position)
        self._nesting -= 1
        return node

    def _binary(self, minimum: int) -> Node:
        left = self._unary()
        while True:
            token = self.token
            operator = str(token.value) if token.kind == "name" else token.kind
            binding = BINDING.get(operator, 0)
            if binding < minimum:
                return left
            self._at += 1
            if operator in ("&&", "||"):
                items = [left, self._binary(binding + 1)]
                while self._take(operator):
                    items.append(self._binary(binding + 1))
                left = Logical(operator, tuple(items), token.position)
            else:
                left = Binary(operator, left, self._binary(binding + 1), token.position)

    def _unary(self) -> Node:
        prefixes: list[Token] = []
        while self.token.kind in ("!", "-"):
            prefixes.append(self._advance())
        number = self.token
        follower = self._tokens[self._at + 1].kind if number.kind in ("int", "double") else ""
        if prefixes and prefixes[-1].kind == "-" and follower and follower not in (".", "["):
            # The sign belongs to the number: only so is the smallest integer writable.
            position = prefixes.pop().position
            self._at += 1
            node: Node = self._number(number.kind, -number.value, position)
        else:
            node = self._postfix(self._primary())
        for prefix in reversed(prefixes):
            node = Unary(prefix.kind, node, prefix.position)
        return node

    def _number(self, kind: str, value: int | float, position: int) -> Literal:
        if kind == "int" and not -INT_MAX - 1 <= value <= INT_MAX:
            raise self.error("the integer does not fit 64 bits; write it with a decimal point", position)
        return Literal(kind, value, position)

    def _primary(self) -> Node:
        token = self.token
        if token.kind in ("int", "double"):
            self._at += 1
            return self._number(token.kind, token.value, token.position)
        if token.kind in ("uint", "string", "bytes"):
            self._at += 1
            return Literal(token.kind, token.value, token.position)
        if token.kind == "name":
            return self._name()
        if self._take("("):
            node = self.expression()
            self._expect(")", "to close the parenthesis")
            return node
        if self._take("["):
            return ListNode(tuple(self._sequence("]")), token.position)
        if self._take("{"):
            return self._map(token.position)
        raise self.unexpected("a value")

    def _name(self) -> Node:
        token = self._advance()
        name = str(token.value)
        if name in ("true", "false"):
            return Literal("bool", name == "true", token.position)
        if name == "null":
            return Literal("null", None, token.position)
        if name in RESERVED or name == "in":
            raise self.error(f"`{name}` is a reserved word", token.position)
        if not self._take("("):
            return Name(name, token.position)
        arguments = self._sequence(")")
        if name != "has":
            return Call(None, name, tuple(arguments), token.position)
        if len(arguments) != 1 or not isinstance(arguments[0], (Select, Index)):
            raise self.error("has() takes one path, as in has(event.data.id)", token.position)
        return Has(arguments[0], token.position)

    def _postfix(self, node: Node) -> Node:
        while True:
            token = self.token
            if self._take("."):
                field = self._expect("name", "after the dot").value if self.token.kind == "name" else None
                if field is None:
                    raise self.unexpected("a field's name after the dot")
                node = self._method(node, field, token) if self._take("(") else Select(node, field, token.position)
            elif self._take("["):
                key = self.expression()
                self._expect("]", "to close the index")
                node = Index(node, key, token.position)
            else:
                return node

    def _method(self, target: Node, name: str, token: Token) -> Node:
        arguments = self._sequence(")")
        if name not in MACROS:
            return Call(target, name, tuple(arguments), token.position + 1)
        if len(arguments) not in MACROS[name]:
            example = f"x.{name}(item, item.n > 1)"
            raise self.error(f"{name}() takes a variable and a condition, as in {example}", token.position + 1)
        variable = arguments[0]
        if not isinstance(variable, Name):
            raise self.error(f"the first argument of {name}() is a plain variable name", variable.position)
        return Comprehension(name, target, variable.name, tuple(arguments[1:]), token.position + 1)

    def _sequence(self, closing: str) -> list[Node]:
        items: list[Node] = []
        while not self._take(closing):
            items.append(self.expression())
            if not self._take(","):
                self._expect(closing, "or `,` after an item")
                break
            if closing == ")" and self.token.kind == ")":
                raise self.unexpected("an argument")
        return items

    def _map(self, position: int) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._take("}"):
            key = self.expression()
            self._expect(":", "after a map's key")
            entries.append((key, self.expression()))
            if not self._take(","):
                self._expect("}", "or `,` after an entry")
                break
        return MapNode(tuple(entries), position)
