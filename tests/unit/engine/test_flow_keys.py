"""The keys of flow control: what a run counts under."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import Concurrency, Throttle, expressions
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.flow import concurrency_keys, digest, key_of, throttle_gate
from perdure.model.config import FunctionConfig

LONG = "x" * 49


def scope(**data: Any) -> dict[str, Any]:
    return {"event": {"name": "go", "data": data}}


@pytest.mark.parametrize(
    ("source", "data", "key"),
    [
        (None, {}, ""),
        ("event.data.user", {"user": "ada"}, "ada"),
        ("event.data.user", {"user": ""}, ""),
        ("event.data.user", {}, None),
        ("event.data.user", {"user": None}, None),
        ("event.data.user", {"user": False}, None),
        ("event.data.user", {"user": True}, "true"),
        ("event.data.user", {"user": 0}, "0"),
        ("event.data.user", {"user": 7}, "7"),
        ("event.data.user", {"user": 7.0}, "7"),
        ("event.data.user", {"user": {"b": 1, "a": 2}}, '{"a":2,"b":1}'),
        ("event.data.a + '-' + event.data.b", {"a": "x", "b": "y"}, "x-y"),
        ("'constant'", {}, "constant"),
        ("event.data.user", {"user": "x" * 48}, "x" * 48),
        ("event.data.user", {"user": LONG}, digest(LONG)),
        ("event.data.a * 2", {"a": "x"}, "<invalid>"),
    ],
)
def test_the_key_of_an_event(source: str | None, data: dict[str, Any], key: str | None) -> None:
    expression = expressions.compile(source) if source else None
    assert key_of(expression, scope(**data), 0, invalid="<invalid>") == key


def test_a_long_key_is_short_and_its_own() -> None:
    assert len(digest(LONG)) == 24
    assert digest(LONG) != digest(LONG + "x")
    assert digest("short") == "short"


def test_a_run_has_a_key_for_each_rule_with_a_limit() -> None:
    rules = (Concurrency(2), Concurrency(5, key="event.data.user", scope="account", hold="run"))
    function = CompiledFunction(FunctionConfig("t-f", "t", "f", concurrency=rules))
    found = [(key.key, key.hold, key.rule) for key in concurrency_keys(function, scope(user="ada"), 0)]
    assert found == [("fn:t-f:0:", "step", 0), ("account:ada", "run", 1)]
    unlimited = CompiledFunction(FunctionConfig("t-f", "t", "f", concurrency=(Concurrency(0), *rules[1:])))
    assert [(key.key, key.rule) for key in concurrency_keys(unlimited, scope(user=1), 0)] == [("account:1", 1)]


def test_keys_of_functions_and_rules_do_not_meet() -> None:
    rules = (Concurrency(1, key="event.data.k"), Concurrency(1, key="event.data.k"))
    keys = {
        key.key
        for name in ("t-f", "t-g")
        for key in concurrency_keys(
            CompiledFunction(FunctionConfig(name, "t", "f", concurrency=rules)), scope(k="same"), 0
        )
    }
    assert len(keys) == 4


@pytest.mark.parametrize(("rule", "gate"), [(None, None), (Throttle(1, "1s", key="event.data.k"), b'"throttle:t-f:a"')])
def test_a_throttled_start_names_its_key(rule: Throttle | None, gate: bytes | None) -> None:
    function = CompiledFunction(FunctionConfig("t-f", "t", "f", throttle=rule))
    found = throttle_gate(function, scope(k="a"), 0)
    assert (found is None) == (gate is None)
    assert found is None or gate is None or gate in found
