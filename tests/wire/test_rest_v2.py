"""The v2 API: runs, and their traces as trees of spans."""

from __future__ import annotations

import pytest

from perdure.model.ids import step_hash
from perdure.model.json import Json
from tests.support.wire import Wire

UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"


async def get(wire: Wire, path: str, status: int = 200) -> Json:
    response = await wire.http.get(path)
    assert response.status_code == status, response.text
    return response.json()


async def root(wire: Wire, run_id: str) -> Json:
    body = await get(wire, f"/v2/runs/{run_id}/trace?includeOutput=true")
    assert body["data"]["runId"] == run_id
    return body["data"]["rootSpan"]


async def test_health(wire: Wire) -> None:
    for prefix in ("/v2", "/api/v2"):
        body = await get(wire, f"{prefix}/health")
        assert body == {"data": {"status": "ok"}, "metadata": {"fetchedAt": "2027-01-15T08:00:00.000Z"}}


async def test_a_run(wire: Wire) -> None:
    run_id = await wire.start("t/plain", {"k": 1})
    run = (await get(wire, f"/v2/runs/{run_id}"))["data"]
    event_ids = run.pop("trigger")["eventIds"]
    assert run == {
        "id": run_id,
        "status": "COMPLETED",
        "function": {"id": "plain", "name": "A plain function"},
        "app": {"id": "shop"},
        "queuedAt": "2027-01-15T08:00:00.000Z",
        "startedAt": "2027-01-15T08:00:00.000Z",
        "endedAt": "2027-01-15T08:00:00.000Z",
        "durationMs": "0",
    }
    assert (await get(wire, f"/v1/events/{event_ids[0]}/runs"))["data"][0]["run_id"] == run_id
    shown = (await get(wire, f"/api/v2/runs/{run_id}?includeOutput=true"))["data"]
    assert shown["output"] == {"got": {"k": 1}}


async def test_a_batch_run_names_all_its_events(wire: Wire) -> None:
    ids = (await wire.send([{"name": "t/batched"}, {"name": "t/batched"}])).json()["ids"]
    await wire.node.settle()
    (run,) = (await get(wire, "/v2/runs?includeOutput=true"))["data"]
    assert run["trigger"]["eventIds"] == ids and run["trigger"]["isBatch"] is True
    assert run["output"] == 2


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("/v2/runs/zzz", 400, "invalid_field_format", "Run ID must be a valid ULID"),
        (f"/v2/runs/{UNKNOWN}", 404, "not_found", "Run not found"),
        ("/v2/runs/zzz/trace", 400, "invalid_field_format", "Run ID must be a valid ULID"),
        (f"/v2/runs/{UNKNOWN}/trace", 404, "not_found", "Trace not found"),
        ("/v2/runs?limit=1000", 400, "invalid_field_format", "Limit cannot exceed 100"),
        ("/v2/runs?limit=x", 400, "invalid_field_format", "Limit must be a whole number"),
        ("/v2/runs?cursor=x", 400, "invalid_field_format", "Cursor is invalid"),
        ("/v2/runs?status=ODD", 400, "invalid_field_format", "Status is invalid"),
        ("/v2/runs?includeOutput=maybe", 400, "invalid_field_format", "includeOutput must be true or false"),
        ("/v2/nope", 404, "api_error", "Not Found"),
        (f"/v2/runs/{UNKNOWN}/cancel", 405, "api_error", "Method Not Allowed"),
    ],
)
async def test_errors(wire: Wire, path: str, status: int, code: str, message: str) -> None:
    for prefix in ("", "/api"):
        body = await get(wire, prefix + path, status)
        assert body == {"errors": [{"code": code, "message": message}]}


async def test_runs_are_paged_and_filtered(wire: Wire) -> None:
    plain = [await wire.start("t/plain", {"n": n}) for n in range(3)]
    waiting = await wire.start("t/wait")

    async def listed(query: str) -> list[str]:
        return [run["id"] for run in (await get(wire, f"/v2/runs?{query}"))["data"]]

    first = await get(wire, "/v2/runs?limit=3")
    assert [run["id"] for run in first["data"]] == [waiting, plain[2], plain[1]]
    assert first["page"]["hasMore"] is True and first["page"]["limit"] == 3
    assert await listed(f"limit=3&cursor={first['page']['cursor']}") == [plain[0]]
    assert (await get(wire, "/v2/runs?limit=0"))["page"] == {"limit": 20}
    assert await listed("status=RUNNING") == await listed("status=running&status=failed") == [waiting]
    assert await listed("functionId=waiter") == await listed("functionId=shop-waiter") == [waiting]
    assert len(await listed("functionId=waiter&functionId=plain")) == 4
    assert await listed("appId=other") == await listed("functionId=nope") == []
    assert len(await listed("appId=shop")) == 4
    assert "output" not in first["data"][1]


async def test_cancelling(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    first = await wire.http.post(f"/v2/runs/{run_id}/cancel", json={})
    assert (first.status_code, first.json()["data"]) == (200, {"runId": run_id})
    again = await wire.http.post(f"/v2/runs/{run_id}/cancel")
    assert again.status_code == 409 and again.json()["errors"][0]["code"] == "run_already_cancelled"
    ended = await wire.http.post(f"/v2/runs/{await wire.start('t/plain')}/cancel")
    assert ended.status_code == 409 and ended.json()["errors"][0]["code"] == "run_already_ended"
    assert (await wire.http.post(f"/v2/runs/{UNKNOWN}/cancel")).status_code == 404


async def test_the_trace_of_steps(wire: Wire) -> None:
    run_id = await wire.start("t/two", {"q": 1})
    span = await root(wire, run_id)
    assert (span["name"], span["status"], span["output"]) == ("Run", "COMPLETED", {"a": 1, "b": 2})
    assert span["input"]["data"][0]["name"] == "t/two" and "user" not in span["input"]["data"][0]
    assert [
        (child["name"], child["status"], child["stepOp"], child["stepId"], child["output"])
        for child in span["children"]
    ] == [("a", "COMPLETED", "RUN", step_hash("a"), 1), ("b", "COMPLETED", "RUN", step_hash("b"), 2)]
    assert all("children" not in child for child in span["children"])
    assert await root(wire, run_id) == span
    ids = {span["id"], *(child["id"] for child in span["children"])}
    assert len(ids) == 3 and all(len(each) == 16 for each in ids)
    bare = (await get(wire, f"/v2/runs/{run_id}/trace"))["data"]["rootSpan"]
    assert "input" not in bare and "output" not in bare and "output" not in bare["children"][0]


async def test_the_trace_of_a_retried_step(wire: Wire) -> None:
    run_id = await wire.start("t/flaky")
    assert (await root(wire, run_id))["children"][0]["status"] == "RUNNING"
    await wire.clock.advance("10s")
    (step,) = (await root(wire, run_id))["children"]
    assert (step["status"], step["output"], step["durationMs"]) == ("COMPLETED", "at last", "5000")
    assert [(each["name"], each["status"]) for each in step["children"]] == [
        ("Attempt 0", "FAILED"),
        ("Attempt 1", "COMPLETED"),
    ]
    assert step["children"][0]["output"]["message"] == "not yet"
    assert step["children"][1]["queuedAt"] == "2027-01-15T08:00:00.000Z"
    assert step["children"][1]["startedAt"] == "2027-01-15T08:00:05.000Z"


async def test_the_trace_of_a_handler_that_fails(wire: Wire) -> None:
    run_id = await wire.start("t/boom")
    (final,) = (await root(wire, run_id))["children"]
    assert (final["name"], final["status"]) == ("Finalization", "RUNNING")
    await wire.clock.advance("1h")
    (final,) = (await root(wire, run_id))["children"]
    assert (final["name"], final["status"]) == ("Finalization", "FAILED")
    assert [(each["name"], each["status"]) for each in final["children"]] == [
        ("Attempt 0", "FAILED"),
        ("Attempt 1", "FAILED"),
    ]
    assert final["output"]["message"] == final["children"][1]["output"]["message"] == "boom"


async def test_the_trace_of_waits_and_of_their_cancellation(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    await wire.clock.advance("10s")
    span = await root(wire, run_id)
    nap, approval = span["children"]
    assert (span["status"], "endedAt" in span) == ("RUNNING", False)
    assert (nap["stepOp"], nap["status"], nap["durationMs"]) == ("SLEEP", "COMPLETED", "10000")
    assert (approval["stepOp"], approval["status"], "endedAt" in approval) == ("WAIT_FOR_EVENT", "WAITING", False)
    await wire.http.post(f"/v1/runs/{run_id}/cancel")
    span = await root(wire, run_id)
    assert (span["status"], span["children"][1]["status"]) == ("CANCELLED", "CANCELLED")
    assert span["children"][1]["endedAt"] == span["endedAt"]


async def test_an_event_that_was_waited_for_is_the_output(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    await wire.clock.advance("10s")
    await wire.send({"name": "t/approved", "data": {"by": "me"}})
    await wire.node.settle()
    approval = (await root(wire, run_id))["children"][1]
    assert approval["status"] == "COMPLETED" and approval["output"]["data"] == {"by": "me"}
