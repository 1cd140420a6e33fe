"""Conditions with their first event fixed, and finding them by key."""

from __future__ import annotations

import pytest

from perdure.expressions import (
    UNKNOWN,
    EvaluationError,
    ExpressionError,
    Partial,
    compile,
    lookup,
    match_expression,
    match_key,
)
from perdure.model.json import Json

EVENT: Json = {
    "data": {
        "id": "ab_1",
        "value": 1295.0,
        "n": 5,
        "s": "x",
        "obj": {"k": [1]},
        "list": [1, 2],
        "nul": None,
        "a-b": 7,
    }
}


def partial(source: str) -> Partial:
    return compile(source).partial(EVENT, now=3_600_000)


@pytest.mark.parametrize(
    ("source", "left"),
    [
        (
            "event.data.id == async.data.id && async.data.val <= event.data.value",
            '"ab_1" == async.data.id && async.data.val <= 1295.0',
        ),
        ("event.data.id == async.data.id && 500 <= event.data.value", '"ab_1" == async.data.id'),
        ("async.data.id == event.data.id && event.data.n == 5", 'async.data.id == "ab_1"'),
        ("event.data.n == 6 && async.data.id == 'x'", "false"),
        ("async.data.id == 'x' && event.data.n == 6", "false"),
        ("event.data.n == 5 || async.data.id == 'x'", "true"),
        ("async.data.id == 'x' || event.data.n == 5", "true"),
        ("event.data.n == 6 || async.data.id == 'x'", 'async.data.id == "x"'),
        ("async.data.id && event.data.n", "async.data.id && 5"),
        ("event.data.n == 5 ? async.data.a : async.data.b", "async.data.a"),
        ("async.data.ok ? event.data.n + 1 : event.data.s", 'async.data.ok ? 6 : "x"'),
        ("async.data.id == event.data.missing", "has(async.data.id) && async.data.id == null"),
        ("event.data.missing != async.data.id", "!has(async.data.id) || null != async.data.id"),
        ("async.data.n > event.data.missing", "async.data.n > event.data.missing"),
        ("event.data.missing == async.data.id && event.data.n == 6", "false"),
        ("event.data.missing", "false"),
        ("event.data.nul == async.data.id", "null == async.data.id"),
        ("async.data.o == event.data.obj", 'async.data.o == {"k": [1]}'),
        ("async.data.items.exists(i, i.id == event.data.id)", 'async.data.items.exists(i, i.id == "ab_1")'),
        ("async.data.items.all(event, event.id == 1)", "async.data.items.all(event, event.id == 1)"),
        ("async.data.at > string(now())", 'async.data.at > "1970-01-01T01:00:00Z"'),
        ("timestamp(async.ts) > now_minus('1h')", 'timestamp(async.ts) > timestamp("1970-01-01T00:00:00Z")'),
        ("event.data.s > 3 && async.data.x", '"x" > 3 && async.data.x'),
        ("type(async.data.x) == type(event.data.n)", "type(async.data.x) == int"),
        ("(async.a == 1 && event.data.n == 5) && async.b == 2", "async.a == 1 && async.b == 2"),
        ("async.data.n == event.data.n + vars.k", "async.data.n == 5 + vars.k"),
    ],
)
def test_what_is_left(source: str, left: str) -> None:
    found = partial(source)
    assert found.source == left
    assert found.constant == {"true": True, "false": False}.get(left)
    assert compile(found.source).partial({}, now=0).source in (left, "true", "false") or "missing" in left


@pytest.mark.parametrize(
    ("source", "index"),
    [
        ("event.data.id == async.data.id", ("data.id", "s:ab_1")),
        ("async.data.n == event.data.n", ("data.n", match_key(5.0))),
        ("async.name == 'x' && async.data.id == event.data.id", ("name", "s:x")),
        ("async.data.x > 1 && async.data['a-b'][0] == event.data.s", ('data["a-b"][0]', "s:x")),
        ("async.data.x == null && async.data.y == true", ("data.y", "true")),
        ("async.data.o == event.data.obj && async.data.n == 1u", ("data.n", match_key(1))),
        ("async.data.x == event.data.missing", None),
        ("async.data.x == event.data.nul", None),
        ("async.data.x == 1 || async.data.y == 2", None),
        ("!(async.data.x == 1)", None),
        ("async.data.x != 1", None),
        ("async.data.x == async.data.y", None),
        ("async.data.x == b'a'", None),
        ("async.data.items[async.data.n] == 1", None),
        ("async == 'x'", None),
        ("event.data.id == 'ab_1'", None),
    ],
)
def test_index(source: str, index: tuple[str, str] | None) -> None:
    assert partial(source).index == index


def test_all_equalities_are_listed() -> None:
    found = partial("async.data.a == event.data.n && (async.data.b == 'x' && async.data.c == 1.5) && async.data.d")
    assert found.equalities == (("data.a", 5), ("data.b", "x"), ("data.c", 1.5))


def test_two_missing_values_do_not_meet() -> None:
    source = match_expression("data.order_id")
    left = compile(compile(source).partial({"data": {}}, now=0).source)
    assert not left.truthy({"async": {"data": {}}}, now=0)
    assert left.truthy({"async": {"data": {"order_id": None}}}, now=0)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 70_000,
        list(range(70_000)),
        10**400,
        float("nan"),
        float("inf"),
        [[[["x" * 66_000]]]],
    ],
)
def test_a_value_that_cannot_be_written_down_is_an_error(value: Json) -> None:
    with pytest.raises(EvaluationError):
        compile("async.data.x == event.x").partial({"x": value}, now=0)


def test_depths_that_add_up_are_an_error() -> None:
    value: Json = [1]
    for _ in range(35):
        value = [value]
    expression = compile("[" * 20 + "async.x == event.x" + "]" * 20)
    with pytest.raises(EvaluationError, match="nested too deeply"):
        expression.partial({"x": value}, now=0)


def test_match_keys() -> None:
    assert match_key(5) == match_key(5.0)
    assert len({match_key(value) for value in [5, "5", True, False, 1, "true", 5.5, "", 0, "i:5"]}) == 10
    assert match_key(0.0) == match_key(-0.0) == match_key(0)
    assert match_key("x" * 201) != match_key("x" * 202)
    assert len(match_key("é" * 1000) or "") < 100
    assert match_key(2**53 + 1) != match_key(float(2**53))
    assert match_key(10**5000) is not None
    nowhere: list[Json] = [None, UNKNOWN, [], {}, float("nan"), float("inf")]
    for value in nowhere:
        assert match_key(value) is None


def test_lookup() -> None:
    document: Json = {"data": {"a-b": [{"id": 7}], "": 1, 'q"': 2, "n": None}, "name": "x"}
    assert lookup(document, "name") == "x"
    assert lookup(document, 'data["a-b"][0].id') == 7
    assert lookup(document, "data['']") == 1
    assert lookup(document, 'data["q\\""]') == 2
    assert lookup(document, "data.n") is None
    for path in ("data.x", "data.n.x", "data[0]", 'data["a-b"][1]', "name.x", "name[0]"):
        assert lookup(document, path) is UNKNOWN


def test_match_expression() -> None:
    assert match_expression("data.order_id") == "event.data.order_id == async.data.order_id"
    assert match_expression('data["a-b"]') == 'event.data["a-b"] == async.data["a-b"]'
    assert match_expression('["x"].id') == "event.x.id == async.x.id"
    for path in (
        "",
        "data.",
        "data order",
        "data.x == 1",
        "size(data)",
        "data[async.x]",
        "data + 1",
        "data-x",
    ):
        with pytest.raises(ExpressionError, match="is not a path"):
            match_expression(path)
