"""What is known of a callable, and that it is not found out again for functions made anew in every run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from perdure.model.json import Json
from perdure.sdk.callables import CallKind, call_kind


def plain(n: int) -> int:
    return n


async def coroutine(n: int) -> list[int]:
    return [n]


def unannotated(n):  # type: ignore[no-untyped-def]  # pyright: ignore
    return n


@functools.wraps(coroutine)
def wrapper(n: int) -> object:
    return coroutine(n)


@dataclass
class NotHashable:
    n: int

    async def __call__(self) -> str:
        return ""

    def method(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (plain, CallKind(False, int)),
        (coroutine, CallKind(True, list[int])),
        (functools.partial(functools.partial(coroutine), 1), CallKind(True, list[int])),
        (unannotated, CallKind(False, None)),
        (wrapper, CallKind(False, list[int])),
        (NotHashable(1), CallKind(True, str)),
        (NotHashable(1).method, CallKind(False, bytes)),
        (NotHashable, CallKind(False, NotHashable)),
        (len, CallKind(False, None)),
    ],
)
def test_kinds(call: Callable[..., Json], kind: CallKind) -> None:
    assert call_kind(call) == kind
    assert call_kind(call) == kind


def make(kind: type) -> tuple[Callable[[], object], Callable[[], object]]:
    class Local:
        made_for = kind

    def known() -> list[int]:
        return [1]

    def local() -> Local:
        return Local()

    return known, local


def test_functions_of_one_code_share_what_is_known_unless_it_may_differ() -> None:
    (known, local), (known_again, local_again) = make(int), make(str)
    assert call_kind(known) is call_kind(known_again)
    kinds = call_kind(local).returns, call_kind(local_again).returns
    assert [getattr(kind, "made_for", None) for kind in kinds] == [int, str]
