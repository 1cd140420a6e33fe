"""The GraphQL subset: what the test suites of the SDKs ask of runs and their traces."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import httpx2

from perdure import App, Context, StepError, embedded, step
from perdure.model.ids import step_hash
from perdure.model.json import Json, decode
from perdure.server import make_app
from perdure.server.identity import uuid_of
from perdure.testing import VirtualClock
from tests.support.graphql import EVER, RUNS, ask, span_output
from tests.support.wire import Wire


@contextlib.asynccontextmanager
async def serving(app: App) -> AsyncGenerator[Wire, None]:
    """A server of an app of its own."""
    clock = VirtualClock()
    async with embedded(app, db=":memory:", clock=clock) as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
            yield Wire(node, clock, http)


async def test_the_runs_of_an_event(wire: Wire) -> None:
    (event_id,) = (await wire.send({"name": "t/two", "data": {"q": 1}, "id": "mine"})).json()["ids"]
    await wire.node.settle()
    query = """query($e: ID!) { event(query: {eventId: $e}) { id name payload raw status pendingRuns totalRuns
      functionRuns { id status } } }"""
    event = (await ask(wire, query, e=event_id))["event"]
    (run,) = event.pop("functionRuns")
    assert run["status"] == "COMPLETED"
    raw = decode(event.pop("raw"))
    assert (raw["id"], raw["name"], raw["data"]) == ("mine", "t/two", {"q": 1})
    assert event == {
        "id": event_id,
        "name": "t/two",
        "payload": '{"q":1}',
        "status": "COMPLETED",
        "pendingRuns": 0,
        "totalRuns": 1,
    }


async def test_a_run_with_its_trigger(wire: Wire) -> None:
    run_id = await wire.start("t/two", {"q": 1})
    query = """query($r: String!) { run(runID: $r) { output status } runTrigger(runID: $r) { payloads IDs
      timestamp eventName isBatch batchID cron } }"""
    data = await ask(wire, query, r=run_id)
    assert data["run"] == {"output": '{"a":1,"b":2}', "status": "COMPLETED"}
    trigger = data["runTrigger"]
    (payload,) = trigger.pop("payloads")
    assert decode(payload)["data"] == {"q": 1} and decode(payload)["id"] == trigger.pop("IDs")[0]
    expected = {"eventName": "t/two", "isBatch": False, "batchID": None, "cron": None}
    assert trigger == {"timestamp": "2027-01-15T08:00:00.000Z", **expected}


async def test_a_failed_run_gives_its_error_as_text(wire: Wire) -> None:
    run_id = await wire.start("t/boom")
    query = "query($r: String!) { run(runID: $r) { status output trace { outputID childrenSpans { name } } } }"
    assert (await ask(wire, query, r=run_id))["run"]["status"] == "RUNNING"
    await wire.clock.advance("1h")
    run = (await ask(wire, query, r=run_id))["run"]
    assert run["status"] == "FAILED" and decode(run["output"])["message"] == "boom"
    assert [child["name"] for child in run["trace"]["childrenSpans"]] == ["function error"]
    output = await span_output(wire, run["trace"]["outputID"])
    assert output["data"] is None and output["error"]["name"] == "ValueError"
    assert output["error"]["message"] == "boom" and "Traceback" in output["error"]["stack"]


async def test_the_steps_of_a_run_by_name(wire: Wire) -> None:
    run_id = await wire.start("t/two", {"q": 1})
    query = """query($r: String!) { run(runID: $r) { trace { name status outputID childrenSpans { name status
      outputID parentSpanID } spanID } } }"""
    root = (await ask(wire, query, r=run_id))["run"]["trace"]
    children = root["childrenSpans"]
    assert root["name"] == "shop-two" and {child["parentSpanID"] for child in children} == {root["spanID"]}
    assert [child["name"] for child in children] == ["a", "b", "function success"]
    outputs = [await span_output(wire, child["outputID"]) for child in children]
    assert [output["data"] for output in outputs] == ["1", "2", '{"a":1,"b":2}']
    assert all(output["error"] is None for output in outputs)
    assert decode((await span_output(wire, root["outputID"]))["input"])[0]["name"] == "t/two"


async def test_the_trace_with_details(wire: Wire) -> None:
    run_id = await wire.start("t/flaky")
    await wire.clock.advance("10s")
    query = """query($r: String!) { run(runID: $r) { status trace(preview: true) {
        ...Details childrenSpans { ...Details childrenSpans { ...Details } } } } }
      fragment Details on RunTraceSpan {
        runID status outputID name stepID spanID parentSpanID isRoot attempts duration queuedAt startedAt endedAt stepOp
        isUserland metadata { scope kind values updatedAt } stepInfo { __typename ... on RunStepInfo { type } }
      }"""
    root = (await ask(wire, query, r=run_id))["run"]["trace"]
    (step,) = root["childrenSpans"]
    first, second = step["childrenSpans"]
    assert (root["name"], root["isRoot"], root["parentSpanID"]) == ("Run", True, "0" * 16)
    assert (step["name"], step["status"], step["attempts"], step["stepOp"]) == ("try", "COMPLETED", 1, "RUN")
    assert step["stepID"] == step_hash("try") and step["duration"] == 5000
    assert step["stepInfo"] == {"__typename": "RunStepInfo", "type": "step.run"}
    assert [(each["name"], each["status"], each["attempts"]) for each in (first, second)] == [
        ("Attempt 0", "FAILED", 0),
        ("Attempt 1", "COMPLETED", 1),
    ]
    assert (await span_output(wire, first["outputID"]))["error"]["message"] == "not yet"
    assert (await span_output(wire, second["outputID"]))["data"] == '"at last"'
    assert root["metadata"] == []


async def test_what_programs_noted_is_in_the_trace(wire: Wire) -> None:
    run_id = await wire.start("t/two")
    notes = [{"kind": "user.score", "scope": "step", "op": "merge", "values": {"n": 1, "deep": {"x": [2]}}}]
    body = {"target": {"step_id": step_hash("a")}, "metadata": notes}
    assert (await wire.http.post(f"/v1/runs/{run_id}/metadata", json=body)).status_code == 200
    query = """query($r: String!) { run(runID: $r) { trace(preview: true) { metadata { kind } childrenSpans { name
      metadata { scope kind values updatedAt } } } } }"""
    root = (await ask(wire, query, r=run_id))["run"]["trace"]
    assert root["metadata"] == [] and root["childrenSpans"][1]["metadata"] == []
    assert root["childrenSpans"][0]["metadata"] == [
        {
            "scope": "step",
            "kind": "user.score",
            "values": {"n": 1, "deep": {"x": [2]}},
            "updatedAt": "2027-01-15T08:00:00.000Z",
        }
    ]


async def test_what_steps_wait_for(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    await wire.clock.advance("10s")
    query = """query($r: String!) { run(runID: $r) { status trace(preview: true) { childrenSpans {
      name status stepOp outputID stepInfo {
      __typename ... on SleepStepInfo { sleepUntil }
      ... on WaitForEventStepInfo { eventName expression timeout foundEventID timedOut } } } } } }"""
    nap, approval = (await ask(wire, query, r=run_id))["run"]["trace"]["childrenSpans"]
    assert nap["stepInfo"] == {"__typename": "SleepStepInfo", "sleepUntil": "2027-01-15T08:00:10.000Z"}
    assert (nap["status"], nap["outputID"]) == ("COMPLETED", None)
    waiting = {
        "__typename": "WaitForEventStepInfo",
        "eventName": "t/approved",
        "expression": None,
        "timeout": "2027-01-16T08:00:10.000Z",
        "foundEventID": None,
        "timedOut": None,
    }
    assert (approval["status"], approval["stepOp"], approval["stepInfo"]) == ("WAITING", "WAIT_FOR_EVENT", waiting)
    (event_id,) = (await wire.send({"name": "t/approved"})).json()["ids"]
    await wire.node.settle()
    approval = (await ask(wire, query, r=run_id))["run"]["trace"]["childrenSpans"][1]
    assert approval["stepInfo"] == {**waiting, "foundEventID": event_id, "timedOut": False}
    assert decode((await span_output(wire, approval["outputID"]))["data"])["name"] == "t/approved"


async def test_a_wait_that_times_out(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    await wire.clock.advance("2d")
    query = """query($r: String!) { runTrace(runID: $r) { childrenSpans { outputID stepInfo { ... on
      WaitForEventStepInfo { timedOut } } } } }"""
    approval = (await ask(wire, query, r=run_id))["runTrace"]["childrenSpans"][1]
    assert approval == {"outputID": None, "stepInfo": {"timedOut": True}}


async def test_invoked_runs_and_signals() -> None:
    app = App("calls")

    @app.function("child", trigger="c/child")
    async def child(ctx: Context) -> Json:
        if ctx.event.data["wait"]:
            await step.sleep("nap", "1d")
        return "grown"

    @app.function("parent", trigger="c/parent")
    async def parent(ctx: Context) -> None:
        await step.invoke("now", "calls-child", data={"wait": False})
        await step.wait_for_signal("mark", signal="go", timeout="1h")
        with contextlib.suppress(StepError):
            await step.invoke("late", "calls-child", data={"wait": True}, timeout="1m")

    query = """query($r: String!) { run(runID: $r) { trace(preview: true) { childrenSpans {
      name status stepOp outputID stepInfo {
      __typename ... on InvokeStepInfo { triggeringEventID functionID timeout runID timedOut }
      ... on WaitForSignalStepInfo { signal timeout timedOut } } } } } }"""
    async with serving(app) as wire:
        run_id = await wire.start("c/parent")
        now, mark = (await ask(wire, query, r=run_id))["run"]["trace"]["childrenSpans"]
        assert (now["stepOp"], mark["stepOp"], mark["status"]) == ("INVOKE", "WAIT_FOR_SIGNAL", "WAITING")
        until = "2027-01-15T09:00:00.000Z"
        signal = {"__typename": "WaitForSignalStepInfo", "signal": "go", "timeout": until, "timedOut": None}
        assert mark["stepInfo"] == signal
        assert (now["stepInfo"]["functionID"], now["stepInfo"]["timedOut"]) == ("calls-child", False)
        show = "query($r: String!) { run(runID: $r) { status output sourceID triggerIDs } }"
        invoked = (await ask(wire, show, r=now["stepInfo"]["runID"]))["run"]
        assert (invoked["status"], invoked["output"], invoked["sourceID"]) == ("COMPLETED", '"grown"', run_id)
        assert invoked["triggerIDs"] == [now["stepInfo"]["triggeringEventID"]]
        await wire.node.signal("go")
        await wire.clock.advance("2m")
        _, mark, late = (await ask(wire, query, r=run_id))["run"]["trace"]["childrenSpans"]
        assert mark["stepInfo"] == {**signal, "timedOut": False}
        assert (late["status"], late["stepInfo"]["timedOut"]) == ("FAILED", True)
        assert "Timed out" in (await span_output(wire, late["outputID"]))["error"]["message"]


async def test_a_function_run(wire: Wire) -> None:
    run_id = await wire.start("t/two")
    query = """query($r: ID!) { functionRun(query: {functionRunId: $r}) { output status finishedAt function { slug
      } event { name } events { id } eventID } }"""
    run = (await ask(wire, query, r=run_id))["functionRun"]
    assert (run["status"], run["output"]) == ("COMPLETED", '{"a":1,"b":2}')
    assert (run["function"], run["event"]) == ({"slug": "shop-two"}, {"name": "t/two"})
    assert run["events"] == [{"id": run["eventID"]}]


async def test_everything_of_a_run(wire: Wire) -> None:
    run_id = await wire.start("t/plain")
    query = """query($r: String!) { run(runID: $r) { id traceID isBatch batchCreatedAt cronSchedule queuedAt startedAt
      endedAt eventName hasAI sourceID triggerIDs app { id name externalID method }
      function { id name slug url config } } }"""
    run = (await ask(wire, query, r=run_id))["run"]
    assert run["app"] == {"id": uuid_of("shop"), "name": "shop", "externalID": "shop", "method": "EMBEDDED"}
    assert decode(run["function"].pop("config"))["slug"] == "shop-plain"
    assert run["function"] == {"id": uuid_of("shop-plain"), "name": "A plain function", "slug": "shop-plain", "url": ""}
    assert (len(run["traceID"]), run["hasAI"], run["eventName"]) == (32, False, "t/plain")
    assert run["startedAt"] == run["endedAt"] == "2027-01-15T08:00:00.000Z"


async def test_a_batch(wire: Wire) -> None:
    ids = (await wire.send([{"name": "t/batched"}, {"name": "t/batched"}])).json()["ids"]
    await wire.node.settle()
    (edge,) = (await ask(wire, RUNS, filter=EVER))["runs"]["edges"]
    query = """query($r: String!) { run(runID: $r) { isBatch batchCreatedAt triggerIDs } runTrigger(runID: $r) {
      IDs payloads isBatch } }"""
    data = await ask(wire, query, r=edge["node"]["id"])
    assert data["run"]["isBatch"] is True and data["run"]["triggerIDs"] == data["runTrigger"]["IDs"] == ids
    assert [decode(payload)["id"] for payload in data["runTrigger"]["payloads"]] == ids
