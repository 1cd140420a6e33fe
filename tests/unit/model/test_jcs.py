from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import Json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.0, "0"),
        (1.5, "1.5"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1e21, "-1e+21"),
        (1.2345e25, "1.2345e+25"),
        (1.2345678901234568e17, "123456789012345680"),
        (1e-5, "0.00001"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (333333333.33333329, "333333333.3333333"),
        (2**53, "9007199254740992"),
        (2**53 + 1, "9007199254740992"),
        (-(2**63), "-9223372036854776000"),
        (10**30, "1e+30"),
        ("", '""'),
        ('\x00\x08\t\n\x0c\r\x1f"\\/\x7f\u2028', '"\\u0000\\b\\t\\n\\f\\r\\u001f\\"\\\\/\x7f\u2028"'),
        ({}, "{}"),
        ([], "[]"),
        ((1, [2.0]), "[1,[2]]"),
        ({"b": 1, "a": {"d": 1.0, "c": []}}, '{"a":{"c":[],"d":1},"b":1}'),
        ({"": 1, "1": 2, "10": 3, "2": 4, "A": 5, "a": 6}, '{"":1,"1":2,"10":3,"2":4,"A":5,"a":6}'),
        # The key order example of RFC 8785, 3.2.3: U+1F600 sorts as its surrogates, before U+FB33.
        (
            {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7},
            '{"\\r":2,"1":4,"\x80":6,"\u00f6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}',
        ),
    ],
)
def test_table(value: Json, text: str) -> None:
    assert canonical(value).decode() == text
    # The neighbour forces the slow path: both must agree.
    assert canonical([value, 1.0]).decode() == f"[{text},1]"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "nan"),
        ({"a": [math.inf]}, "inf"),
        (-math.inf, "-inf"),
        ({1: 2}, "str keys"),
        ({1: 2.0}, "str keys"),
        (10**400, "1.8e308"),
        ("\ud800", "surrogate"),
        ({"\udc00": 1}, "surrogate"),
        ([object()], "object"),
        ({1, 2}, "set"),
        (b"x", "bytes"),
        ([1.0, b"x"], "bytes"),
    ],
)
def test_refused(value: Json, says: str) -> None:
    with pytest.raises(CanonicalJsonError, match=says):
        canonical(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Json] = []
    value.append(value)
    with pytest.raises(CanonicalJsonError, match="contains itself"):
        canonical({"a": value})


_keys = st.text(max_size=6) | st.sampled_from(["\ufb33", "\U0001f600", "\U00010000a", "\uffff", "a", "b"])
_numbers = (
    st.integers(-(2**53), 2**53)
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1e-4, 1e-4)
    | st.floats(1e14, 1e23)
)
_values = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8) | _numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


def _reference(value: Json) -> str:
    """RFC 8785 written as straight from its text as Python allows."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: list(key.encode("utf-16-be")))
        return "{" + ",".join(_reference(key) + ":" + _reference(value[key]) for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_reference(item) for item in value) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _reference_number(float(value))
    return json.dumps(value, ensure_ascii=False)


def _reference_number(x: float) -> str:
    if x == 0:
        return "0"
    if x < 0:
        return "-" + _reference_number(-x)
    # repr has the shortest digits that read back as x, and of those the nearest: what the standard asks for.
    # Fixed rounding ("%.15e") does not: 2**-24 lies halfway between two of them.
    mantissa, _, exponent = repr(x).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits, n = whole + fraction, len(whole) + int(exponent or 0)
    n -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    k = len(digits)
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    head = digits[0] + ("." + digits[1:] if k > 1 else "")
    return f"{head}e{'+' if n > 0 else '-'}{abs(n - 1)}"


@given(_values)
@settings(max_examples=300, deadline=None)
def test_agrees_with_a_slow_reference(value: Json) -> None:
    assert canonical(value).decode() == _reference(value)


@given(_values)
@settings(max_examples=100, deadline=None)
def test_canonical_form_is_stable(value: Json) -> None:
    once = canonical(value)
    assert canonical(json.loads(once)) == once
