"""Operating runs and functions over HTTP: signals, invoke, rerun, pause, and what v2 shows of apps and functions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from perdure import (
    App,
    BatchEvents,
    CancelOn,
    Concurrency,
    Context,
    Cron,
    Debounce,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    embedded,
    on,
    step,
)
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.server import make_app
from perdure.testing import VirtualClock
from tests.support.wire import Wire

UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"


def operated() -> list[App]:
    app, other = App("shop"), App("books")

    @app.function("echo", trigger="t/echo", name="An echo")
    async def echo(ctx: Context) -> Json:
        return {"data": ctx.event.data, "user": ctx.event.user, "name": ctx.event.name}

    @app.function("two", trigger="t/two")
    async def two(ctx: Context) -> list[int]:
        return [await step.run("a", lambda: 1), await step.run("b", lambda: 2)]

    @app.function("bell", trigger="t/bell")
    async def bell(ctx: Context) -> Json:
        signal = await step.wait_for_signal("wait", signal="bell", timeout="1d")
        return signal.data if signal else None

    @app.function("late", trigger="t/late", debounce=Debounce("10s", timeout="1m", key="event.data.k"))
    async def late(ctx: Context) -> None: ...

    @app.function("rare", trigger="t/rare", rate_limit=RateLimit(1, "24h", key="event.data.k"))
    async def rare(ctx: Context) -> None: ...

    @app.function("sole", trigger="t/sole", singleton=Singleton("event.data.k"))
    async def sole(ctx: Context) -> None:
        await step.sleep("nap", "1h")

    @app.function("lots", trigger="t/lots", batch_events=BatchEvents(5, "30s", if_="event.data.k != 0"))
    async def lots(ctx: Context) -> None: ...

    @app.function(
        "flow",
        trigger=[on("t/flow", if_="event.data.go == true"), Cron("0 0 1 1 *")],
        retries=5,
        concurrency=[Concurrency(2, key="event.data.k", scope="env"), Concurrency(3)],
        throttle=Throttle(5, "10s", burst=2, key="event.data.k"),
        priority=Priority("event.data.p"),
        cancel_on=[CancelOn("t/stop", match="data.k", timeout="1h")],
        timeouts=Timeouts(start="1d"),
        idempotency="event.data.idk",
    )
    async def flow(ctx: Context) -> None: ...

    @other.function("echo", trigger="t/other")
    async def echo_of_books(ctx: Context) -> None: ...

    return [app, other]


@pytest.fixture
async def wire() -> AsyncGenerator[Wire, None]:
    clock = VirtualClock()
    async with embedded(operated(), db=":memory:", clock=clock) as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Wire(node, clock, http)


async def get(wire: Wire, path: str, status: int = 200) -> Json:
    response = await wire.http.get(path)
    assert response.status_code == status, response.text
    return response.json()


async def post(wire: Wire, path: str, body: Any = None, status: int = 200) -> Json:
    response = await wire.http.post(path, json={} if body is None else body)
    assert response.status_code == status, response.text
    await wire.node.settle()
    return response.json()


async def output(wire: Wire, run_id: str) -> Json:
    return (await get(wire, f"/v2/runs/{run_id}?includeOutput=true"))["data"].get("output")


def error(body: Json) -> tuple[str, str]:
    (only,) = body["errors"]
    return only["code"], only["message"]


# Signals.


async def test_a_signal(wire: Wire) -> None:
    run_id = await wire.start("t/bell")
    body = await post(wire, "/v1/signals", {"signal": "bell", "data": [1, {"a": None}]})
    assert body == {"data": {"run_id": run_id}, "metadata": {"fetched_at": "2027-01-15T08:00:00.000Z"}}
    assert await output(wire, run_id) == [1, {"a": None}]
    nobody = await post(wire, "/v1/signals", {"signal": "bell"}, 404)
    assert nobody == {"error": "No signal found", "data": None, "status": 404}


@pytest.mark.parametrize("body", [{}, {"signal": ""}, {"signal": 7}, {"data": 1}, [{"signal": "x"}]])
async def test_a_signal_without_a_name(wire: Wire, body: Json) -> None:
    answer = await post(wire, "/v1/signals", body, 400)
    assert answer["status"] == 400 and ("signal" in answer["error"] or "object" in answer["error"])


# Invoke.


async def test_invoking_by_slug(wire: Wire) -> None:
    answer = await post(wire, "/invoke/shop-echo", {"data": {"k": 1, "_inngest": {}}, "user": {"id": 7}, "name": "x"})
    assert answer["status"] == 200
    (run,) = (await get(wire, f"/v1/events/{answer['id']}/runs"))["data"]
    assert run["output"] == {"data": {"k": 1}, "user": {"id": 7}, "name": "inngest/function.invoked"}
    empty = await wire.http.post("/invoke/shop-echo")
    assert empty.status_code == 200
    waits = await post(wire, "/invoke/shop-late", {"data": {"k": 1}})
    await wire.clock.advance("10s")
    assert len((await get(wire, f"/v1/events/{waits['id']}/runs"))["data"]) == 1
    once = [await post(wire, "/invoke/shop-echo", {"id": "one"}) for _ in range(2)]
    assert once[0] == once[1]


async def test_invoking_by_slug_what_cannot_be(wire: Wire) -> None:
    assert (await post(wire, "/invoke/shop-nope", {}, 404))["error"] == "Function not found: shop-nope"
    assert (await post(wire, "/invoke/shop-echo", {"data": [1]}, 400))["error"] == (
        "event data must be an object, got an array"
    )
    assert "JSON object" in (await post(wire, "/invoke/shop-echo", [{}], 400))["error"]
    await post(wire, "/invoke/shop-rare", {"data": {"k": 1}})
    assert (await post(wire, "/invoke/shop-rare", {"data": {"k": 1}}, 422))["status"] == 422
    await post(wire, "/v2/apps/shop/functions/echo/pause")
    assert "paused" in (await post(wire, "/invoke/shop-echo", {}, 422))["error"]


@pytest.mark.parametrize("path", ["/v2/apps/shop/functions/echo", "/api/v2/apps/shop/functions/shop-echo"])
async def test_invoking_a_function_of_an_app(wire: Wire, path: str) -> None:
    answer = await post(wire, f"{path}/invoke", {"data": {"x": 1}, "idempotencyKey": "k1"})
    run_id = answer["data"]["runId"]
    assert set(answer["metadata"]) == {"fetchedAt"}
    assert (await output(wire, run_id))["data"] == {"x": 1}
    again = await post(wire, f"{path}/invoke", {"data": {"x": 2}, "idempotencyKey": "k1"}, 409)
    assert again["data"] == {"runId": run_id}
    other = await post(wire, f"{path}/invoke", {"data": {"x": 2}, "idempotencyKey": "k2"})
    assert other["data"]["runId"] != run_id


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "message"),
    [
        ("shop/functions/echo", {}, 400, "missing_field", "Input data is required"),
        ("shop/functions/echo", {"data": None}, 400, "missing_field", "Input data is required"),
        (
            "shop/functions/echo",
            {"data": [1]},
            400,
            "invalid_field_format",
            "event data must be an object, got an array",
        ),
        (
            "shop/functions/echo",
            {"data": {}, "idempotencyKey": 1},
            400,
            "invalid_field_format",
            "idempotencyKey must be a string",
        ),
        ("shop/functions/nope", {"data": {}}, 404, "not_found", "Function not found"),
        ("nope/functions/echo", {"data": {}}, 404, "not_found", "Function not found"),
        ("shop/functions/late", {"data": {}}, 422, "function_debounced", "Function invocation was debounced."),
        ("shop/functions/lots", {"data": {}}, 422, "function_batched", "Function invocation waits for its batch."),
    ],
)
async def test_an_invocation_that_is_refused(
    wire: Wire, path: str, body: Json, status: int, code: str, message: str
) -> None:
    assert error(await post(wire, f"/v2/apps/{path}/invoke", body, status)) == (code, message)


async def test_an_invocation_that_flow_control_refuses_the_second_time(wire: Wire) -> None:
    for name, code in (("rare", "rate_limited"), ("sole", "function_skipped")):
        await post(wire, f"/v2/apps/shop/functions/{name}/invoke", {"data": {"k": 1}})
        refused = await post(wire, f"/v2/apps/shop/functions/{name}/invoke", {"data": {"k": 1}}, 422)
        assert error(refused)[0] == code


async def test_a_repeated_key_of_a_debounced_function_names_no_run_yet(wire: Wire) -> None:
    path, body = "/v2/apps/shop/functions/late/invoke", {"data": {}, "idempotencyKey": "k"}
    assert error(await post(wire, path, body, 422))[0] == "function_debounced"
    assert error(await post(wire, path, body, 409))[0] == "duplicate"
    await wire.clock.advance("10s")
    assert "runId" in (await post(wire, path, body, 409))["data"]


# Events of v2.


async def test_an_event(wire: Wire) -> None:
    body = {"name": "t/echo", "data": {"a": 1}, "user": {"id": 1}, "id": "abc", "ts": str(wire.clock.now() - 5)}
    event_id = (await post(wire, "/v2/events", body))["data"]["eventId"]
    stored = (await get(wire, f"/v1/events/{event_id}"))["data"]
    assert (stored["id"], stored["ts"], stored["user"]) == ("abc", wire.clock.now() - 5, {"id": 1})
    runs = await get(wire, f"/v2/events/{event_id}/runs?includeOutput=true")
    assert runs["page"] == {"limit": 20}
    assert [run["output"]["data"] for run in runs["data"]] == [{"a": 1}]


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"data": {}}, "missing_field", "Event name is required"),
        ({"name": "inngest/x"}, "invalid_field_format", "event name is reserved for internal use: inngest/x"),
        ({"name": "x", "ts": "soon"}, "invalid_field_format", "ts must be a whole number of milliseconds"),
        ({"name": "x", "ts": "1"}, "invalid_field_format", "timestamp is before Jan 1, 1980"),
        ({"name": "x", "bogus": 1}, "api_error", "unknown field 'bogus'; known are data, id, name, ts, user, v"),
        ([{"name": "x"}], "api_error", "request body must be a JSON object"),
    ],
)
async def test_a_malformed_event(wire: Wire, body: Json, code: str, message: str) -> None:
    assert error(await post(wire, "/api/v2/events", body, 400)) == (code, message)
    assert await wire.stored_events() == 0


async def test_the_runs_of_an_event_that_is_not_known(wire: Wire) -> None:
    assert (await get(wire, f"/v2/events/{UNKNOWN}/runs"))["data"] == []
    assert error(await get(wire, "/v2/events/zzz/runs", 400)) == (
        "invalid_field_format",
        "Event ID must be a valid ULID",
    )
    assert error(await get(wire, f"/v2/events/{UNKNOWN}/runs?limit=41", 400))[1] == "Limit cannot exceed 40"


# Rerun.


async def test_a_rerun(wire: Wire) -> None:
    run_id = await wire.start("t/two", {"k": 1})
    again = (await post(wire, f"/v2/runs/{run_id}/rerun"))["data"]["runId"]
    assert await output(wire, again) == [1, 2]
    assert (await get(wire, f"/v1/runs/{again}"))["data"]["original_run_id"] == run_id
    for chosen in ("b", step_hash("b")):
        partial = (await post(wire, f"/api/v2/runs/{run_id}/rerun", {"fromStep": {"stepId": chosen}}))["data"]["runId"]
        assert await output(wire, partial) == [1, 2]
        spans = (await get(wire, f"/v2/runs/{partial}/trace"))["data"]["rootSpan"]["children"]
        assert [span["name"] for span in spans] == ["a", "b"]
    assert (await wire.http.post(f"/v2/runs/{run_id}/rerun")).status_code == 200, "a body is optional"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"fromStep": {"stepId": "zzz"}}, "invalid_request", "Step not found in original run"),
        ({"fromStep": {}}, "missing_field", "fromStep.stepId is required: the name of a step, or its hash"),
        ({"fromStep": "a"}, "missing_field", "fromStep.stepId is required: the name of a step, or its hash"),
        (
            {"fromStep": {"stepId": "a", "input": [1]}},
            "invalid_request",
            "steps of shop-two, which runs in this process, take what its code gives",
        ),
        (
            {"fromStep": {"stepId": "a", "input": {"x": 1}}},
            "invalid_field_format",
            "fromStep.input must be a list: the arguments of the step",
        ),
    ],
)
async def test_a_rerun_that_is_refused(wire: Wire, body: Json, code: str, message: str) -> None:
    run_id = await wire.start("t/two")
    assert error(await post(wire, f"/v2/runs/{run_id}/rerun", body, 400)) == (code, message)
    assert len((await get(wire, "/v2/runs"))["data"]) == 1


async def test_a_rerun_of_what_is_not_there_or_rests(wire: Wire) -> None:
    assert error(await post(wire, f"/v2/runs/{UNKNOWN}/rerun", {}, 404)) == ("not_found", "Run not found")
    assert error(await post(wire, "/v2/runs/zzz/rerun", {}, 400))[1] == "Run ID must be a valid ULID"
    run_id = await wire.start("t/two")
    await post(wire, "/v2/apps/shop/functions/two/pause")
    assert error(await post(wire, f"/v2/runs/{run_id}/rerun", {}, 422))[0] == "function_skipped"
    await wire.node.register(App("shop"))
    assert error(await post(wire, f"/v2/runs/{run_id}/rerun", {}, 409))[0] == "invalid_request"


# Pause and resume.


async def test_pausing_and_resuming(wire: Wire) -> None:
    path = "/v2/apps/shop/functions/echo"
    assert (await post(wire, f"{path}/pause"))["data"] == {"id": "echo", "slug": "shop-echo", "paused": True}
    assert (await get(wire, path))["data"]["pausedAt"] == "2027-01-15T08:00:00.000Z"
    listed = {each["id"]: each for each in (await get(wire, "/v1/functions"))["data"]}
    assert listed["shop-echo"]["paused_at"] == "2027-01-15T08:00:00.000Z" and "paused_at" not in listed["shop-two"]
    assert (await get(wire, "/v1/doctor"))["data"]["paused"] == ["shop-echo"]
    assert error(await post(wire, f"{path}/invoke", {"data": {}}, 422))[0] == "function_skipped"
    await wire.send({"name": "t/echo"})
    assert (await post(wire, f"{path}/resume"))["data"]["paused"] is False
    assert "pausedAt" not in (await get(wire, path))["data"]
    assert (await get(wire, "/v2/runs"))["data"] == [], "what came meanwhile is skipped"
    for order in ("pause", "resume"):
        assert error(await post(wire, f"/v2/apps/shop/functions/nope/{order}", {}, 404))[0] == "not_found"


# Lists.


async def test_runs_by_time(wire: Wire) -> None:
    bell = await wire.start("t/bell")
    await wire.clock.advance("1h")
    two = await wire.start("t/two")
    await wire.clock.advance("1h")
    await post(wire, "/v1/signals", {"signal": "bell"})

    async def listed(query: str) -> list[str]:
        return [run["id"] for run in (await get(wire, f"/v2/runs?{query}"))["data"]]

    assert await listed("order=ASC") == await listed("order=asc") == [bell, two]
    assert await listed("order=DESC") == await listed("") == [two, bell]
    assert await listed("from=2027-01-15T09:00:00Z") == [two]
    assert await listed("until=2027-01-15T09:00:00Z") == [two, bell], "both ends are included"
    assert await listed("until=2027-01-15T08:59:59Z&timeField=startedAt") == [bell]
    assert await listed("from=2027-01-15T09:30:00Z&timeField=endedAt") == [bell]
    assert await listed("from=2027-01-15T09:30:00Z&timeField=ENDED_AT&status=COMPLETED") == [bell]
    assert await listed("from=2027-01-15T09:30:00Z&timeField=QUEUED_AT") == []
    first = await get(wire, "/v2/runs?order=ASC&limit=1")
    assert first["page"]["hasMore"] is True
    assert await listed(f"order=ASC&cursor={first['page']['cursor']}") == [two]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("order=UP", "Order must be ASC or DESC"),
        ("timeField=createdAt", "timeField must be queuedAt, startedAt or endedAt"),
        ("from=2027-01-15T10:00:00Z&until=2027-01-15T09:00:00Z", "from must not be after until"),
    ],
)
async def test_a_malformed_list_of_runs(wire: Wire, query: str, message: str) -> None:
    for path in ("/v2/runs", "/v2/apps/shop/functions/echo/runs"):
        assert error(await get(wire, f"{path}?{query}", 400)) == ("invalid_field_format", message)
    for name in ("from", "until"):
        code, message = error(await get(wire, f"/v2/runs?{name}=soon", 400))
        assert code == "invalid_field_format" and message.startswith(f"{name}: ")


async def test_the_runs_of_a_function(wire: Wire) -> None:
    run_id = await wire.start("t/echo")
    await wire.start("t/two")
    for path in ("/v2/apps/shop/functions/echo/runs", "/api/v2/apps/shop/functions/shop-echo/runs"):
        assert [run["id"] for run in (await get(wire, path))["data"]] == [run_id]
    assert (await get(wire, "/v2/apps/books/functions/echo/runs"))["data"] == []
    assert error(await get(wire, "/v2/apps/shop/functions/nope/runs", 404)) == ("not_found", "Function not found")


async def test_the_apps(wire: Wire) -> None:
    body = await get(wire, "/v2/apps")
    assert [(app["id"], app["name"], app["functionCount"]) for app in body["data"]] == [
        ("books", "books", 1),
        ("shop", "shop", 8),
    ]
    assert body["page"] == {"limit": 20}
    books = (await get(wire, "/api/v2/apps/books"))["data"]
    assert books == body["data"][0] and books["createdAt"] == "2027-01-15T08:00:00.000Z"
    assert books["latestSync"]["sdkLanguage"] == "python"
    first = (await get(wire, "/v2/apps?limit=1"))["page"]
    assert first == {"cursor": "books", "hasMore": True, "limit": 1}
    assert [app["id"] for app in (await get(wire, "/v2/apps?limit=1&cursor=books"))["data"]] == ["shop"]
    assert error(await get(wire, "/v2/apps/nope", 404)) == ("not_found", "App not found")
    assert error(await get(wire, "/v2/apps/nope/functions", 404)) == ("not_found", "App not found")
    assert (await get(wire, "/v2/apps?archived=true"))["data"] == []
    await wire.node.register(App("books"))
    assert [app["id"] for app in (await get(wire, "/v2/apps?archived=true"))["data"]] == ["books"]
    assert [app["id"] for app in (await get(wire, "/v2/apps"))["data"]] == ["shop"]
    assert error(await get(wire, "/v2/apps/books/functions/echo", 404)) == ("not_found", "Function not found")


async def test_the_functions_of_an_app(wire: Wire) -> None:
    body = await get(wire, "/v2/apps/shop/functions?limit=2")
    assert [function["id"] for function in body["data"]] == ["bell", "echo"]
    rest = await get(wire, f"/v2/apps/shop/functions?cursor={body['page']['cursor']}")
    assert [function["id"] for function in rest["data"]] == ["flow", "late", "lots", "rare", "sole", "two"]
    assert body["data"][1] == {
        "id": "echo",
        "slug": "shop-echo",
        "name": "An echo",
        "app": {"id": "shop"},
        "triggers": [{"type": "EVENT", "value": "t/echo"}],
        "configuration": {"retries": {"value": 4, "isDefault": True}},
    }
    shown = {function["id"]: function["configuration"] for function in rest["data"]}
    assert shown["late"]["debounce"] == {"period": "10s", "key": "event.data.k", "timeout": "1m"}
    assert shown["rare"]["rateLimit"] == {"limit": 1, "period": "1d", "key": "event.data.k"}
    assert shown["sole"]["singleton"] == {"key": "event.data.k", "mode": "SKIP"}
    assert shown["lots"]["eventsBatch"] == {"maxSize": 5, "timeout": "30s", "condition": "event.data.k != 0"}


async def test_the_configuration_of_a_function(wire: Wire) -> None:
    by_id = (await get(wire, "/v2/apps/shop/functions/flow"))["data"]
    assert by_id == (await get(wire, "/api/v2/apps/shop/functions/shop-flow"))["data"]
    assert by_id["triggers"] == [
        {"type": "EVENT", "value": "t/flow", "if": "event.data.go == true"},
        {"type": "CRON", "value": "0 0 1 1 *"},
    ]
    assert by_id["configuration"] == {
        "retries": {"value": 5, "isDefault": False},
        "concurrency": [
            {"scope": "ENVIRONMENT", "key": "event.data.k", "limit": {"value": 2, "isPlanLimit": False}},
            {"scope": "FUNCTION", "limit": {"value": 3, "isPlanLimit": False}},
        ],
        "cancellations": [{"event": "t/stop", "condition": "event.data.k == async.data.k", "timeout": "1h"}],
        "priority": "event.data.p",
        "idempotency": "event.data.idk",
        "throttle": {"limit": 5, "period": "10s", "key": "event.data.k", "burst": 2},
        "timeouts": {"start": "1d"},
    }
    for path in ("/v2/apps/shop/functions/nope", "/v2/apps/nope/functions/flow"):
        assert error(await get(wire, path, 404)) == ("not_found", "Function not found")
