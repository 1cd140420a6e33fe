"""JSONPath, as far as capabilities use it (RFC 9535, and what their authors write besides).

`$` and `$.` are the root, and names after a dot may have hyphens and spaces (`$.get-run.Due date`). A path that can
lead to one place alone gives its value, or None where there is none; one with `*`, `..`, a slice, a list of names or a
filter gives a list.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeAlias

from perdure.model.json import InvalidJsonError, Json, decode

Segment: TypeAlias = Callable[[Json], Iterator[Json]]

_FILTER = re.compile(
    r"\?\s*\(?\s*@((?:\.[\w-]+|\[[^\]]+\])*)\s*(?:(==|!=|<=|>=|<|>)\s*('[^']*'|\"[^\"]*\"|[^\s)]+))?\s*\)?\s*\Z"
)
_SLICE = re.compile(r"(-?\d+)?\s*:\s*(-?\d+)?(?:\s*:\s*(-?\d+)?)?\Z")
_QUOTED = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*(,|\Z)")


class JsonPathError(ValueError):
    """A path that cannot be read."""


class JsonPath:
    """A path that was read; call it with a value."""

    def __init__(self, segments: list[Segment], definite: bool) -> None:
        self._segments = segments
        self.definite = definite
        self.is_root = not segments

    def __call__(self, root: Json) -> Json:
        values = [root]
        for segment in self._segments:
            values = [found for value in values for found in segment(value)]
        if self.definite:
            return values[0] if values else None
        return values


@lru_cache(maxsize=4096)
def parse(text: str) -> JsonPath:
    """Reads a path; raises `JsonPathError`.

    >>> parse("$.runs[*].run id")({"runs": [{"run id": 1}, {}, {"run id": 2}]})
    [1, 2]
    >>> parse("$.")(5), parse("$.a[0]")({"a": []})
    (5, None)
    """
    rest = text.strip()
    if not rest.startswith("$"):
        raise JsonPathError(f"{text!r} is no JSONPath: it must begin with $")
    rest = rest[1:]
    if rest == ".":
        return JsonPath([], True)
    segments: list[Segment] = []
    definite = True
    while rest:
        segment, one, rest = _segment(rest, text)
        segments.append(segment)
        definite = definite and one
    return JsonPath(segments, definite)


def _segment(rest: str, text: str) -> tuple[Segment, bool, str]:
    if rest.startswith(".."):
        name, rest = _dotted("." + rest[2:].removeprefix("."), text) if not rest.startswith("..[") else ("", rest[2:])
        return _descend(name or "*"), False, rest
    if rest.startswith("["):
        end = _closing(rest, text)
        segment, one = _bracket(rest[1:end].strip(), text)
        return segment, one, rest[end + 1 :]
    name, rest = _dotted(rest, text)
    return (_every, False, rest) if name == "*" else (_child(name), True, rest)


def _dotted(rest: str, text: str) -> tuple[str, str]:
    match = re.match(r"\.([^.\[\]]+)", rest)
    if match is None:
        raise JsonPathError(f"{text!r} is no JSONPath: a name is missing at {rest[:20]!r}")
    return match[1].strip(), rest[match.end() :]


def _closing(rest: str, text: str) -> int:
    quote, depth = "", 0
    for position, char in enumerate(rest):
        if quote:
            quote = "" if char == quote and rest[position - 1] != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if depth == 0:
                return position
    raise JsonPathError(f"{text!r} is no JSONPath: a bracket is not closed")


def _bracket(inner: str, text: str) -> tuple[Segment, bool]:
    if inner == "*":
        return _every, False
    if re.fullmatch(r"-?\d+", inner):
        return _index(int(inner)), True
    slice_ = _SLICE.match(inner)
    if slice_:
        return _slice(slice(*(int(each) if each else None for each in slice_.groups()))), False
    if inner.startswith("?"):
        return _filter(inner, text), False
    names = _names(inner, text)
    return (_child(names[0]), True) if len(names) == 1 else (_children(names), False)


def _names(inner: str, text: str) -> list[str]:
    names: list[str] = []
    position = 0
    while position < len(inner):
        match = _QUOTED.match(inner, position)
        if match is None:
            raise JsonPathError(f"{text!r} is no JSONPath: [{inner}] is no index, name, slice or filter")
        quoted = match[1] if match[1] is not None else match[2]
        names.append(re.sub(r"\\(.)", r"\1", quoted or ""))
        position = match.end()
    if not names:
        raise JsonPathError(f"{text!r} is no JSONPath: [] is empty")
    return names


def _child(name: str) -> Segment:
    def child(value: Json) -> Iterator[Json]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return child


def _children(names: list[str]) -> Segment:
    def children(value: Json) -> Iterator[Json]:
        if isinstance(value, dict):
            yield from (value[name] for name in names if name in value)

    return children


def _index(position: int) -> Segment:
    def index(value: Json) -> Iterator[Json]:
        if isinstance(value, list) and -len(value) <= position < len(value):
            yield value[position]

    return index


def _slice(which: slice) -> Segment:
    def cut(value: Json) -> Iterator[Json]:
        if isinstance(value, list):
            yield from value[which]

    return cut


def _every(value: Json) -> Iterator[Json]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(name: str) -> Segment:
    def descend(value: Json) -> Iterator[Json]:
        if isinstance(value, dict) and name != "*" and name in value:
            yield value[name]
        for each in _every(value):
            if name == "*":
                yield each
            yield from descend(each)

    return descend


def _filter(inner: str, text: str) -> Segment:
    match = _FILTER.match(inner)
    if match is None:
        raise JsonPathError(f"{text!r}: perdure reads filters like [?(@.name == 'value')], not [{inner}]")
    path, sign, literal = parse("$" + match[1]), match[2], match[3]
    wanted = _literal(literal, text) if sign else None

    def matches(value: Json) -> bool:
        found = path(value)
        if not sign:
            return found is not None
        if sign in ("==", "!="):
            return bool(found == wanted) == (sign == "==")
        return _is_ordered(found, sign, wanted)

    def choose(value: Json) -> Iterator[Json]:
        yield from (each for each in _every(value) if matches(each))

    return choose


def _is_ordered(found: Json, sign: str, wanted: Json) -> bool:
    """Whether two numbers, or two texts, are in an order; other values are in none."""
    numbers = isinstance(found, int | float) and isinstance(wanted, int | float)
    if not numbers and not (isinstance(found, str) and isinstance(wanted, str)):
        return False
    return bool({"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[sign](found, wanted))


def _literal(text: str, whole: str) -> Json:
    if text[:1] in "'\"":
        return text[1:-1]
    try:
        return decode(text)
    except InvalidJsonError as error:
        raise JsonPathError(f"{whole!r}: {text} is no text, number, true, false or null") from error
