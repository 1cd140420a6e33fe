"""Typed access to what is in a document: each function takes a field, or finds that it is of the wrong type.

Lists of named objects and maps from names to objects are the same thing in different versions; `named` reads both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from perdure.capability.findings import Findings
from perdure.capability.source import Path
from perdure.capability.vocabulary import check_keys
from perdure.model.json import Json

_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|KiB|MiB|GiB)\Z")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Fields:
    """One object of a document, of a kind of the vocabulary."""

    def __init__(self, findings: Findings, kind: str, value: Json, at: Path) -> None:
        self.findings = findings
        self.kind = kind
        self.at = at
        self.value: dict[str, Json] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            findings.error(at, "wrong-type", f"a {kind} must be a mapping, not {_shown(value)}")
        else:
            check_keys(findings, kind, value, at)

    def path(self, key: str) -> Path:
        """The path of a field."""
        return (*self.at, key)

    def has(self, key: str) -> bool:
        """Whether a field is there, and is not null."""
        return self.value.get(key) is not None

    def text(self, *keys: str, needed: bool = False) -> str:
        """The text of the first of the keys that is there; numbers and booleans are taken as they are written."""
        for key in keys:
            value = self.value.get(key)
            if value is None:
                continue
            if isinstance(value, dict | list):
                self.findings.error(self.path(key), "wrong-type", f"{key} must be text, not {_shown(value)}")
                return ""
            return str(value).lower() if isinstance(value, bool) else str(value)
        if needed:
            self.findings.error(self.at, "missing-key", f"this {self.kind} needs {keys[0]}")
        return ""

    def flag(self, key: str) -> bool | None:
        """A boolean; None where there is none."""
        value = self.value.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.findings.error(self.path(key), "wrong-type", f"{key} must be true or false, not {_shown(value)}")
        return None

    def number(self, key: str) -> int:
        """A whole number; 0 where there is none."""
        value = self.value.get(key, 0)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        self.findings.error(self.path(key), "wrong-type", f"{key} must be a whole number, not {_shown(value)}")
        return 0

    def size(self, key: str, default: int) -> int:
        """A size with its unit, such as 5MiB, in bytes."""
        text = self.text(key)
        if not text:
            return default
        match = _SIZE.match(text)
        if match is None:
            self.findings.error(self.path(key), "wrong-type", f"{key} must be a size such as 512KiB or 5MiB")
            return default
        return int(float(match[1]) * _UNITS[match[2]])

    def mapping(self, key: str) -> dict[str, Json]:
        """A mapping; empty where there is none."""
        value = self.value.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self.findings.error(self.path(key), "wrong-type", f"{key} must be a mapping, not {_shown(value)}")
        return {}

    def flags(self, key: str, kind: str) -> dict[str, bool]:
        """A mapping to booleans."""
        if not self.has(key):
            return {}
        given = Fields(self.findings, kind, self.value[key], self.path(key))
        found = {name: given.flag(name) for name in given.value if name != "title" and not name.startswith("x-")}
        return {name: flag for name, flag in found.items() if flag is not None}

    def words(self, key: str) -> list[str]:
        """A list of texts."""
        value = self.value.get(key)
        if value is None:
            return []
        if isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
            return [str(each) for each in value]
        self.findings.error(self.path(key), "wrong-type", f"{key} must be a list of texts, not {_shown(value)}")
        return []

    def each(self, key: str, kind: str) -> Iterator[Fields]:
        """The objects of a list."""
        value = self.value.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.findings.error(self.path(key), "wrong-type", f"{key} must be a list, not {_shown(value)}")
            return
        for position, item in enumerate(value):
            yield Fields(self.findings, kind, item, (*self.path(key), position))

    def named(self, key: str, kind: str, *, unnamed: bool = False) -> Iterator[tuple[str, Fields]]:
        """The objects of a list or a map with their names. Names are unique, and needed if not `unnamed`."""
        value = self.value.get(key)
        seen: set[str] = set()
        for name, fields in self._members(key, kind, value):
            if not name and not unnamed:
                self.findings.error(fields.at, "missing-key", f"this {kind} needs a name")
                continue
            # Parameters of the same name may travel in different places.
            place = f"{name} {fields.value.get('in', '')}"
            if name and place in seen:
                self.findings.error(fields.at, "duplicate-name", f"there is another {kind} {name} before it")
                continue
            seen.add(place)
            yield name, fields

    def _members(self, key: str, kind: str, value: Json) -> Iterator[tuple[str, Fields]]:
        at = self.path(key)
        if value is None:
            return
        if isinstance(value, dict):
            for name, item in value.items():
                yield name, Fields(self.findings, kind, {} if item is None else item, (*at, name))
        elif isinstance(value, list):
            for position, item in enumerate(value):
                fields = Fields(self.findings, kind, item, (*at, position))
                yield fields.text("name"), fields
        else:
            self.findings.error(at, "wrong-type", f"{key} must be a list or a map, not {_shown(value)}")


def _shown(value: Json) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else f"{value!r}"
