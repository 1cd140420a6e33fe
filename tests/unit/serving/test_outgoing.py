"""Answers, read by the server's own reader: what an app says is what the server understands."""

from __future__ import annotations

import pytest

from perdure.model.errors import ErrorInfo
from perdure.model.json import Json, decode
from perdure.model.ops import (
    INVOKE,
    SEND_EVENT,
    SLEEP,
    STEP_ERROR,
    STEP_FAILED,
    STEP_PLANNED,
    STEP_RUN,
    WAIT_FOR_EVENT,
    WAIT_FOR_SIGNAL,
    Op,
)
from perdure.sdk.failure import failure_of
from perdure.serving import outgoing
from perdure.serving.exchange import Answer
from perdure.wire.ops import parse_ops

NOW = 1_800_000_000_000
HASH = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"


def read_back(answer: Answer) -> Op:
    assert answer.status == 206
    (op,) = parse_ops(answer.body, NOW)
    return op


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    ("op", "opts"),
    [
        (SLEEP, {"until": NOW + 90_061_001}),
        (SLEEP, {"until": NOW}),
        (WAIT_FOR_EVENT, {"event": "t/a", "timeout": 5_400_000}),
        (WAIT_FOR_EVENT, {"event": "t/a", "timeout": 0, "if": "event.data.a == async.data.a"}),
        (WAIT_FOR_SIGNAL, {"signal": "s", "timeout": 1500, "conflict": "replace"}),
        (INVOKE, {"function_id": "shop-child", "data": {"n": 1}, "user": {"id": 1}, "v": "2", "timeout": 1000}),
        (INVOKE, {"function_id": "shop-child", "data": {}}),
    ],
)
def test_waits_arrive_as_they_were_asked_for(op: str, opts: dict[str, Json], beside: bool) -> None:
    asked = Op(op, HASH, "the step", opts)
    found = read_back(outgoing.operations(outgoing.waiting(asked, NOW, beside=beside)))
    assert (found.op, found.id, found.name) == (op, HASH, "the step")
    assert found.opts == {**opts, **({"parallelMode": "race"} if beside else {})}


def test_a_sleep_that_is_over_is_none() -> None:
    found = read_back(outgoing.operations(outgoing.waiting(Op(SLEEP, HASH, "s", {"until": 5}), NOW, beside=False)))
    assert found.opts == {"until": NOW}


@pytest.mark.parametrize("op", [STEP_RUN, SEND_EVENT])
def test_what_the_app_does_is_planned(op: str) -> None:
    found = read_back(outgoing.operations(outgoing.planned(Op(op, HASH, "s", {"events": []}), beside=True)))
    assert (found.op, found.name) == (STEP_PLANNED, "s")


def test_a_result_arrives_with_its_times() -> None:
    done = Op(STEP_RUN, HASH, "s", {"type": "step.fetch", "input": [1]}, b'{"x":1}', None, 0, NOW - 70, NOW - 20)
    found = read_back(outgoing.operations(outgoing.executed(done, beside=False)))
    assert (found.data, found.started_at, found.ended_at) == (b'{"x":1}', NOW - 70, NOW - 20)
    assert found.opts == {"type": "step.fetch", "input": [1]}


@pytest.mark.parametrize("final", [False, True])
def test_a_failure_arrives_with_its_cause(final: bool) -> None:
    info = ErrorInfo("ValueError", "no", "Traceback", ErrorInfo("KeyError", "why"))
    done = Op(STEP_ERROR, HASH, "s", error=info)
    found = read_back(outgoing.operations(outgoing.executed(done, beside=False, final=final)))
    assert found.op == (STEP_FAILED if final else STEP_ERROR)
    assert found.data is not None and decode(found.data) == info.to_json()


def test_the_end_of_a_run() -> None:
    assert outgoing.result(b'{"a":1}', recorded=False) == Answer(200, b'{"a":1}')
    (op,) = parse_ops(outgoing.result(b'{"a":1}', recorded=True).body, NOW)
    assert (op.op, op.data) == ("RunComplete", b'{"a":1}')


def test_an_error_of_the_handler() -> None:
    answer = outgoing.failed(failure_of(ValueError("no"), NOW))
    assert answer.status == 500 and decode(answer.body)["message"] == "no"
