"""Calls: their bodies are canonical JSON with all that SDKs need, and stay within the protocol's limit (part C.1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.model.event import Event
from perdure.model.jcs import canonical
from perdure.model.json import Json, decode, encode
from perdure.wire.calls import CallContext, build_body, call_headers, canonical_events, trace_parent
from perdure.wire.memos import input_memo, memo_of

CONTEXT = CallContext("RUN", "shop-fulfil", "REQ", "step", 2, 1, 4, True, 2)
EVENT = Event("t/x", {"b": 1.0, "a": "€"}, "E", 5)
json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)  # fmt: skip


def test_a_body_has_all_that_the_sdks_need() -> None:
    body = decode(build_body(CONTEXT, canonical_events([EVENT]), {"h1": b'{"data":1}'}, ["h1"], {"d": True}))
    assert set(body) == {"ctx", "defers", "event", "events", "steps", "use_api", "version"}
    assert set(body["ctx"]) == {
        "attempt", "disable_immediate_execution", "env", "fn_id", "generation_id", "job_id", "max_attempts", "qi_id",
        "request_id", "run_id", "stack", "step_id", "use_api",
    }  # fmt: skip
    assert body["event"] == {"name": "t/x", "data": {"a": "€", "b": 1}, "id": "E", "ts": 5, "user": {}}
    assert body["ctx"]["stack"] == {"current": 1, "stack": ["h1"]}
    assert (body["ctx"]["attempt"], body["ctx"]["generation_id"], body["version"]) == (1, 2, 2)
    assert body["defers"] == {"d": {"abortable": True}}


def test_the_job_stays_the_same_over_its_attempts() -> None:
    def job(**changed: Json) -> str:
        fields = {name: getattr(CONTEXT, name) for name in CONTEXT.__struct_fields__}
        return CallContext(**{**fields, **changed}).job_id

    assert job(attempt=2, request_id="other") == CONTEXT.job_id
    assert len({job(), job(progress=3), job(step_id="h"), job(run_id="R2")}) == 4


def test_the_headers_say_what_the_body_says() -> None:
    headers = call_headers(CONTEXT)
    assert headers["x-run-id"] == "RUN" and headers["x-request-id"] == "REQ"
    assert headers["x-inngest-req-version"] == "2" and headers["x-inngest-step-id"] == "step"
    assert headers["x-inngest-generation-id"] == "2" and headers["x-inngest-job-id"] == CONTEXT.job_id
    assert headers["traceparent"] == trace_parent("RUN", "REQ")


def test_a_run_is_one_trace_and_each_call_a_span_of_it() -> None:
    _, trace, span, flags = trace_parent("R", "C").split("-")
    assert (len(trace), len(span), flags) == (32, 16, "01")
    assert trace_parent("R", "D").split("-")[1] == trace != trace_parent("S", "C").split("-")[1]
    assert trace_parent("R", "D").split("-")[2] != span


@given(st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=5), json_values, max_size=4), json_values)
def test_a_body_put_together_is_canonical(values: dict[str, Json], data: Json) -> None:
    events = canonical_events([Event("t/x", {"data": data}, "E", 5)] * 2)
    memos = {key: memo_of("StepRun", encode(value), failed=False) for key, value in values.items()}
    body = build_body(CONTEXT, events, memos, list(memos))
    assert canonical(decode(body)) == body


def test_a_large_body_says_that_the_rest_is_fetched() -> None:
    memos = {"h": b'{"data":"' + b"x" * 4_200_000 + b'"}'}
    body = decode(build_body(CONTEXT, canonical_events([EVENT]), memos, ["h"]))
    assert body["use_api"] and body["ctx"]["use_api"] and body["steps"] == {} and body["events"]
    many = canonical_events([Event("t/x", {"x": "y" * 2_000_000}, "E", 5)] * 3)
    assert len(build_body(CONTEXT, many, {}, [])) < 4 * 1024 * 1024 + 2_000_000


def test_the_memos_of_each_kind() -> None:
    assert memo_of("StepRun", b'{"b":1,"a":2.0}', failed=False) == b'{"data":{"a":2,"b":1}}'
    assert memo_of("StepRun", b'{"name":"E","message":"m"}', failed=True) == b'{"error":{"message":"m","name":"E"}}'
    assert memo_of("Sleep", b"null", failed=False) == b"null"
    assert memo_of("WaitForEvent", b'{"name":"e"}', failed=False) == b'{"name":"e","user":{}}'
    assert memo_of("WaitForEvent", b'{"name":"e","user":{"id":1}}', failed=False) == b'{"name":"e","user":{"id":1}}'
    assert memo_of("WaitForEvent", b"null", failed=False) == b"null"
    assert memo_of("WaitForSignal", b"null", failed=False) == b"null"
    assert memo_of("WaitForSignal", b'{"signal":"s"}', failed=False) == b'{"data":{"signal":"s"}}'
    assert memo_of("InvokeFunction", b"1", failed=False) == b'{"data":1}'
    assert memo_of("Step", b"1", failed=False) == b"1"
    assert input_memo(b"[1, 2]") == b'{"input":[1,2]}'
