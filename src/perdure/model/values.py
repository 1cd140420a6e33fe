"""The typed value codec: what steps return, events carry and functions put out, as JSON and back.

JSON is all that is stored, never pickles: a row must outlive the code that wrote it. Types come back by the
annotation of the callable that made the value (`perdure.model.returns`). Beyond JSON's own types there are
dataclasses, msgspec Structs, attrs classes, pydantic models (2.11 or later, if installed), named tuples,
TypedDicts, tuples, sets, datetime, date, time, timedelta, UUID, Decimal, bytes and enums.

Invariants: what `encode` accepts is not silently changed, and what it refuses is named by its JSON path
(`perdure.model.storable`). `decode` gives the annotated type, or plain JSON where that cannot be: it never
guesses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType, NoneType
from typing import Final, get_args
from uuid import UUID

import msgspec

from perdure.model import json
from perdure.model.errors import PerdureError
from perdure.model.json import Json
from perdure.model.storable import find_fault, is_model

_AT = re.compile(r"^(.*?)(?: - at `(.*)`)?$", re.DOTALL)
_SCALARS: Final = frozenset({NoneType, str, int, float, bool, datetime, date, time, timedelta, UUID, Decimal, bytes})
_MAX_SHOWN = 200
"""How much of a path an error shows: that of a value nested without end is as long as the value."""


class UnserializableError(PerdureError, TypeError):
    """A value cannot be stored. `where` is whose value it is, `path` its JSON path, `type_name` its type."""

    def __init__(self, where: str, path: str, type_name: str, problem: str, fix: str) -> None:
        self.where = where
        self.path = path
        self.type_name = type_name
        shown = path if len(path) <= _MAX_SHOWN else f"{path[: _MAX_SHOWN - 50]}...{path[-50:]}"
        super().__init__(f"{where}: {shown} {problem} and cannot be stored as JSON; {fix}")


class RestoreError(PerdureError, ValueError):
    """A stored value does not fit the type it is to be restored as, after a deploy for example."""

    def __init__(self, where: str, path: str, problem: str) -> None:
        self.where = where
        self.path = path
        super().__init__(
            f"{where}: the stored value does not fit the annotation: {path}: {problem}; "
            "make the type accept what older code stored, for example by a default, or change the step's id"
        )


def encode(value: object, *, where: str) -> bytes:
    """The value as JSON bytes. `where` names it in errors: 'step "charge"', for example.

    Raises `UnserializableError`.

    >>> encode({"paid": Decimal("9.90"), "tags": ("a", "b")}, where='step "charge"')
    b'{"paid":"9.90","tags":["a","b"]}'
    """
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, RecursionError, AttributeError) as error:
        fault = find_fault(value, floats=True, strings=True)
        if fault is None:
            name = type(value).__qualname__
            raise UnserializableError(where, "$", name, f"is refused ({error})", "store simpler data") from error
        raise UnserializableError(where, fault.path, fault.type_name, fault.problem, fault.fix) from None
    # msgspec writes NaN and the infinities as null: without a null there is none of them.
    fault = find_fault(value, floats=b"null" in data, strings=False)
    if fault is not None:
        raise UnserializableError(where, fault.path, fault.type_name, fault.problem, fault.fix)
    return data


def decode(data: bytes, annotation: object | None, *, where: str = "value") -> object:
    """The value of bytes made by `encode`, restored as the annotation says.

    Plain JSON where it says nothing that can be restored: None, NoneType, Any, a Protocol, a class of unknown
    kind, a union of which JSON does not show the member (`restores` tells).

    Raises `RestoreError` if the bytes do not fit the annotation.

    >>> decode(b'["2026-11-22", "2026-11-23"]', set[date]) == {date(2026, 11, 22), date(2026, 11, 23)}
    True
    """
    try:
        return _restorer(annotation)(data)
    except Exception as error:
        # Restoring runs the user's validators and __post_init__, which may raise anything.
        problem, path = _place(error)
        raise RestoreError(where, path, problem) from error


def restores(annotation: object | None) -> bool:
    """Whether `decode` gives the annotated type, not plain JSON. Plain JSON is all that None and Any ask for.

    >>> restores(list[Decimal]), restores(datetime | str)
    (True, False)
    """
    return _restorer(annotation) is not json.decode or annotation in (None, NoneType, Json, object)


def _hook(value: object) -> object:
    """What msgspec does not know by itself. Raises TypeError for what has no JSON form."""
    if is_model(type(value)):
        model: Json = value
        text = model.model_dump_json(round_trip=True, by_alias=False).encode()
        # A model may be configured to write NaN as such, which is no JSON.
        json.decode(text)
        return msgspec.Raw(text)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"type {type(value).__qualname__} has no JSON form")


_encoder: Final = msgspec.json.Encoder(enc_hook=_hook)


def _restorer(annotation: object) -> Callable[[bytes], object]:
    try:
        return _cached_restorer(annotation)
    except TypeError:
        # Not hashable, Annotated[int, []] for example.
        return _build_restorer(annotation)


@lru_cache(maxsize=2048)
def _cached_restorer(annotation: object) -> Callable[[bytes], object]:
    return _build_restorer(annotation)


def _build_restorer(annotation: object) -> Callable[[bytes], object]:
    if annotation in (None, NoneType, Json, object) or isinstance(annotation, str):
        return json.decode
    kind: Json = annotation
    try:
        info = msgspec.inspect.type_info(kind)
        if all(is_model(custom) for custom in _custom_types(info)):
            return msgspec.json.Decoder(kind, dec_hook=_restore_model).decode
    except Exception:
        # Building evaluates annotations inside user classes, which may fail in any way; and there are types
        # and unions that msgspec does not take. Neither may fail a run: such a value is plain JSON.
        if _is_pydantic_union(annotation):
            return _adapter(annotation)
    return json.decode


def _custom_types(info: object) -> Iterator[type]:
    """The classes in an annotation that msgspec leaves to a hook."""
    seen: set[int] = set()
    stack = [info]
    while stack:
        node = stack.pop()
        if isinstance(node, msgspec.inspect.CustomType):
            yield node.cls
        elif isinstance(node, tuple):
            stack.extend(node)
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field) and id(node) not in seen:
            seen.add(id(node))
            stack.extend(getattr(node, name) for name in node.__struct_fields__)


def _restore_model(kind: type, value: object) -> object:
    model: Json = kind
    # Again as JSON: pydantic's rules for JSON differ from those for Python values (bytes, strict mode).
    return model.model_validate_json(json.encode(value), by_name=True)


def _is_pydantic_union(annotation: object) -> bool:
    """Whether pydantic alone can restore it: unions of models with others, which msgspec does not take.

    Only of types that both libraries write alike, as msgspec writes the parts outside models.
    """
    leaves = list(_leaves(annotation))
    return any(map(_is_model, leaves)) and all(leaf in _SCALARS or _is_model(leaf) for leaf in leaves)


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and is_model(kind)


def _leaves(annotation: object) -> Iterator[Json]:
    args = get_args(annotation)
    if not args:
        yield annotation
    for arg in args:
        if arg is not ...:
            yield from _leaves(arg)


def _adapter(annotation: object) -> Callable[[bytes], object]:
    from pydantic import (
        ConfigDict,
        TypeAdapter,
    )  # optional, and there: the annotation holds one of its models

    kind: Json = annotation
    adapter: TypeAdapter[object] = TypeAdapter(kind, config=ConfigDict(val_json_bytes="base64"))

    def restore(data: bytes) -> object:
        return adapter.validate_json(data, by_name=True)

    return restore


def _place(error: Exception) -> tuple[str, str]:
    """Problem and JSON path of a mismatch, as msgspec, pydantic, or pydantic inside msgspec tell them."""
    found = _AT.match(str(error)) if isinstance(error, msgspec.ValidationError) else None
    problem, path = (found[1], found[2] or "$") if found else (str(error), "$")
    for source in (error, error.__cause__):
        if hasattr(source, "errors"):
            pydantic_error: Json = source
            first = pydantic_error.errors(include_url=False)[0]
            inner = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            return first["msg"], path + inner
    return problem, path
