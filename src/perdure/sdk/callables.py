"""What is to be known of a callable: whether calling it gives a coroutine, and what it says it returns.

Resolving annotations takes longer than a whole step, so it is done once: for each function object, and for
functions that a handler defines anew in every run (lambdas, nested functions) once for their code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import NamedTuple
from weakref import WeakKeyDictionary

from perdure.model.json import Json
from perdure.model.returns import return_annotation


class CallKind(NamedTuple):
    """`is_async`: calling gives a coroutine. `returns`: the return annotation, None where there is none."""

    is_async: bool
    returns: object | None


_by_object: WeakKeyDictionary[Callable[..., Json], CallKind] = WeakKeyDictionary()
# The code is kept with its kind: as long as it lives, its id is its own. (Hashing code reads all of it.)
_by_code: dict[tuple[int, str | None], tuple[CodeType, CallKind]] = {}
_WORD = re.compile(r"\w+")


def call_kind(call: Callable[..., Json]) -> CallKind:
    """Both facts of a function, method, partial or object with `__call__`.

    >>> async def total(items: list[int]) -> int: ...
    >>> call_kind(total)
    CallKind(is_async=True, returns=<class 'int'>)
    """
    while isinstance(call, partial | MethodType):
        call = call.func if isinstance(call, partial) else call.__func__
    if isinstance(call, FunctionType) and not call.__dict__:
        text: object = call.__annotations__.get("return")
        if text is None or isinstance(text, str):
            known = _by_code.get((id(call.__code__), text))
            return known[1] if known is not None else _of_function(call, text)
    try:
        kind = _by_object.get(call)
        if kind is None:
            kind = _by_object[call] = _inspect(call)
    except TypeError:
        # Not hashable, or of a class without weak references.
        return _inspect(call)
    return kind


def _of_function(call: FunctionType, text: str | None) -> CallKind:
    kind = _inspect(call)
    # An annotation that names something of the enclosing function may mean another thing in the next run.
    if text is None or not set(_WORD.findall(text)).intersection(call.__code__.co_freevars):
        _by_code[id(call.__code__), text] = (call.__code__, kind)
    return kind


def _inspect(call: Callable[..., Json]) -> CallKind:
    target = call if isinstance(call, FunctionType | type) else getattr(type(call), "__call__", call)  # noqa: B004
    is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(target)
    return CallKind(is_async, return_annotation(call))
