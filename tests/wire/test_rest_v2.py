"""The v2 API: runs, and their traces as trees of spans."""

from __future__ import annotations

import pytest

from perdure import App, Context, on
from perdure.engine.schedule import accept
from perdure.model.event import DEFERRED_SCHEDULE, Event, StoredEvent
from perdure.model.ids import step_hash
from perdure.model.json import Json, encode
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


async def test_the_runs_of_an_event_are_paged(wire: Wire) -> None:
    event_id = (await wire.send({"name": "t/plain"})).json()["ids"][0]
    await wire.node.settle()
    run_id = (await get(wire, f"/v2/events/{event_id}/runs"))["data"][0]["id"]
    # Reruns are runs of the same event.
    for _ in range(2):
        await wire.http.post(f"/v2/runs/{run_id}/rerun")
    found: list[str] = []
    query = "limit=2"
    while True:
        body = await get(wire, f"/v2/events/{event_id}/runs?{query}")
        found += [run["id"] for run in body["data"]]
        if not body["page"].get("hasMore"):
            break
        query = f"limit=2&cursor={body['page']['cursor']}"
    assert len(found) == 3 and found == sorted(found) and found[0] == run_id
    bad = await get(wire, f"/v2/events/{event_id}/runs?cursor=x", 400)
    assert bad["errors"][0]["message"] == "Cursor is invalid"


async def test_scores(wire: Wire) -> None:
    run_id = await wire.start("t/two")
    path = f"/v2/runs/{run_id}/scores"
    scores = [
        {"name": "helpful", "value": 0.5},
        {"name": "kind", "value": True},
        {"name": "a", "value": 1, "stepId": "a"},
    ]
    response = await wire.http.post(path, json=scores)
    assert (response.status_code, response.json()["data"]) == (200, scores)
    span = (await get(wire, f"/v2/runs/{run_id}/trace"))["data"]["rootSpan"]
    assert span["metadata"][0]["values"] == {"helpful": '{"value":0.5}', "kind": '{"value":true}'}
    assert span["children"][0]["metadata"][0]["values"] == {"a": '{"value":1}'}
    for body in (
        {"name": "q", "value": 1},
        [{"name": "", "value": 1}],
        [{"name": "q"}],
        [{"name": "q", "value": 1, "stepId": ""}],
        None,
    ):
        refused = await wire.http.post(path, json=body)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "invalid_field_format")
    missing = await wire.http.post(f"/v2/runs/{UNKNOWN}/scores", json=scores)
    assert missing.status_code == 404


async def test_the_account_and_its_environment(wire: Wire) -> None:
    account = (await get(wire, "/v2/account"))["data"]
    assert account["id"] == "00000000-0000-4000-a000-000000000000" and "@" in account["email"]
    (only,) = (await get(wire, "/api/v2/envs"))["data"]
    assert (only["name"], only["type"]) == ("dev", "TEST")
    for path in ("/v2/keys/events", "/v2/keys/signing"):
        body = await get(wire, path)
        assert (body["data"], body["page"]) == ([], {})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/envs"),
        ("PATCH", "/v2/envs/x"),
        ("POST", "/api/v2/partner/accounts"),
        ("GET", "/v2/sandboxes"),
        ("DELETE", "/v2/sandboxes/1/files"),
        ("GET", "/v2/insights/queries"),
    ],
)
async def test_what_only_the_hosted_service_has(wire: Wire, method: str, path: str) -> None:
    response = await wire.http.request(method, path)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (501, "not_implemented")


async def test_webhooks_are_not_kept(wire: Wire) -> None:
    for method in ("GET", "POST"):
        response = await wire.http.request(method, "/v2/env/webhooks")
        assert response.status_code == 400
        assert response.json()["errors"] == [{"code": "missing_field", "message": "X-Inngest-Env header is required"}]
        response = await wire.http.request(method, "/v2/env/webhooks", headers={"x-inngest-env": "dev"})
        assert (response.status_code, response.json()["errors"][0]["code"]) == (501, "not_implemented")


async def test_a_wrong_method_is_told_the_right_ones(wire: Wire) -> None:
    response = await wire.http.delete("/v2/env/webhooks")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert (await wire.http.head("/v2/runs")).status_code == 200


async def test_fields_that_nobody_reads_are_refused(wire: Wire) -> None:
    run_id = await wire.start("t/two")
    for path, body, field in (
        (f"/v2/runs/{run_id}/rerun", {"from_step": "a"}, "from_step"),
        (f"/v2/runs/{run_id}/rerun", {"fromStep": {"stepId": "a", "inputs": []}}, "fromStep.inputs"),
        (f"/v2/runs/{run_id}/cancel", {"why": 1}, "why"),
        ("/v2/apps/shop/functions/plain/invoke", {"data": {}, "user": {}}, "user"),
        ("/v2/apps/shop/functions/plain/pause", {"until": 1}, "until"),
    ):
        response = await wire.http.post(path, json=body)
        assert response.status_code == 400, response.text
        assert response.json()["errors"][0]["message"].startswith(f"unknown field {field!r}; known are ")


async def test_the_operations(wire: Wire) -> None:
    operations = (await get(wire, "/v2/operations"))["data"]["operations"]
    by_id = {operation["id"]: operation for operation in operations}
    assert by_id["GetFunctionRun"] == {
        "id": "GetFunctionRun",
        "summary": "Get a run",
        "description": "Shows one run: where it stands, its times, and with includeOutput its result.",
        "http": {"method": "GET", "path": "/runs/{run_id}"},
        "cli": {"command": "get-function-run"},
        "mcp": {
            "name": "get_run",
            "title": "Get a run",
            "description": "Shows one run: where it stands, its times, and with includeOutput its result.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "runId": {
                        "type": "string",
                        "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
                        "description": "The id of the run.",
                    },
                    "includeOutput": {
                        "type": "boolean",
                        "description": "Whether to show what went in and came out.",
                    },
                },
                "required": ["runId"],
                "additionalProperties": False,
            },
            "annotations": {
                "readOnlyHint": True,
                "destructiveHint": False,
                "idempotentHint": True,
                "openWorldHint": False,
            },
        },
    }
    assert by_id["CancelRun"]["mcp"]["annotations"]["destructiveHint"] is True
    assert set(by_id["InvokeFunction"]["mcp"]["inputSchema"]["properties"]) == {
        "appId",
        "functionId",
        "data",
        "idempotencyKey",
    }
    # A tool's schema stands alone.
    assert "$ref" not in encode(operations).decode()
    tools = {operation["mcp"]["name"] for operation in operations if "mcp" in operation}
    assert tools >= {
        "health", "get_run", "list_runs", "list_function_runs", "get_event_runs", "rerun", "cancel_run", "get_app",
        "get_apps", "get_run_trace", "get_function", "list_functions", "invoke_function", "send_event",
    }  # fmt: skip


async def test_runs_that_others_deferred(wire: Wire) -> None:
    app = App("later")

    @app.function("tidy", trigger=on(DEFERRED_SCHEDULE, if_="event.data._inngest.fn_slug == 'later-tidy'"))
    async def tidy(ctx: Context) -> None: ...

    await wire.node.register(app)
    other = await wire.start("t/plain")
    now = wire.clock.now()
    event = Event(name=DEFERRED_SCHEDULE, data={"_inngest": {"fn_slug": "later-tidy"}}, id=UNKNOWN, ts=now)
    (deferred,) = await wire.node.decide(accept, StoredEvent(UNKNOWN, event, now, internal=True))
    await wire.node.settle()
    for query, expected in (
        ("isDeferred=true", [deferred]),
        ("isDeferred=false", [other]),
        ("isDeferred=&appId=later", [deferred]),
    ):
        assert [run["id"] for run in (await get(wire, f"/v2/runs?{query}"))["data"]] == expected
    assert (await get(wire, "/v2/runs?isDeferred=perhaps", 400))["errors"][0]["code"] == "invalid_field_format"
