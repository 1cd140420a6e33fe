"""The v1 API: shapes, real statuses, and the v1 envelope for everything that goes wrong."""

from __future__ import annotations

import pytest

from perdure.engine import replays, views
from perdure.model.errors import StoreError
from perdure.model.ids import step_hash
from perdure.model.json import Json
from tests.support.wire import Wire

UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"
NO_ID = "00000000-0000-0000-0000-000000000000"


async def get(wire: Wire, path: str, status: int = 200) -> Json:
    response = await wire.http.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


async def test_an_event_as_listed(wire: Wire) -> None:
    sent = await wire.send({"name": "t/none", "data": {"q": 1}, "id": "mine", "user": {"u": 1}, "v": "2"})
    body = await get(wire, "/v1/events")
    assert body["metadata"]["fetched_at"] == "2027-01-15T08:00:00.000Z"
    assert body["data"] == [
        {
            "internal_id": sent.json()["ids"][0],
            "account_id": NO_ID,
            "environment_id": NO_ID,
            "source": "",
            "source_id": None,
            "received_at": "2027-01-15T08:00:00.000Z",
            "id": "mine",
            "name": "t/none",
            "data": {"q": 1},
            "ts": 1_800_000_000_000,
            "user": {"u": 1},
            "v": "2",
        }
    ]


async def test_events_are_paged_and_filtered(wire: Wire) -> None:
    ids = (await wire.send([{"name": f"t/{n}"} for n in range(30)])).json()["ids"]
    newest_first = ids[::-1]

    async def listed(query: str) -> list[str]:
        return [event["internal_id"] for event in (await get(wire, f"/v1/events?{query}"))["data"]]

    assert await listed("") == newest_first[:20]
    assert await listed("limit=x") == await listed("limit=-1") == await listed("limit=0") == newest_first[:20]
    assert await listed("limit=500") == newest_first
    assert await listed(f"limit=2&cursor={newest_first[4]}") == newest_first[5:7]
    assert await listed("name=t/7") == [ids[7]]
    assert await listed("received_after=2027-01-15T08:00:00Z") == []
    assert await listed("received_before=2027-01-15T08:00:00Z") == []
    assert len(await listed("received_after=2026-01-01T00:00:00Z&limit=3")) == 3


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/events?received_after=garbage", 400, "Invalid received_after query parameter"),
        ("/v1/events?received_before=1", 400, "Invalid received_before query parameter"),
        ("/v1/events?cursor=zzz", 400, "Invalid cursor query parameter"),
        ("/v1/events/zzz", 400, "Invalid event ID: zzz"),
        (f"/v1/events/{UNKNOWN}", 404, "Event not found"),
        ("/v1/events/zzz/runs", 400, "Invalid event ID: zzz"),
        ("/v1/runs/zzz", 400, "Invalid run ID: zzz"),
        (f"/v1/runs/{UNKNOWN}", 404, f"Unable to load function run: {UNKNOWN}"),
        ("/v1/runs/zzz/jobs", 400, "Invalid run ID: zzz"),
        ("/v1/nope", 404, "Not Found"),
        ("/nope", 404, "Not Found"),
        ("/v1/runs/zzz/cancel", 405, "Method Not Allowed"),
    ],
)
async def test_errors_have_their_status_and_the_envelope(wire: Wire, path: str, status: int, error: str) -> None:
    body = await get(wire, path, status)
    assert body["error"].startswith(error)
    assert (body["status"], body["data"]) == (status, None)


async def test_internal_events_are_not_listed(wire: Wire) -> None:
    await wire.node.trigger("shop-plain", {"a": 1})
    assert (await get(wire, "/v1/events"))["data"] == []
    assert (await get(wire, "/v1/events?name=inngest/function.invoked"))["data"] == []


async def test_a_completed_run(wire: Wire) -> None:
    run_id = await wire.start("t/plain", {"k": [1]})
    run = (await get(wire, f"/v1/runs/{run_id}"))["data"]
    event_id = run.pop("event_id")
    assert run == {
        "run_id": run_id,
        "run_started_at": "2027-01-15T08:00:00.000Z",
        "function_id": "8b523cd9-16ce-5419-8613-04cbc072ae56",
        "function_version": 1,
        "environment_id": "00000000-0000-4000-b000-000000000000",
        "status": "Completed",
        "ended_at": "2027-01-15T08:00:00.000Z",
        "output": {"got": {"k": [1]}},
    }
    of_event = (await get(wire, f"/v1/events/{event_id}/runs"))["data"]
    assert [each["run_id"] for each in of_event] == [run_id]
    assert (await get(wire, f"/v1/events/{UNKNOWN}/runs"))["data"] == []


async def test_a_failed_run_has_its_error_as_output(wire: Wire) -> None:
    run_id = await wire.start("t/boom")
    await wire.clock.advance("1h")
    run = (await get(wire, f"/v1/runs/{run_id}"))["data"]
    assert run["status"] == "Failed"
    assert (run["output"]["name"], run["output"]["message"]) == ("ValueError", "boom")


async def test_the_jobs_of_a_waiting_run(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    jobs = (await get(wire, f"/v1/runs/{run_id}/jobs"))["data"]
    assert [job["kind"] for job in jobs] == ["run", "sleep"]
    assert jobs[1]["at"] == "2027-01-15T08:00:10.000Z"
    assert set(jobs[1]) == {"JobID", "at", "position", "kind", "attempt", "Raw"}
    assert (await get(wire, f"/v1/runs/{UNKNOWN}/jobs"))["data"] == []


async def test_runs_are_cancelled_once_and_for_all(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    response = await wire.http.post(f"/v1/runs/{run_id}/cancel")
    assert response.status_code == 200
    assert response.json()["data"] == {"run_id": run_id, "status": "Cancelled"}
    assert (await get(wire, f"/v1/runs/{run_id}"))["data"]["status"] == "Cancelled"
    again = await wire.http.delete(f"/v1/runs/{run_id}")
    assert (again.status_code, again.content) == (200, b"")
    ended = await wire.start("t/plain")
    assert (await wire.http.post(f"/v1/runs/{ended}/cancel")).json()["data"]["status"] == "Completed"


@pytest.mark.parametrize(("run_id", "status"), [("zzz", 400), (UNKNOWN, 404)])
async def test_a_run_that_is_not_there_cannot_be_cancelled(wire: Wire, run_id: str, status: int) -> None:
    for response in (
        await wire.http.delete(f"/v1/runs/{run_id}"),
        await wire.http.post(f"/v1/runs/{run_id}/cancel"),
    ):
        assert response.status_code == response.json()["status"] == status
        assert run_id in response.json()["error"]


async def test_runs_are_cancelled_in_bulk(wire: Wire) -> None:
    kept = await wire.start("t/wait", {"k": 1})
    await wire.clock.advance("1s")
    gone = await wire.start("t/wait", {"k": 2})
    body = {
        "app_id": "shop",
        "function_id": "waiter",
        "started_after": "2027-01-15T08:00:00Z",
        "if": "event.data.k == 2",
    }
    response = await wire.http.post("/v1/cancellations", json=body)
    data = response.json()["data"]
    assert response.status_code == 200
    assert (data["function_id"], data["cancelled"], data["if"]) == ("shop-waiter", 1, "event.data.k == 2")
    statuses = [(await get(wire, f"/v1/runs/{run_id}"))["data"]["status"] for run_id in (kept, gone)]
    assert statuses == ["Running", "Cancelled"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "function_id is required"),
        ({"function_id": "nope"}, 404, "Function not found: nope"),
        ({"function_id": 5}, 400, "function_id must be a string"),
        ({"function_id": "waiter", "started_before": "2030-01-01T00:00:00Z"}, 400, "started_before must be in"),
        ({"function_id": "waiter", "started_after": "soon"}, 400, "started_after: "),
        ({"function_id": "waiter", "if": "event.data.("}, 400, "if: "),
        ([], 400, "request body must be a JSON object"),
    ],
)
async def test_a_bulk_cancellation_says_what_is_wrong(wire: Wire, body: object, status: int, error: str) -> None:
    response = await wire.http.post("/v1/cancellations", json=body)
    assert response.status_code == status, response.text
    assert response.json()["error"].startswith(error)


async def test_the_functions(wire: Wire) -> None:
    functions = {each["id"]: each for each in (await get(wire, "/v1/functions"))["data"]}
    assert set(functions) == {f"shop-{name}" for name in ("plain", "two", "waiter", "flaky", "boom", "tick")}
    waiter = functions["shop-waiter"]
    assert set(waiter) == {
        "internal_id",
        "env_id",
        "app_id",
        "id",
        "name",
        "config",
        "created_at",
        "archived_at",
    }
    assert waiter["config"]["triggers"] == [{"event": "t/wait"}]
    assert waiter["config"]["concurrency"] == [{"limit": 3}]
    assert waiter["archived_at"] == "0001-01-01T00:00:00Z"
    assert functions["shop-flaky"]["config"]["steps"][0]["retries"] == 2
    assert {each["id"] for each in await get(wire, "/v1/apps/shop/functions")} == set(functions)
    assert await get(wire, "/v1/apps/nope/functions") == []


@pytest.mark.only_sqlite("its nodes go by the clock of the test")
async def test_health_and_doctor(wire: Wire) -> None:
    for path in ("/health", "/health/"):
        assert await get(wire, path) == {"status": 200, "message": "OK"}
    await wire.start("t/wait")
    found = (await get(wire, "/v1/doctor"))["data"]
    assert found["runs"]["running"] == 1 and found["resident"] == {"active": 0, "parked": 1}
    assert found["orphans"] == found["leaked_slots"] == []
    assert found["cluster"] == {
        "nodes": [{"id": wire.node.id, "alive": True, "leases": 0}],
        "lag_ms": 0,
        "abandoned": 0,
        "set_aside": [],
        "queues": [],
    }


@pytest.mark.only_sqlite("its nodes go by the clock of the test")
async def test_metrics(wire: Wire) -> None:
    await wire.start("t/wait")
    await wire.send([{"name": "x"}, {}])
    response = await wire.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    for line in (
        'perdure_events_total{outcome="accepted"} 1.0',
        'perdure_events_total{outcome="refused"} 2.0',
        'perdure_runs{status="running"} 1.0',
        'perdure_jobs{state="scheduled"} 1.0',
        'perdure_resident_runs{state="parked"} 1.0',
        'perdure_http_requests_total{area="/e",method="POST",status="200"} 1.0',
        "perdure_orphan_runs 0.0",
        "perdure_ingest_seconds_count 2.0",
        'perdure_nodes{state="alive"} 1.0',
        f'perdure_leases{{node="{wire.node.id}"}} 0.0',
        f'perdure_node_info{{node="{wire.node.id}"}} 1.0',
        "perdure_lag_seconds 0.0",
    ):
        assert line in lines, line


async def test_a_store_that_cannot_answer(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*args: object) -> None:
        raise StoreError("damaged")

    monkeypatch.setattr(wire.node, "view", failing)
    response = await wire.http.get("/v1/events")
    assert response.status_code == response.json()["status"] == 503


async def test_what_nobody_expected_is_not_told(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(wire.node, "view", broken)
    response = await wire.http.get("/v1/events")
    assert response.json() == {"error": "internal server error", "data": None, "status": 500}
    response = await wire.http.get("/v2/runs")
    assert response.json() == {"errors": [{"code": "internal_error", "message": "internal server error"}]}
    assert response.status_code == 500 and caplog.text.count("failed unexpectedly") == 2 and "a secret" in caplog.text


async def test_a_wrong_method_is_told_the_right_ones(wire: Wire) -> None:
    response = await wire.http.patch(f"/v1/runs/{UNKNOWN}")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}


async def test_the_server_can_be_mounted(wire: Wire) -> None:
    import httpx2
    from starlette.applications import Starlette
    from starlette.routing import Mount

    outer = Starlette(routes=[Mount("/perdure", wire.node.asgi())])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(outer), base_url="http://x/perdure") as http:
        assert (await http.post("/e/key", json={"name": "x"})).status_code == 200
        assert len((await http.get("/v1/events")).json()["data"]) == 1
        assert (await http.get("/v2/nope")).json() == {"errors": [{"code": "api_error", "message": "Not Found"}]}


async def test_runs_are_listed(wire: Wire) -> None:
    plain = [await wire.start("t/plain", {"n": n}) for n in range(3)]
    waiting = await wire.start("t/wait")

    async def listed(query: str) -> list[str]:
        return [run["run_id"] for run in (await get(wire, f"/v1/runs?{query}"))["data"]]

    first = await get(wire, "/v1/runs?limit=2")
    assert [run["run_id"] for run in first["data"]] == [waiting, plain[2]]
    assert first["data"][1]["output"] == {"got": {"n": 2}}
    assert first["page"] == {"cursor": plain[2], "hasMore": True, "limit": 2}
    assert await listed(f"cursor={first['page']['cursor']}") == [plain[1], plain[0]]
    assert await listed("status=running&order=ASC") == await listed("function_id=waiter") == [waiting]
    assert await listed("app_id=shop&function_id=plain&order=asc") == plain
    assert await listed("app_id=other") == await listed("from=2030-01-01T00:00:00Z") == []
    assert (await get(wire, "/v1/runs?status=ODD", 400))["error"] == "Status is invalid"


async def test_cancellations_in_bulk_are_kept(wire: Wire) -> None:
    orders: list[Json] = []
    for _ in range(3):
        response = await wire.http.post("/v1/cancellations", json={"function_id": "waiter", "if": "event.data.k == 1"})
        orders.append(response.json()["data"])
        await wire.clock.advance("1s")
    assert (await get(wire, "/v1/cancellations"))["data"] == orders[::-1]
    assert orders[0]["created_at"] == orders[0]["started_before"] == "2027-01-15T08:00:00.000Z"
    following = await get(wire, f"/v1/cancellations?limit=1&cursor={orders[1]['id']}")
    assert following["data"] == [orders[0]]
    gone = await wire.http.delete(f"/v1/cancellations/{orders[1]['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await get(wire, "/v1/cancellations"))["data"] == [orders[2], orders[0]]
    again = await wire.http.delete(f"/v1/cancellations/{orders[1]['id']}")
    assert again.status_code == again.json()["status"] == 404
    assert (await wire.http.delete("/v1/cancellations/zzz")).json()["error"] == "Invalid cancellation ID: zzz"
    assert (await get(wire, "/v1/cancellations?cursor=x", 400))["error"] == "Invalid cursor query parameter"


def note(kind: str, op: str | None = None, **values: Json) -> Json:
    return {"kind": kind, "values": values} | ({"op": op} if op else {})


async def test_metadata_is_shown_in_the_trace(wire: Wire) -> None:
    run_id = await wire.start("t/flaky")

    async def attach(*notes: Json, **target: Json) -> None:
        response = await wire.http.post(f"/v1/runs/{run_id}/metadata", json={"target": target, "metadata": list(notes)})
        assert (response.status_code, response.content) == (200, b"")

    async def spans() -> Json:
        return (await get(wire, f"/v2/runs/{run_id}/trace"))["data"]["rootSpan"]

    await attach(note("userland.x", a=1, b="two"))
    await attach(note("userland.x", a={"n": [1]}), note("userland.y", z=None))
    assert (await spans())["metadata"] == [
        {
            "scope": "run",
            "kind": "userland.x",
            "values": {"a": '{"n":[1]}', "b": "two"},
            "updatedAt": "2027-01-15T08:00:00.000Z",
        },
        {"scope": "run", "kind": "userland.y", "values": {"z": "null"}, "updatedAt": "2027-01-15T08:00:00.000Z"},
    ]
    await wire.clock.advance("10s")
    attempt = (await spans())["children"][0]["children"][0]["id"]
    await attach(note("userland.step", n=1), step_id="try", step_index=0, step_attempt=1)
    await attach(note("userland.step", m=2), step_id=step_hash("try"))
    await attach(note("userland.attempt", n=2), span_id=attempt)
    root = await spans()
    assert root["children"][0]["metadata"][0]["values"] == {"n": "1", "m": "2"}
    assert root["children"][0]["metadata"][0]["scope"] == "step"
    assert root["children"][0]["children"][0]["metadata"][0]["kind"] == "userland.attempt"
    await attach(note("userland.x", "delete", a=None), note("userland.y", "set", only=1))
    assert [each["values"] for each in (await spans())["metadata"]] == [{"b": "two"}, {"only": "1"}]
    await attach({**note("userland.z", of="run"), "scope": "run"}, step_id="try")
    assert [each["values"] for each in (await spans())["metadata"]] == [{"b": "two"}, {"only": "1"}, {"of": "run"}]
    nowhere = {"target": {"step_id": "no such step"}, "metadata": [note("userland.x", a=1)]}
    response = await wire.http.post(f"/v1/runs/{run_id}/metadata", json=nowhere)
    # SDKs hand this text on to those who score a step.
    assert (response.status_code, response.json()["error"]) == (404, "Unable to find metadata target")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "request body: Object missing required field `metadata`"),
        ([], 400, "request body: "),
        ({"metadata": [note("k")], "target": {"step_index": -1}}, 400, "step_index must not be negative"),
        ({"metadata": [note("")]}, 400, "metadata kind and scope must have 1 to 128 characters"),
        ({"metadata": [note("k", "grow")]}, 400, "request body: Invalid enum value 'grow'"),
        ({"metadata": [note("k", x="x" * 66_000)]}, 413, "the metadata of one target is limited to 65536 bytes"),
        ({"metadata": [note("k", x="x" * 3_000_000)]}, 413, "request body is larger than"),
    ],
)
async def test_metadata_that_is_refused(wire: Wire, body: Json, status: int, error: str) -> None:
    run_id = await wire.start("t/plain")
    response = await wire.http.post(f"/v1/runs/{run_id}/metadata", json=body)
    assert response.status_code == response.json()["status"] == status
    assert response.json()["error"].startswith(error)
    assert "metadata" not in (await get(wire, f"/v2/runs/{run_id}/trace"))["data"]["rootSpan"]


async def test_the_metadata_of_a_run_is_limited(wire: Wire) -> None:
    run_id = await wire.start("t/plain")
    statuses = [
        (
            await wire.http.post(
                f"/v1/runs/{run_id}/metadata",
                json={"target": {"span_id": f"s{n}"}, "metadata": [note("k", x="x" * 65_000)]},
            )
        ).status_code
        for n in range(17)
    ]
    assert statuses == [200] * 16 + [413]
    missing = await wire.http.post(f"/v1/runs/{UNKNOWN}/metadata", json={"metadata": []})
    assert (missing.status_code, missing.json()["error"]) == (404, f"Unable to load function run: {UNKNOWN}")


async def test_traces_of_apps_are_taken(wire: Wire) -> None:
    response = await wire.http.post("/v1/traces/userland", content=b"\x0a\x00 protobuf, for all we know")
    assert (response.status_code, response.json()) == (200, {})


async def test_what_only_the_hosted_service_has(wire: Wire) -> None:
    assert (await get(wire, "/v1/prom/dev", 501))["status"] == 501
    for path in ("/v1/webhooks", "/v1/webhooks/x"):
        assert (await get(wire, path, 404))["error"] == "Not Found"


async def test_orders_and_metadata_go_with_time(wire: Wire) -> None:
    run_id = await wire.start("t/plain")
    await wire.http.post(f"/v1/runs/{run_id}/metadata", json={"metadata": [note("k", x=1)]})
    await wire.http.post("/v1/cancellations", json={"function_id": "waiter"})
    await wire.node.replay("shop-plain", id="monday")
    await wire.clock.advance("29d")
    await wire.node.sweeper.collect()
    await get(wire, f"/v1/runs/{run_id}", 404)
    assert await wire.node.view(lambda: views.metadata_of_run(run_id)) == []
    assert len((await get(wire, "/v1/cancellations"))["data"]) == 1
    assert await wire.node.view(lambda: replays.find("monday")) is not None
    await wire.clock.advance("2d")
    await wire.node.sweeper.collect()
    assert (await get(wire, "/v1/cancellations"))["data"] == []
    assert await wire.node.view(lambda: replays.find("monday")) is None
