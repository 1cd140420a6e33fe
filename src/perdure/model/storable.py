"""Finds what in a value cannot be stored as JSON, and where.

msgspec alone is not enough: it writes NaN as null and the key 1.5 as "1.5" without a word, and its errors
name a type but no place. `find_fault` walks the value and gives the first fault with its JSON path.

Invariant: only types named here pass, so that a value without a fault comes back as it was. The walk
stays cheap on plain data: a container of plain leaves costs one pass in C.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from io import IOBase
from pathlib import PurePath
from types import MappingProxyType, ModuleType, NoneType
from typing import Final
from uuid import UUID

import msgspec

from perdure.model.json import Json

MAX_DEPTH: Final = 200

_STR: Final[frozenset[type]] = frozenset({str})
# Aware datetimes need a look at their offset, and floats one at their value, so neither is a plain leaf.
_PLAIN: Final[frozenset[type]] = frozenset({str, int, bool, NoneType, bytes, bytearray, UUID, Decimal, date, timedelta})
_PLAIN_OR_FLOAT: Final = _PLAIN | {float}
# After a failed encoding strings are looked at one by one: one of them may hold half a surrogate pair.
_PLAIN_BUT_STR: Final = _PLAIN - {str}
_KEYS: Final = (str, int, Enum, UUID, Decimal, date, time, timedelta, bytes)
_IDENTIFIER_PUNCTUATION: Final = frozenset(' ."[]\\')

_PLAIN_DATA = (
    "return plain data (dict, list, str, int, ...), a dataclass, a msgspec Struct or a pydantic model; "
    "open files and connections inside the step that uses them"
)
_FIXES: Final[tuple[tuple[type, str], ...]] = (
    (Awaitable, "await it and return what it gives"),
    (PurePath, "use str(path)"),
    (BaseException, "raise it, or return str(error)"),
    (type, "return an instance of it, or its name"),
    (ModuleType, "return data, not a module"),
    (complex, "return [z.real, z.imag]"),
    (memoryview, "use bytes(...)"),
    (msgspec.Raw, "return the value itself, not encoded JSON"),
    (IOBase, _PLAIN_DATA),
    (Mapping, "use dict(...)"),
    (Iterable, "use list(...)"),
)


class Fault:
    """What is wrong at `path`: `problem` is a predicate ("is ..."), `fix` an imperative."""

    __slots__ = ("fix", "path", "problem", "type_name")

    def __init__(self, path: str, type_name: str, problem: str, fix: str) -> None:
        self.path = path
        self.type_name = type_name
        self.problem = problem
        self.fix = fix


class _Found(Exception):
    """A fault on its way up: each container adds its part of the path."""

    def __init__(self, value: object, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.value = value
        self.problem = problem
        self.fix = fix
        self.trail: list[tuple[str, int]] = []


def is_model(kind: type) -> bool:
    """Whether a class is a pydantic model, told by its methods: pydantic is never imported for it."""
    return hasattr(kind, "model_dump_json") and hasattr(kind, "model_validate_json")


def find_fault(value: object, *, floats: bool, strings: bool) -> Fault | None:
    """The first fault of a value, or None. `floats` and `strings` say which leaves must be looked at singly.

    >>> fault = find_fault({"items": [1.5, float("nan")]}, floats=True, strings=False)
    >>> fault.path, fault.problem
    ('$.items[1]', 'is nan')
    """
    leaves = _PLAIN_BUT_STR if strings else _PLAIN if floats else _PLAIN_OR_FLOAT
    if type(value) in leaves:
        return None
    try:
        _scan(value, 0, leaves, False)
    except _Found as found:
        return _fault(found)
    return None


def _fault(found: _Found) -> Fault:
    trail = found.trail[::-1]
    problem, fix = found.problem, found.fix
    # Too deep may mean endless: then the same container stands twice on the way down.
    first: dict[int, int] = {}
    for at, (_, container) in enumerate(trail):
        if problem.startswith("is nested") and container in first:
            problem, fix = "contains itself", "store ids instead of references"
            trail = trail[:at]
            break
        first[container] = at
    path = "$" + "".join(part for part, _ in trail)
    if len(path) > 300:
        path = path[:300] + "..."
    return Fault(path, _type_name(found.value), problem, fix)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _scan(value: Json, depth: int, leaves: frozenset[type], foreign: bool) -> None:
    """Raises `_Found` at the first fault. `foreign`: inside a pydantic model, which has rules of its own."""
    kind = type(value)
    members: Iterable[tuple[object, object]]
    form: Callable[[object], str]
    if depth >= MAX_DEPTH and kind not in _PLAIN_OR_FLOAT:
        raise _Found(value, f"is nested more than {MAX_DEPTH} levels deep", "store a flatter value")
    if kind is dict:
        if not foreign and not _STR.issuperset(map(type, value)):
            _check_keys(value)
        if leaves.issuperset(map(type, value.values())):
            return
        members, form = value.items(), _key_part
    elif kind is list or kind is tuple:
        if leaves.issuperset(map(type, value)):
            return
        members, form = enumerate(value), _index_part
    else:
        named = _members(value, foreign)
        if named is None:
            return
        members, form, foreign = named
    for label, member in members:
        if type(member) not in leaves:
            try:
                _scan(member, depth + 1, leaves, foreign)
            except _Found as found:
                found.trail.append((form(label), id(value)))
                raise


_Members = tuple[Iterable[tuple[object, object]], Callable[[object], str], bool]


def _members(value: Json, foreign: bool) -> _Members | None:
    """The members of a container that is no plain dict or list, None for a leaf. Raises `_Found`."""
    if isinstance(value, Enum):
        _check_enum(value)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _Found(value, f"is {value!r}", "JSON has no such number: use None or a string")
    elif isinstance(value, datetime | time):
        _check_offset(value)
    elif isinstance(value, int) or type(value) in _PLAIN:
        pass
    elif isinstance(value, dict | MappingProxyType):
        if not foreign:
            _check_keys(value)
        return value.items(), _key_part, foreign
    elif isinstance(value, list | set | frozenset):
        return enumerate(value), _index_part, foreign
    elif isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        if names is not None:
            return zip(names, value, strict=False), _key_part, foreign
        return enumerate(value), _index_part, foreign
    elif is_model(type(value)):
        return _model_fields(value).items(), _key_part, True
    elif not isinstance(value, type) and (fields := _fields(value)) is not None:
        return fields, _key_part, foreign
    elif not foreign or hasattr(value, "get_secret_value"):
        raise _Found(value, *_unknown(value))
    return None


def _model_fields(value: Json) -> dict[str, object]:
    extra: dict[str, object] | None = getattr(value, "__pydantic_extra__", None)
    return {**getattr(value, "__dict__", {}), **(extra or {})}


def _fields(value: Json) -> Iterator[tuple[object, object]] | None:
    """The fields of a Struct, a dataclass or an attrs object; None for anything else."""
    names: Iterable[str]
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(type(value), "__attrs_attrs__"):
        names = [field.name for field in type(value).__attrs_attrs__]
    else:
        return None
    present = ((name, getattr(value, name, msgspec.UNSET)) for name in names)
    return ((name, member) for name, member in present if member is not msgspec.UNSET)


def _check_keys(value: Mapping[object, object]) -> None:
    for key in value:
        if isinstance(key, bool) or not isinstance(key, _KEYS) or _base_is_hidden(key):
            raise _Found(
                value,
                f"has the key {key!r} ({_type_name(key)})",
                "use str keys (int, UUID, date and enum work too)",
            )
        if isinstance(key, Enum):
            _check_enum(key)
    kinds = set(map(type, value))
    if len(kinds) > 1:
        # {1: ..., "1": ...} would become one key twice, of which reading keeps one.
        written: dict[bytes, object] = {}
        for key in value:
            text = msgspec.json.encode({key: 0})
            if text in written:
                raise _Found(value, f"has the keys {written[text]!r} and {key!r}, one key in JSON", "rename one")
            written[text] = key


def _base_is_hidden(key: object) -> bool:
    # A subclass of str or int says who knows what as a key; msgspec refuses it too.
    return isinstance(key, str | int) and not isinstance(key, Enum) and type(key) not in (str, int)


def _check_enum(value: Enum) -> None:
    if isinstance(value.value, bool) or not isinstance(value.value, str | int):
        raise _Found(value, f"is an enum member with the value {value.value!r}", "give its enum str or int values")
    if isinstance(value.value, str):
        _check_text(value.value)


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise _Found(
            value,
            f"holds half a surrogate pair ({half!r}), which UTF-8 cannot carry",
            'clean it, e.g. text.encode("utf-8", "replace").decode()',
        ) from None


def _check_offset(value: datetime | time) -> None:
    offset = value.utcoffset()
    if offset is not None and offset % timedelta(minutes=1):
        raise _Found(value, f"has the UTC offset {offset}, not whole minutes", "use value.astimezone(timezone.utc)")


def _unknown(value: object) -> tuple[str, str]:
    problem = f"is of type {_type_name(value)}"
    if hasattr(value, "get_secret_value"):
        return (
            problem,
            "a secret would be stored masked: keep it out, and read it inside the step that uses it",
        )
    if hasattr(value, "tolist") and not isinstance(value, memoryview):
        return problem, "use .tolist()"
    for kind, fix in _FIXES:
        if isinstance(value, kind):
            return problem, fix
    return problem, "return data, not a function" if callable(value) else _PLAIN_DATA


def _key_part(key: object) -> str:
    text = str(key.value if isinstance(key, Enum) else key)
    if not text or not _IDENTIFIER_PUNCTUATION.isdisjoint(text) or not text.isprintable() or len(text) > 80:
        return f"[{msgspec.json.encode(text[:80].encode('utf-8', 'replace').decode()).decode()}]"
    return f".{text}"


def _index_part(index: object) -> str:
    return f"[{index}]"
