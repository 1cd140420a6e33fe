"""A YAML file as plain values that know their lines.

Scalars are read by the core schema of YAML 1.2: `on`, `no` and dates stay text, as the authors of capabilities mean
them. Every mapping entry and list item has a line, found by its path from the root, so that findings can point at it.
A file is bounded in size and depth before anything is made of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec
import yaml

from perdure.model.json import Json

Path: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 64
_MAX_VALUES = 200_000
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


class DocumentError(ValueError):
    """A file that is no YAML document; `line` counts from 1."""

    def __init__(self, name: str, line: int, reason: str) -> None:
        super().__init__(f"{name}:{line}: {reason}")
        self.line = line
        self.reason = reason


class Source(msgspec.Struct):
    """A document: its name, its value, and the lines of what is in it; `imported` is what it takes from others."""

    name: str
    data: Json
    lines: dict[Path, int]
    imported: list[Json] = []

    def line(self, path: Path) -> int:
        """The line of a value, or that of the nearest one around it."""
        for end in range(len(path), -1, -1):
            found = self.lines.get(path[:end])
            if found is not None:
                return found
        return 1


def parse(text: str, name: str = "document") -> Source:
    """Reads a document; raises `DocumentError`.

    >>> source = parse("a: 1\\nb:\\n  - yes\\n")
    >>> source.data, source.line(("b", 0))
    ({'a': 1, 'b': ['yes']}, 3)
    """
    if len(text) > MAX_BYTES:
        raise DocumentError(name, 1, f"the file is larger than {MAX_BYTES} characters")
    try:
        return _Builder(name, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(name, mark.line + 1 if mark else 1, f"not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise DocumentError(name, 1, f"not YAML: {error}") from error


class _Builder:
    def __init__(self, name: str, events: Iterator[Json]) -> None:
        self._name = name
        self._events = events
        self._lines: dict[Path, int] = {}
        self._anchors: dict[str, tuple[Json, int]] = {}
        """Values that may be repeated, and how many values that is."""
        self._count = 0

    def document(self) -> Source:
        event = next(self._events)
        while not isinstance(event, yaml.DocumentStartEvent):
            if isinstance(event, yaml.StreamEndEvent):
                raise DocumentError(self._name, 1, "the file is empty")
            event = next(self._events)
        data = self._value(next(self._events), ())
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise DocumentError(self._name, event.start_mark.line + 1, "a second document begins; one file, one")
        return Source(self._name, data, self._lines)

    def _value(self, event: Json, path: Path) -> Json:
        line = event.start_mark.line + 1
        self._lines.setdefault(path, line)
        before = self._count
        self._grow(1, line, path)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise DocumentError(self._name, line, f"*{event.anchor} has no anchor before it")
            value, size = self._anchors[event.anchor]
            self._grow(size, line, path)
            return value
        value = self._new(event, path)
        if event.anchor:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _grow(self, size: int, line: int, path: Path) -> None:
        self._count += size
        if self._count > _MAX_VALUES or len(path) > _MAX_DEPTH:
            raise DocumentError(self._name, line, "the document is too large, or nested too deeply")

    def _new(self, event: Json, path: Path) -> Json:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path)
        return self._mapping(path)

    def _list(self, path: Path) -> list[Json]:
        items: list[Json] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Json]:
        found: dict[str, Json] = {}
        merged: list[Json] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise DocumentError(self._name, line, "a key must be text")
            key: str = event.value
            if key in found:
                raise DocumentError(self._name, line, f"the key {key} is there twice")
            if key == "<<" and event.implicit[0]:
                given = self._value(next(self._events), (*path, key))
                merged.extend(given if isinstance(given, list) else [given])
                continue
            self._lines[(*path, key)] = line
            found[key] = self._value(next(self._events), (*path, key))
        for each in merged:
            if not isinstance(each, dict):
                raise DocumentError(self._name, self._lines.get(path, 1), "<< takes mappings")
            found = {**each, **found}
        return found


def _scalar(text: str) -> Json:
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.match(text) and len(text) < 20:
        return int(text)
    if _FLOAT.match(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
