"""Text to tokens.

Literals come out decoded (numbers as numbers, strings without quotes and escapes). Integers are not checked
for range here: whether 9223372036854775808 is too large depends on a minus sign, which only the parser sees.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from perdure.expressions.errors import ExpressionError
from perdure.expressions.values import UINT_MAX, Uint
from perdure.model.json import Json

RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "namespace",
        "package",
        "return",
        "var",
        "void",
        "while",
    ]
)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind`: name, int, uint, double, string, bytes, end, or the operator itself."""

    kind: str
    value: Json
    position: int
    end: int


_SPACE = re.compile(r"(?:[ \t\r\n\f]+|//[^\n]*)+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(
    r"(?P<hex>0[xX][0-9a-fA-F]+)(?P<hexu>[uU])?"
    r"|(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<int>[0-9]+)(?P<intu>[uU])?"
)
_STRING = re.compile(r"(?P<prefix>[bB]?[rR]?)(?P<quote>\"\"\"|'''|\"|')")
_OPERATORS = ("&&", "||", "==", "!=", "<=", ">=", *"<>+-*/%!?:.,()[]{}")
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?",
}  # fmt: skip
_CODED = re.compile(r"[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<o>[0-3][0-7]{2})")


def tokenize(source: str) -> list[Token]:
    """All tokens of the text, closed by one of kind `end`; raises `ExpressionError` at what is none."""
    tokens: list[Token] = []
    position = 0
    while True:
        if blank := _SPACE.match(source, position):
            position = blank.end()
        if position >= len(source):
            tokens.append(Token("end", None, len(source), len(source)))
            return tokens
        token = _next(source, position)
        tokens.append(token)
        position = token.end


def _next(source: str, position: int) -> Token:
    if opening := _STRING.match(source, position):
        return _string(source, opening)
    if found := _NAME.match(source, position):
        return Token("name", found[0], position, found.end())
    if found := _NUMBER.match(source, position):
        return _number(source, found)
    for operator in _OPERATORS:
        if source.startswith(operator, position):
            return Token(operator, operator, position, position + len(operator))
    hint = {"=": "; compare with `==`", "&": "; write `&&`", "|": "; write `||`"}.get(source[position], "")
    raise ExpressionError(f"unexpected character {source[position]!r}{hint}", source, position)


def _number(source: str, found: re.Match[str]) -> Token:
    start, end = found.span()
    if _NAME.match(source, end):
        raise ExpressionError(f"a number cannot be followed by {source[end]!r}", source, end)
    if found["float"]:
        value = float(found["float"])
        if not math.isfinite(value):
            raise ExpressionError("the number is too large for a double", source, start)
        return Token("double", value, start, end)
    digits = found["hex"] or found["int"]
    if len(digits) > 40:
        raise ExpressionError("the integer does not fit 64 bits", source, start)
    number = int(digits, 16 if found["hex"] else 10)
    if not (found["hexu"] or found["intu"]):
        return Token("int", number, start, end)
    if number > UINT_MAX:
        raise ExpressionError("the unsigned integer does not fit 64 bits", source, start)
    return Token("uint", Uint(number), start, end)


def _string(source: str, opening: re.Match[str]) -> Token:
    quote, prefix = opening["quote"], opening["prefix"].lower()
    raw, is_bytes = "r" in prefix, "b" in prefix
    parts: list[str | bytes] = []
    position = opening.end()
    while not source.startswith(quote, position):
        if position >= len(source) or (len(quote) == 1 and source[position] in "\r\n"):
            raise ExpressionError(f"the string is not closed; {quote} is missing", source, opening.start())
        if source[position] == "\\" and not raw:
            part, position = _escape(source, position, is_bytes)
            parts.append(part)
            continue
        parts.append(source[position])
        position += 1
    end = position + len(quote)
    if not is_bytes:
        return Token("string", "".join(str(part) for part in parts), opening.start(), end)
    data = b"".join(p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in parts)
    return Token("bytes", data, opening.start(), end)


def _escape(source: str, position: int, is_bytes: bool) -> tuple[str | bytes, int]:
    """The character (or, in a bytes literal, the octet) an escape stands for, and where the text goes on."""
    letter = source[position + 1 : position + 2]
    if letter in _ESCAPES:
        return _ESCAPES[letter], position + 2
    found = _CODED.match(source, position + 1)
    if found is None:
        raise ExpressionError(
            f"unknown escape \\{letter}; write \\\\ for a backslash, or a raw string r'...'", source, position
        )
    if found["x"] or found["o"]:
        code = int(found["x"], 16) if found["x"] else int(found["o"], 8)
        return (bytes([code]) if is_bytes else chr(code)), found.end()
    if is_bytes:
        raise ExpressionError("\\u and \\U are not allowed in a bytes literal; use \\x", source, position)
    code = int(found["u"] or found["U"], 16)
    if code > 0x10FFFF:
        raise ExpressionError("no such character: at most \\U0010FFFF", source, position)
    return chr(code), found.end()
