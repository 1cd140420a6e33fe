"""Reads what a callable says it returns, so that stored values come back as that type.

Invariants: reading never raises and never calls user code; only the return annotation is resolved, so that a
parameter whose type is imported for type checking only does no harm. What cannot be resolved is None.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine
from types import FunctionType, MethodType

from perdure.model.json import Json


def return_annotation(function: Callable[..., object]) -> object | None:
    """The resolved return type of a function, method, partial, callable object, decorated function or class.

    For coroutine functions it is the type of the awaited result. None where there is no annotation, or one
    that cannot be resolved (a name that exists only under TYPE_CHECKING, say).

    >>> async def total(items: list[int]) -> int: ...
    >>> return_annotation(total)
    <class 'int'>
    """
    target = _target(function)
    if isinstance(target, type):
        return target
    if target is None:
        return None
    annotation = target.__annotations__.get("return")
    return None if annotation is None and "return" not in target.__annotations__ else _resolve(annotation, target)


def _target(function: object) -> FunctionType | type | None:
    """The function (or class) under partials, bindings, decorators and `__call__`."""
    # Bounded, for a wrapper may by mistake name itself as wrapped.
    for _ in range(100):
        if isinstance(function, functools.partial | functools.partialmethod):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif isinstance(function, type):
            return function
        elif (wrapped := inspect.getattr_static(function, "__wrapped__", None)) is not None:
            # functools.wraps copies annotations without the globals in which they can be resolved.
            function = wrapped
        elif isinstance(function, FunctionType):
            return function
        else:
            function = inspect.getattr_static(type(function), "__call__", None)
    return None


def _resolve(annotation: object, function: FunctionType) -> object | None:
    # A class generated for the purpose: get_type_hints resolves all annotations of what it is given.
    holder = type("Holder", (), {"__annotations__": {"return": annotation}})
    type_params: tuple[Json, ...] = getattr(function, "__type_params__", ())  # Python 3.12 and later
    names = _closure(function) | {parameter.__name__: parameter for parameter in type_params}
    try:
        hints = typing.get_type_hints(holder, function.__globals__, names, include_extras=True)
    except Exception:
        # Resolving evaluates text written by the user, which may fail in any way: no error of the run.
        return None
    return _awaited(hints["return"])


def _closure(function: FunctionType) -> dict[str, Json]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    return {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}


def _is_filled(cell: Json) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _awaited(annotation: object) -> object:
    """X for a plain function annotated `Awaitable[X]` or `Coroutine[..., X]`: the caller awaits it."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if (origin is Awaitable and len(args) == 1) or (origin is Coroutine and len(args) == 3):
        return args[-1]
    return annotation
