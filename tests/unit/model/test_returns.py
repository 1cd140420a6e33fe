from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import pytest

from perdure.model.returns import return_annotation

if TYPE_CHECKING:
    # A name that only the type checker knows.
    from decimal import Context as Ghost

P = ParamSpec("P")
R = TypeVar("R")


def logged(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return wrapper


def plain() -> list[Decimal]:
    return []


async def coroutine() -> dict[str, Decimal]:
    return {}


def awaitable() -> Awaitable[Decimal]:
    raise AssertionError


def returns_coroutine() -> Coroutine[Any, Any, Decimal | None]:
    raise AssertionError


def annotated() -> Annotated[int, "positive"]:
    return 1


def ghost_parameter(ghost: Ghost) -> Decimal:
    return Decimal(str(ghost))


def ghost_result() -> Ghost:
    raise AssertionError


def nothing() -> None: ...


def silent():  # type: ignore[no-untyped-def]
    return 1


class Gateway:
    def __init__(self, url: str) -> None:
        self.url = url

    def charge(self) -> Decimal:
        return Decimal(1)

    @classmethod
    def make(cls) -> int:
        return 1

    @staticmethod
    def ping() -> bool:
        return True

    def __call__(self) -> set[int]:
        return set()


class Awkward:
    @property
    def __wrapped__(self) -> object:
        raise AssertionError("user code must not run")

    def __getattr__(self, name: str) -> object:
        raise AssertionError("user code must not run")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (plain, list[Decimal]),
        (coroutine, dict[str, Decimal]),
        (awaitable, Decimal),
        (returns_coroutine, Decimal | None),
        (annotated, Annotated[int, "positive"]),
        (ghost_parameter, Decimal),
        (ghost_result, None),
        (nothing, type(None)),
        (silent, None),
        (Gateway("u").charge, Decimal),
        (Gateway.make, int),
        (Gateway.ping, bool),
        (Gateway("u"), set[int]),
        (Gateway, Gateway),
        (functools.partial(plain), list[Decimal]),
        (functools.partial(functools.partial(Gateway("u").charge)), Decimal),
        (functools.partial(Gateway, "u"), Gateway),
        (logged(plain), list[Decimal]),
        (logged(logged(ghost_parameter)), Decimal),
        (functools.lru_cache(plain), list[Decimal]),
        (lambda: 1, None),
        (len, None),
        (str.upper, None),
        (int, int),
        (42, None),
        (None, None),
    ],
)
def test_return_annotation(function: Any, expected: object) -> None:
    assert return_annotation(function) == expected


def test_local_names_are_found_through_the_closure() -> None:
    class Local:
        pass

    def use() -> Local:
        return Local()

    assert return_annotation(use) is Local


def test_an_unset_closure_cell_does_no_harm() -> None:
    def use() -> int:
        return late

    assert return_annotation(use) is int
    late = use.__code__.co_argcount


def test_a_wrapper_that_names_itself_ends() -> None:
    def loop() -> int:
        return 1

    loop.__wrapped__ = loop  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    assert return_annotation(loop) is None


def test_user_code_is_not_run() -> None:
    odd: Any = Awkward()
    assert return_annotation(odd) is None
