from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import io
import math
import pathlib
import types
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Generic, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from perdure.model.json import Json
from perdure.model.values import RestoreError, UnserializableError, decode, encode, restores


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


Ratio = enum.Enum("Ratio", {"HALF": 0.5})
Half = enum.Enum("Half", {"LOW": "\udc00"})


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    _count: int = 1
    total: Decimal = dataclasses.field(init=False, default=Decimal(0))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: UUID
    at: datetime
    lines: list[Line]
    colour: Colour = Colour.RED
    note: bytes = b""
    parent: Order | None = None


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float
    label: str | msgspec.UnsetType = msgspec.UNSET


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: list[str]


T = TypeVar("T")


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


class Pair(NamedTuple):
    left: int
    right: date


class Movie(TypedDict):
    title: str
    year: date


class Customer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    full_name: str = pydantic.Field(alias="fullName")
    born: date
    blob: bytes = b""
    friends: list[Customer] = []
    size: typing.Any = None


class Split(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", serialize_by_alias=True)

    n: int = pydantic.Field(validation_alias="in", serialization_alias="out")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.n * 2


class Loud(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="constants")

    n: float


class Safe(pydantic.BaseModel):
    password: pydantic.SecretStr


class Site(pydantic.BaseModel):
    url: pydantic.HttpUrl
    path: pathlib.Path


@attrs.define
class Crate:
    id: UUID
    parts: list[Line]


@pydantic.dataclasses.dataclass
class Parcel:
    weight: float
    owner: Customer | None = None


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


class Named(Protocol):
    name: str


UserId = NewType("UserId", int)
AMSTERDAM = timezone(timedelta(minutes=19, seconds=32))
ANNE = Customer(fullName="Anne", born=date(2000, 1, 2), blob=b"abc", size=1.5)
BOB = Customer(fullName="Bob", born=date(2001, 1, 2), friends=[ANNE])
LINE = Line("a", Decimal("1.10"), 3)
ORDER = Order(id=UUID(int=7), at=datetime(2026, 11, 22, 9, tzinfo=UTC), lines=[LINE], note=b"\x00\xff")


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (None, None),
        ({"a": [1, 2.5, "x", None, True]}, None),
        (10**30, int),
        (10**30, None),
        (b"\x00\xff", bytes),
        (bytearray(b"x"), bytearray),
        (datetime(2026, 1, 2, 3, 4, 5, 678901), datetime),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), datetime),
        (datetime(2026, 7, 2, 3, tzinfo=ZoneInfo("Europe/Paris")), datetime),
        (date(2026, 1, 2), date),
        (time(1, 2, 3, tzinfo=UTC), time),
        (timedelta(days=-3, microseconds=7), timedelta),
        (UUID(int=1), UUID),
        (Decimal("1E+5"), Decimal),
        (Decimal("0.10"), Decimal),
        (Colour.BLUE, Colour),
        (Level.LOW, Level),
        (Rights.READ | Rights.WRITE, Rights),
        ({1, 2}, set[int]),
        (frozenset({"a"}), frozenset[str]),
        ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple[int, ...]),
        ({UUID(int=1): [Decimal(1)]}, dict[UUID, list[Decimal]]),
        ({1: "a"}, dict[int, str]),
        ({Colour.RED: 1}, dict[Colour, int]),
        ({date(2026, 1, 1): 1}, dict[date, int]),
        (LINE, Line),
        (ORDER, Order),
        (dataclasses.replace(ORDER, parent=ORDER), Order),
        ([ORDER, ORDER], list[Order]),
        (ORDER, Order | None),
        (None, Order | None),
        (Point(1.0, 2.5), Point),
        (Point(1.0, 2.5, "p"), Point),
        ([Cat(9), Dog(["sit"])], list[Cat | Dog]),
        (Page([ORDER]), Page[Order]),
        (Pair(1, date(2026, 1, 1)), Pair),
        ({"title": "M", "year": date(1931, 5, 11)}, Movie),
        (5, UserId),
        ("a", Literal["a", "b"]),
        (5, Annotated[int, ["not hashable"]]),
        ([date(2026, 1, 1)], Sequence[date]),
        ({"a": date(2026, 1, 1)}, Mapping[str, date]),
        (BOB, Customer),
        ([BOB, ANNE], list[Customer]),
        ({"a": BOB}, dict[str, Customer]),
        ((BOB, b"\xff"), tuple[Customer, bytes]),
        (BOB, Customer | None),
        (BOB, Customer | str),
        ("bob", Customer | str),
        ([BOB, b"\xff\xfe"], list[Customer | bytes]),
        (Split.model_validate({"in": 3}), Split),
        (Parcel(1.5, BOB), Parcel),
        (Crate(UUID(int=3), [LINE]), Crate),
        (Site(url=pydantic.HttpUrl("http://a/"), path=pathlib.Path("/x")), Site),
        (pydantic.RootModel[list[int]]([1]), pydantic.RootModel[list[int]]),
    ],
)
def test_round_trip(value: object, annotation: object) -> None:
    restored = decode(encode(value, where="it"), annotation)
    assert restored == value
    assert type(restored) is type(value)


def test_subclasses_of_plain_types_are_stored_as_plain() -> None:
    text, number, real = type("S", (str,), {}), type("I", (int,), {}), type("F", (float,), {})
    mappings = {"o": collections.OrderedDict(a=1), "m": types.MappingProxyType({"a": 1})}
    value = {"s": text("x"), "i": number(3), "f": real(1.5), **mappings, "c": collections.Counter("a")}
    stored = b'{"s":"x","i":3,"f":1.5,"o":{"a":1},"m":{"a":1},"c":{"a":1}}'
    assert encode(value, where="it") == stored


def test_a_float_may_be_null_beside_none() -> None:
    assert encode({"a": None, "b": 1.5}, where="it") == b'{"a":null,"b":1.5}'


@pytest.mark.parametrize(
    ("value", "path", "kind", "says"),
    [
        (math.nan, "$", "float", "is nan"),
        ({"order": {"items": [1.5, -math.inf]}}, "$.order.items[1]", "float", "is -inf"),
        (Point(math.nan, 1), "$.x", "float", "is nan"),
        (Customer(fullName="x", born=date(2000, 1, 1), size=[math.nan]), "$.size[0]", "float", "is nan"),
        (Loud(n=math.nan), "$.n", "float", "is nan"),
        ({"a": {1.5: 1}}, "$.a", "dict", "key 1.5"),
        ({"a": {True: 1}}, "$.a", "dict", "key True"),
        ({(1, 2): 1}, "$", "dict", "key (1, 2)"),
        ({None: 1}, "$", "dict", "key None"),
        ({1: "a", "1": "b"}, "$", "dict", "one key in JSON"),
        ({Colour.RED: 1, "red": 2}, "$", "dict", "one key in JSON"),
        ({Ratio.HALF: 1}, "$", "Ratio", "str or int values"),
        ([Ratio.HALF], "$[0]", "Ratio", "str or int values"),
        (Half.LOW, "$", "str", "surrogate"),
        ({"a": ["\ud800"]}, "$.a[0]", "str", "surrogate"),
        ({"a\udc00": 1}, "$", "dict", "surrogate"),
        ({"a": [{"b": Opaque()}]}, "$.a[0].b", "Opaque", "return plain data"),
        ({"my key": {"": Opaque()}}, '$["my key"][""]', "Opaque", "return plain data"),
        ([{1: Opaque()}], "$[0].1", "Opaque", "return plain data"),
        (Pair(1, Opaque()), "$.right", "Opaque", "return plain data"),  # type: ignore[arg-type]  # pyright: ignore
        (Line("a", Opaque()), "$.price", "Opaque", "return plain data"),  # type: ignore[arg-type]  # pyright: ignore
        ({"f": io.BytesIO()}, "$.f", "_io.BytesIO", "return plain data"),
        (pathlib.Path("/x"), "$", "Path", "str(path)"),
        (ValueError("x"), "$", "ValueError", "raise it"),
        ([iter([1])], "$[0]", "list_iterator", "list(...)"),
        (range(3), "$", "range", "list(...)"),
        ({}.keys(), "$", "dict_keys", "list(...)"),
        (collections.UserDict(a=1), "$", "UserDict", "dict(...)"),
        (1j, "$", "complex", "z.real"),
        (Order, "$", "type", "instance"),
        (lambda: 1, "$", "function", "not a function"),
        (memoryview(b"x"), "$", "memoryview", "bytes(...)"),
        (msgspec.Raw(b"]"), "$", "Raw", "itself"),
        (Safe(password=pydantic.SecretStr("x")), "$.password", "SecretStr", "masked"),
        (
            datetime(1900, 1, 1, tzinfo=AMSTERDAM),
            "$",
            "datetime",
            "whole minutes",
        ),
    ],
)
def test_what_cannot_be_stored(value: object, path: str, kind: str, says: str) -> None:
    with pytest.raises(UnserializableError) as caught:
        encode(value, where='step "charge"')
    error = caught.value
    assert isinstance(error, TypeError)
    assert error.where == 'step "charge"'
    assert error.path == path
    assert kind in error.type_name
    assert says in str(error)
    assert 'step "charge"' in str(error)
    assert path in str(error)


def test_a_forgotten_await_is_named() -> None:
    async def charge() -> int:
        return 1

    coroutine = charge()
    with pytest.raises(UnserializableError, match="await it"):
        encode({"charge": coroutine}, where="it")
    assert asyncio.run(coroutine) == 1


def test_a_value_that_contains_itself() -> None:
    order: dict[str, Json] = {"items": []}
    order["items"].append({"order": order})
    with pytest.raises(UnserializableError, match="contains itself") as caught:
        encode({"x": order}, where="it")
    assert caught.value.path == "$.x.items[0].order"


def test_nesting_has_a_limit() -> None:
    value: list[Json] = []
    for _ in range(199):
        value = [value]
    assert decode(encode(value, where="it"), None) == value
    with pytest.raises(UnserializableError, match="more than 200 levels"):
        encode([value], where="it")


def test_user_code_that_fails_while_restoring_is_named() -> None:
    class Fussy(msgspec.Struct):
        n: int

        def __post_init__(self) -> None:
            raise KeyError("rates")

    with pytest.raises(RestoreError, match=r"charge.*rates"):
        decode(b'{"n":1}', Fussy, where='step "charge"')


def test_a_user_serializer_that_fails_is_named() -> None:
    class Broken(pydantic.BaseModel):
        n: int

        @pydantic.field_serializer("n")
        def spoil(self, n: int) -> int:
            raise ValueError(f"no {n}")

    with pytest.raises(UnserializableError, match="no 1"):
        encode([Broken(n=1)], where="it")


@pytest.mark.parametrize(
    ("data", "annotation", "path"),
    [
        (b'"x"', int, "$"),
        (b'{"sku":"a"}', Line, "$"),
        (b'{"sku":1,"price":"1"}', Line, "$.sku"),
        (b'[{"x":1,"y":1},{"x":1,"y":"a"}]', list[Point], "$[1].y"),
        (b'"green"', Colour, "$"),
        (b'{"full_name":"a"}', Customer, "$.born"),
        (
            b'[{"full_name":"a","born":"2000-01-01","friends":[{"full_name":1}]}]',
            list[Customer],
            "$[0].friends[0].full_name",
        ),
        (b"[1]", list[Customer | str], "$[0]"),
        (b"not json", int, "$"),
        (b"not json", None, "$"),
        (b"[" * 100_000, None, "$"),
    ],
)
def test_a_stored_value_that_no_longer_fits(data: bytes, annotation: object, path: str) -> None:
    with pytest.raises(RestoreError) as caught:
        decode(data, annotation, where='step "charge"')
    assert caught.value.path.startswith(path)
    assert caught.value.where == 'step "charge"'
    assert 'step "charge"' in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [
        Opaque,
        list[Opaque],
        Named,
        T,
        object,
        typing.Any,
        typing.Never,
        typing.Self,
        type(None),
        datetime | str,
        Line | Order,
        Line | Customer,
        Callable[[], int],
        Coroutine[None, None, int],
        "Ghost",
        Ratio,
        42,
    ],
)
def test_what_cannot_be_restored_comes_back_as_plain_json(annotation: object) -> None:
    assert decode(b'{"a":["2026-01-01"]}', annotation) == {"a": ["2026-01-01"]}


def test_restores_tells_which_annotations_have_effect() -> None:
    assert restores(Order) and restores(list[Customer]) and restores(None) and restores(typing.Any)
    assert not restores(Opaque) and not restores(Line | Order) and not restores(Named)


def test_an_error_of_a_value_nested_without_end_is_short() -> None:
    value: Json = 1
    for _ in range(5000):
        value = [value]
    with pytest.raises(UnserializableError) as caught:
        encode(value, where="step 'deep'")
    assert str(caught.value).startswith("step 'deep': $[0][0]") and len(str(caught.value)) < 500
