"""Sessions of events: what an event says of itself, and what it inherits, become one map."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.model.event import EventError, parse_event
from perdure.model.sessions import resolve_sessions

FIVE = {"k1": "1", "k2": "1", "k3": "1", "k4": "1", "k5": "1"}


def sessions(own: Any = (), inherited: Any = ()) -> Any:
    """What is left of two layers; () stands for a layer that was not sent."""
    layers = {"sessions": own, "propagated_sessions": inherited}
    meta = resolve_sessions({name: layer for name, layer in layers.items() if layer != ()})
    return None if meta is None else meta["sessions"]


@pytest.mark.parametrize(
    ("own", "inherited", "expected"),
    [
        ((), (), None),
        ({}, {}, None),
        ({"chat": "c1"}, (), {"chat": "c1"}),
        ((), {"chat": "c1"}, {"chat": "c1"}),
        ({}, {"chat": "c1"}, {"chat": "c1"}),
        (None, {"chat": "c1"}, None),
        ({"chat": None}, {"chat": "c1", "user": "u1"}, {"user": "u1"}),
        ({"chat": None}, {"chat": "c1"}, None),
        ({"chat": "c2"}, {"chat": "c1", "user": "u1"}, {"chat": "c2", "user": "u1"}),
        ({"order": 7, "part": 1.5}, (), {"order": "7", "part": "1.5"}),
        # Five are kept: first what the event says, then what it inherits, by the bytes of the keys.
        ({"z": "9"}, FIVE, {"z": "9", "k1": "1", "k2": "1", "k3": "1", "k4": "1"}),
        ({"z": None}, FIVE, FIVE),
        ({"k1": "9"}, FIVE, {**FIVE, "k1": "9"}),
        ((), {"é": "1", "z": "1", "Z": "1", "a": "1", "b": "1", "c": "1"}, dict.fromkeys("Zabcz", "1")),
        (
            (),
            {"a": "1", "b": "1", "c": "1", "d": "1", "\ue000": "1", "\U0001f34e": "1"},
            dict.fromkeys("abcd\ue000", "1"),
        ),
    ],
)
def test_two_layers_become_one(own: Any, inherited: Any, expected: Any) -> None:
    assert sessions(own, inherited) == expected


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"sessions": {**FIVE, "k6": "1"}}, "meta.sessions has more than 5 entries"),
        ({"sessions": {"k" * 129: "1"}}, "meta.sessions key is longer than 128 bytes"),
        ({"sessions": {"": "1"}}, "meta.sessions has an empty key"),
        ({"sessions": {"a": ""}}, "meta.sessions.a must not be empty"),
        ({"sessions": {"a": "é" * 257}}, "meta.sessions.a is longer than 512 bytes"),
        ({"sessions": {"a": True}}, "meta.sessions.a must be a string, a number or null"),
        ({"sessions": [1]}, "meta.sessions must be an object"),
        ({"propagated_sessions": {"a": {}}}, "meta.propagated_sessions.a must be a string"),
        ({"propagated_sessions": "a"}, "meta.propagated_sessions must be an object"),
    ],
)
def test_what_is_malformed_is_refused_by_name(meta: Any, told: str) -> None:
    with pytest.raises(EventError) as caught:
        parse_event({"name": "go", "meta": meta}, now=0, internal_id="01", index=3)
    assert f"event {told}" in caught.value.reason and caught.value.index == 3


def test_an_event_has_one_layer_and_what_else_was_said() -> None:
    meta = {"sessions": {"chat": None}, "propagated_sessions": {"chat": "c1", "user": 7}, "of": "the sender"}
    event = parse_event({"name": "go", "meta": meta}, now=0, internal_id="01").event
    assert event.meta == {"of": "the sender", "sessions": {"user": "7"}}
    assert parse_event({"name": "go", "meta": {}}, now=0, internal_id="01").event.meta is None
