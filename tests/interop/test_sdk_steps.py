"""Steps of real SDK apps: results, waits, invocations, parallel steps; over HTTP and over connections."""

from __future__ import annotations

import json

import pytest

from tests.support.scenarios import Case, Outcomes, Scenarios
from tests.support.sdk_apps import SdkApp

pytestmark = pytest.mark.timeout(240)

JS = ("v4", "v3", "v4-worker", "v3-worker")
steps = Scenarios("v4", "v3", "py-fastapi", "py-flask", "v4-worker", "v3-worker", "py-worker")


# Results.


@steps
async def plain(app: SdkApp) -> None:
    data = {"n": 1, "text": "Grüße 🚀", "deep": {"list": [1, 2.5, None, True]}}
    run = await app.run("plain", data)
    assert run.status == "COMPLETED" and run.function_id == f"{app.id}-plain"
    assert run.output == {"data": data, "name": f"{app.id}/plain", "attempt": 0, "runId": run.id}


@steps
async def two_steps(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("two-steps", {"key": key, "n": 1})
    assert (run.status, run.output) == ("COMPLETED", {"a": {"n": 2}, "b": 3})
    assert await app.noted(key) == ["a", "b"]
    spans = await app.spans(run.id)
    assert [(span.name, span.status, span.step_op, span.output) for span in spans.values()] == [
        ("a", "COMPLETED", "RUN", {"n": 2}),
        ("b", "COMPLETED", "RUN", 3),
    ]


@steps
async def nothing(app: SdkApp) -> None:
    run = await app.run("nothing")
    assert (run.status, run.output) == ("COMPLETED", None)
    assert (await app.spans(run.id))["after"].output == {"none": None, "nil": None}


@steps
async def same_ids(app: SdkApp) -> None:
    assert await app.result("same-ids") == [1, 4, 9]


@steps
async def large_state(app: SdkApp) -> None:
    # Five of them are more than one call carries: the SDK fetches them.
    size = 1_000_000
    assert await app.result("large-state", {"size": size}) == 5 * size


@steps
async def large_event(app: SdkApp) -> None:
    # It would be in a call twice, as the event and among the events: the SDK fetches it.
    data = {"text": "x" * 2_500_000}
    assert (await app.result("plain", data))["data"] == data


@steps
async def sleep(app: SdkApp) -> None:
    run = await app.run("sleep")
    assert run.output["nap"] >= 1000 and run.output["until"] >= 1000, run.output
    assert run.output["nap"] < 10_000 and run.output["until"] < 10_000, run.output
    assert (await app.spans(run.id))["nap"].step_op == "SLEEP"


@steps
async def logs(app: SdkApp) -> None:
    key = app.key()
    await app.run("logs", {"key": key})
    assert await app.noted(key) == [f"{key} first", f"{key} in the step", f"{key} last"]


@steps.only("v4", "v3", "py-fastapi", "py-flask", "py-worker")
async def with_middleware(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("with-middleware", {"key": key}) == {"wrapped": f"[hello from {key}]"}


# Beside each other.


@steps
async def parallel(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("parallel", {"key": key}) == ["one", "two", None]
    noted = await app.noted(key)
    assert sorted(noted) == ["one begins", "one ends", "two begins", "two ends"]


@steps
async def chains(app: SdkApp) -> None:
    run = await app.run("chains")
    assert (run.status, run.output) == ("COMPLETED", [2, 2])
    assert set(await app.spans(run.id)) == {"left 1", "left 2", "right 1", "right 2"}


@steps.only("v4")
async def race(app: SdkApp) -> None:
    run = await app.run("race", {"key": app.key()})
    assert (run.status, run.output) == ("COMPLETED", "fast")
    # The function goes on with the winner; this SDK ends it when the loser has ended too.
    spans = await app.spans(run.id)
    after, slow = spans["after"].ended_at, spans["slow"].ended_at
    assert after is not None and slow is not None and after < slow


@steps.only("py-fastapi", "py-flask", "py-worker")
async def race_of_python(app: SdkApp) -> None:
    assert await app.result("race", {"key": app.key()}) == "fast"


@steps.only("v4")
async def uncheckpointed(app: SdkApp) -> None:
    assert await app.result("uncheckpointed") == 3


# Events.


@steps
async def send_event(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("send-event", {"key": key})
    assert sorted(await app.until_noted(key, 2)) == ["sent 1", "sent 2"]
    for sent in run.output:
        child = await app.ended(await app.run_of(sent))
        assert child.function.id == "on-sent"
    assert (await app.spans(run.id))["send"].status == "COMPLETED"


@steps
async def wait_match(app: SdkApp) -> None:
    key = app.key()
    run_id = await app.begin("wait-match", {"key": key})
    assert (await app.waiting(run_id, "approval")).step_op == "WAIT_FOR_EVENT"
    other, mine = app.key(), {"key": key, "by": "me"}
    (_, sent) = await app.send(
        {"name": f"{app.id}/approved", "data": {"key": other}}, {"name": f"{app.id}/approved", "data": mine}
    )
    run = await app.ended(run_id)
    assert run.output["data"] == mine and run.output["name"] == f"{app.id}/approved"
    assert run.output["id"] == sent and run.output["ts"] > 1_700_000_000_000


@steps
async def wait_if(app: SdkApp) -> None:
    key = app.key()
    run_id = await app.begin("wait-if", {"key": key})
    await app.waiting(run_id, "approval")
    for n in (1, 2):
        await app.send({"name": f"{app.id}/approved", "data": {"key": key, "n": n}})
    assert (await app.ended(run_id)).output["data"] == {"key": key, "n": 2}


@steps
async def wait_timeout(app: SdkApp) -> None:
    assert await app.result("wait-timeout") == {"got": None}


@steps.only(*JS)
async def wait_signal(app: SdkApp) -> None:
    key = app.key()
    run_id = await app.begin("wait-signal", {"key": key})
    assert (await app.waiting(run_id, "signal")).step_op == "WAIT_FOR_SIGNAL"
    assert await app.result("send-signal", {"signal": key}) == "sent"
    assert (await app.ended(run_id)).output == {"signal": key, "data": {"from": app.id}}


@steps.only("v4")
async def signal_from_outside(app: SdkApp) -> None:
    key = app.key()
    run_id = await app.begin("wait-signal", {"key": key})
    await app.waiting(run_id, "signal")
    await app.ask("/signal", {"signal": key, "data": [1, 2]})
    assert (await app.ended(run_id)).output == {"signal": key, "data": [1, 2]}


@steps.only(*JS)
async def signal_timeout(app: SdkApp) -> None:
    assert await app.result("signal-timeout", {"key": app.key()}) == {"got": None}


@steps.only(*JS)
async def signal_conflict(app: SdkApp) -> None:
    key = app.key()
    first = await app.begin("wait-signal", {"key": key})
    await app.waiting(first, "signal")
    second = await app.run("wait-signal", {"key": key})
    assert second.status == "FAILED" and "ignal conflict" in str(second.output)
    await app.result("send-signal", {"signal": key})
    assert (await app.ended(first)).status == "COMPLETED"


# Invocations.


@steps
async def invoke(app: SdkApp) -> None:
    run = await app.run("invoke", {"n": 4})
    assert run.output == {"by": app.id, "doubled": 8}
    assert (await app.spans(run.id))["call"].step_op == "INVOKE"


@steps
async def invoke_other_language(app: SdkApp) -> None:
    other = "py-fastapi" if app.id in JS else "v4"
    await app.fleet.app(other)
    outcome = await app.result("invoke-other", {"app": other, "fn": "child", "n": 21})
    assert outcome == {"result": {"by": other, "doubled": 42}}


@steps
async def invoke_failing(app: SdkApp) -> None:
    outcome = await app.result("invoke-other", {"app": app.id, "fn": "child-fails", "n": 1})
    assert outcome["message"] == "the child is broken", outcome


@steps
async def invoke_failing_of_other_language(app: SdkApp) -> None:
    other = "py-fastapi" if app.id in JS else "v4"
    await app.fleet.app(other)
    outcome = await app.result("invoke-other", {"app": other, "fn": "child-fails", "n": 1})
    assert outcome["message"] == "the child is broken", outcome


@steps
async def invoke_unknown(app: SdkApp) -> None:
    outcome = await app.result("invoke-other", {"app": app.id, "fn": "nobody", "n": 1})
    assert "could not find function" in outcome["message"], outcome


@steps
async def invoke_timeout(app: SdkApp) -> None:
    outcome = await app.result("invoke-other", {"app": app.id, "fn": "child-sleeps", "n": 1, "timeout": "1s"})
    assert "Timed out" in outcome["message"], outcome


# What the server does for a step.


@steps.only(*JS)
async def fetch(app: SdkApp) -> None:
    answer = await app.result("fetch", {"provider": app.provider})
    assert answer == {"status": 202, "query": "q=1", "asked": "yes", "body": {"hello": "there"}}


@steps
async def infer(app: SdkApp) -> None:
    run = await app.run("infer", {"provider": app.provider})
    assert run.output == "gpt-x heard hello from Bearer sk-test"
    assert "Bearer" not in str((await app.spans(run.id))["ask"].input)


@steps.only(*JS)
async def wrap(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("wrap", {"key": key}) == 5
    assert await app.noted(key) == ["thought"]


# What people and programs ask the server for.


@steps
async def read_in_every_way(app: SdkApp) -> None:
    run = await app.run("child", {"n": 4})
    output = {"by": app.id, "doubled": 8}
    http, url = app.fleet.http, app.fleet.server.url
    async with http.get(f"{url}/v1/runs/{run.id}") as response:
        shown = (await response.json())["data"]
    assert (shown["status"], shown["output"]) == ("Completed", output)
    query = "query ($id: String!) { run(runID: $id) { status output trace { childrenSpans { name } } } }"
    async with http.post(f"{url}/v0/gql", json={"query": query, "variables": {"id": run.id}}) as response:
        answer = await response.json()
    assert "errors" not in answer, answer
    assert answer["data"]["run"]["status"] == "COMPLETED"
    assert json.loads(answer["data"]["run"]["output"]) == output
    assert "double" in [span["name"] for span in answer["data"]["run"]["trace"]["childrenSpans"]]


@steps
async def rerun(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("two-steps", {"key": key, "n": 1})
    again = await app.ended(await app.client.rerun(run.id))
    assert (again.status, again.output) == ("COMPLETED", run.output)
    assert await app.noted(key) == ["a", "b"] * 2


@steps
async def rerun_from_a_step(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("two-steps", {"key": key, "n": 1})
    again = await app.ended(await app.client.rerun(run.id, from_step="b"))
    assert (again.status, again.output) == ("COMPLETED", run.output)
    assert await app.noted(key) == ["a", "b", "b"]


@steps.only(*JS)
async def rerun_from_a_step_with_other_input(app: SdkApp) -> None:
    run = await app.run("wrap", {"key": app.key()})
    body = {"fromStep": {"stepId": "think", "input": [10, 20]}}
    async with app.fleet.http.post(f"{app.fleet.server.url}/v2/runs/{run.id}/rerun", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
    assert (await app.ended(answer["data"]["runId"])).output == 30


@steps
async def invoked_by_the_api(app: SdkApp) -> None:
    run = await app.ended(await app.client.invoke(f"{app.id}-child", {"n": 5}))
    assert (run.status, run.output) == ("COMPLETED", {"by": app.id, "doubled": 10})


# What few apps have.


@steps.only("v4", "py-fastapi")
async def streamed(app: SdkApp) -> None:
    sent = await app.client.send({"name": f"{app.id}-streamed/two-steps", "data": {"n": 1}})
    assert (await app.ended(await app.run_of(sent[0]))).output == {"a": {"n": 2}, "b": 3}


@steps.only("v4", "v3", "py-fastapi", "py-flask")
async def encrypted(app: SdkApp) -> None:
    key = app.key()
    events = [{"name": f"{app.id}-secret/hides", "data": {"key": key, "encrypted": {"word": "sesame"}}}]
    (sent,) = await app.ask("/send-secret", events)
    run = await app.ended(await app.run_of(sent))
    assert run.status == "COMPLETED" and run.output["__ENCRYPTED__"] is True
    assert await app.noted(key) == ["sesame and more"]
    trace = await app.client.get_trace(run.id)
    assert "sesame" not in str(trace), "the server saw what it must not"


@steps.only("v4")
async def defers(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("defers", {"key": key})
    assert (run.status, run.output) == ("COMPLETED", "done")
    before, after, deferred = await app.until_noted(key, 3)
    assert (before, after) == ("before", "after")
    assert (deferred["key"], deferred["n"]) == (key, 7)


@steps.only("v4", "v3", "py-fastapi", "py-flask")
async def realtime(app: SdkApp) -> None:
    key = app.key()
    # Python has no subscriber of its own.
    listener = app if app.id in JS else await app.fleet.app("v4")
    await listener.ask("/subscribe", {"channel": f"news-{key}", "topics": ["progress"], "key": key})
    assert await app.result("publishes", {"key": key}) == "published"
    wanted = [{"at": "once"}, {"at": "durably"}] if app.id == "v4" else [{"at": "once"}]
    assert await listener.until_noted(key, len(wanted)) == wanted


@pytest.mark.parametrize("case", steps.cases, ids=str)
async def test_step(case: Case, outcomes: Outcomes) -> None:
    await outcomes.of(case)
