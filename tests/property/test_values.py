from __future__ import annotations

import dataclasses
import enum
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.model.json import Json
from perdure.model.values import UnserializableError, decode, encode

offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(timezones=st.none() | st.just(UTC) | offsets)
numbers = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False)


class Kind(enum.Enum):
    A = "a"
    B = "b"


class Item(msgspec.Struct):
    name: str
    weight: float | None
    tags: set[str]


@dataclasses.dataclass
class Order:
    id: UUID
    at: datetime
    day: date
    hour: time
    took: timedelta
    price: Decimal
    blob: bytes
    kind: Kind
    items: list[Item]
    pair: tuple[int, str]
    by_number: dict[int, Item | None]


class Customer(pydantic.BaseModel):
    name: str
    score: float
    born: date
    took: timedelta
    price: Decimal
    kind: Kind
    orders: dict[str, list[int]]
    parent: Customer | None = None


items = st.builds(Item, st.text(), st.none() | numbers, st.sets(st.text()))
orders = st.builds(
    Order,
    id=st.uuids(),
    at=moments,
    day=st.dates(),
    hour=st.times(),
    took=st.timedeltas(),
    price=decimals,
    blob=st.binary(),
    kind=st.sampled_from(Kind),
    items=st.lists(items, max_size=3),
    pair=st.tuples(st.integers(), st.text()),
    by_number=st.dictionaries(st.integers(), st.none() | items, max_size=3),
)
customers: st.SearchStrategy[Customer] = st.deferred(
    lambda: st.builds(
        Customer,
        name=st.text(),
        score=numbers,
        born=st.dates(),
        took=st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
        price=decimals,
        kind=st.sampled_from(Kind),
        orders=st.dictionaries(st.text(), st.lists(st.integers()), max_size=2),
        parent=st.none() | customers,
    )
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(plain)
def test_plain_json_comes_back_as_it_was(value: Json) -> None:
    restored = decode(encode(value, where="it"), None)
    assert restored == value
    assert repr(restored) == repr(value)


@given(st.lists(orders, max_size=2))
@settings(deadline=None)
def test_dataclasses_come_back_as_they_were(value: list[Order]) -> None:
    assert decode(encode(value, where="it"), list[Order]) == value


@given(st.dictionaries(st.text(), customers, max_size=2))
@settings(deadline=None)
def test_pydantic_models_come_back_as_they_were(value: dict[str, Customer]) -> None:
    assert decode(encode(value, where="it"), dict[str, Customer]) == value


def _paths(value: Json, path: str = "$") -> list[str]:
    """Where NaN stands, told without the code under test."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _paths(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for at, item in enumerate(value) for found in _paths(item, f"{path}[{at}]")]
    return [path] if isinstance(value, float) and not math.isfinite(value) else []


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.just("null"),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        max_leaves=15,
    )
)
def test_no_nan_gets_through_and_its_path_is_named(value: Json) -> None:
    paths = _paths(value)
    if not paths:
        assert decode(encode(value, where="it"), None) == value
        return
    with pytest.raises(UnserializableError) as caught:
        encode(value, where="it")
    assert caught.value.path in paths
