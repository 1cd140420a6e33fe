"""The operations of apps, as they are sent and as they are understood (parts C.4 and C.5)."""

from __future__ import annotations

import pytest

from perdure.model.json import Json, decode, encode
from perdure.model.ops import Op
from perdure.wire.ops import FatalOpError, MalformedOpsError, parse_checkpoint, parse_ops

NOW = 1_795_331_597_812


def parsed(**fields: Json) -> Op:
    [found] = parse_ops(encode([{"id": "a", "name": "n", **fields}]), NOW)
    return found


def test_a_checkpointed_step_with_the_notes_of_its_sdk() -> None:
    body = {
        "run_id": "R", "fn_id": "F", "qi_id": "Q", "request_id": "req", "generation_id": 1, "ts": NOW,
        "steps": [{
            "id": "86f7", "mode": "sync", "op": "StepRun", "name": "a", "displayName": "A", "userland": {"id": "a"},
            "opts": {}, "rawArgs": ["a", None], "promise": {}, "fulfilled": True, "middleware": {"stepInfo": {}},
            "data": {"x": 1}, "timing": {"a": 1_795_331_597_000_000_000, "b": 6_000_000},
        }],
    }  # fmt: skip
    found = parse_checkpoint(encode(body), NOW)
    [op] = found.ops
    assert found.request_id == "req"
    assert (op.op, op.id, op.name, op.data, op.opts) == ("StepRun", "86f7", "A", b'{"x":1}', None)
    assert (op.started_at, op.ended_at) == (1_795_331_597_000, 1_795_331_597_006)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"steps":[]}', b'{"request_id":1}', b'{"request_id":"r","steps":[1]}'])
def test_a_checkpoint_that_cannot_be_read_says_why(body: bytes) -> None:
    with pytest.raises(MalformedOpsError):
        parse_checkpoint(body, NOW)


def test_what_an_sdk_says_of_itself_does_not_matter_and_what_it_leaves_out_neither() -> None:
    assert parsed(op="StepRun").data == b"null"
    assert parsed(op="StepRun", opts=None, userland={"id": "u", "index": None}).name == "u"
    assert parsed(op="StepRun", timing={"a": -1, "b": 5}).started_at == NOW
    assert parsed(op="StepRun", opts={"type": "step.ai.wrap", "input": [1]}).opts == {
        "type": "step.ai.wrap",
        "input": [1],
    }


def test_an_error_becomes_an_object() -> None:
    op = parsed(op="StepFailed", error={"message": "m", "code": "unknown", "data": {"q": 1}}, data={"x": 1})
    assert op.data is not None and decode(op.data) == {"name": "Error", "message": "m", "data": {"q": 1}}
    told = parsed(op="StepError", error="just text")
    assert told.data is not None and decode(told.data) == {"name": "Error", "message": "just text"}


def test_a_step_of_an_experiment_is_noted_as_such() -> None:
    own = {"kind": "userland.x", "scope": "step", "op": "merge", "values": {"a": 1}}
    opts = {"experimentName": "colour", "variant": "red", "selectionStrategy": "weighted", "experimentStepID": "h"}
    values = {"name": "colour", "variant": "red", "selection_strategy": "weighted"}
    noted = {"kind": "inngest.experiment", "scope": "step", "op": "merge", "values": values}
    assert parsed(op="StepRun", opts=opts).metadata == [noted]
    assert parsed(op="StepError", opts=opts, metadata=[own]).metadata == [own, noted]
    assert parsed(op="StepRun", opts={"experimentName": 7}).metadata is None


@pytest.mark.parametrize(
    ("fields", "until"),
    [
        ({"name": "2s"}, NOW + 2000),
        ({"name": "x", "opts": {"duration": "1m"}}, NOW + 60_000),
        ({"name": "2026-11-22T07:13:18.000Z"}, NOW + 188),
        ({"name": "1d2h"}, NOW + 26 * 3_600_000),
        ({"name": ""}, NOW),
        ({"name": "2020-01-01T00:00:00Z"}, 1_577_836_800_000),
    ],
)
def test_a_sleep_has_its_time_in_one_of_two_places(fields: dict[str, Json], until: int) -> None:
    assert parsed(op="Sleep", **fields).opts == {"until": until}


def test_waits() -> None:
    wait = parsed(op="WaitForEvent", name="t/x", opts={"timeout": "1m", "if": "async.data.id == 1"})
    assert wait.opts == {"event": "t/x", "timeout": 60_000, "if": "async.data.id == 1"}
    assert parsed(op="WaitForEvent", name="t/x").opts == {"event": "t/x", "timeout": 0}
    signal = parsed(op="WaitForSignal", opts={"signal": "s", "timeout": "1s", "conflict": "replace"})
    assert signal.opts == {"signal": "s", "timeout": 1000, "conflict": "replace"}


def test_an_invocation() -> None:
    opts = {"function_id": "a-b", "payload": {"data": {"n": 1}, "user": {"u": 1}, "v": "2"}, "timeout": "1h"}
    found = parsed(op="InvokeFunction", name=None, displayName="call", opts=opts)
    expected = {"function_id": "a-b", "data": {"n": 1}, "user": {"u": 1}, "v": "2", "timeout": 3_600_000}
    assert found.opts == expected and found.name == "call"
    assert parsed(op="InvokeFunction", opts={"function_id": "a-b"}).opts == {"function_id": "a-b"}
    meta = {"sessions": None, "propagated_sessions": {"chat": "c1"}}
    found = parsed(op="InvokeFunction", opts={"function_id": "a-b", "payload": {"meta": meta}})
    assert found.opts == {"function_id": "a-b", "meta": meta}


def test_waits_are_recorded_before_what_might_end_them() -> None:
    body = [{"op": "StepRun", "id": "1"}, {"op": "WaitForEvent", "id": "2", "name": "e"}, {"op": "DeferAdd", "id": "3"}]
    assert [op.id for op in parse_ops(encode(body), NOW)] == ["2", "3", "1"]


@pytest.mark.parametrize("body", ["{", "1", '"x"', "[1]", '[{"op":"StepRun","id":5}]', '[{"op":"Sleep"}]', "[{}]"])
def test_what_is_no_operation_is_told(body: str) -> None:
    with pytest.raises(MalformedOpsError):
        parse_ops(body.encode(), NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "Sleep", "name": "367d"},
        {"op": "Sleep", "name": "banana"},
        {"op": "WaitForEvent", "name": "e", "opts": {"timeout": "400d"}},
        {"op": "WaitForEvent", "name": "", "displayName": "w", "opts": {"timeout": "1s"}},
        {"op": "InvokeFunction", "opts": {}},
    ],
)
def test_what_can_never_be_is_final(fields: dict[str, Json]) -> None:
    with pytest.raises(FatalOpError):
        parsed(**fields)


def test_more_operations_than_an_answer_may_have() -> None:
    body = encode([{"op": "StepRun", "id": str(index)} for index in range(1001)])
    with pytest.raises(MalformedOpsError, match="at most 1000"):
        parse_ops(body, NOW)


@pytest.mark.parametrize(
    ("sent", "kept"), [(7, {"retries": 7}), (0, {"retries": 0}), ("7", None), (-1, None), (99, None)]
)
def test_a_step_may_say_how_often_it_is_tried_again(sent: Json, kept: Json) -> None:
    assert parsed(op="StepError", error={"message": "m"}, opts={"retries": sent}).opts == kept
