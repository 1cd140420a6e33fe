"""The GraphQL subset: runs, events, functions and apps listed, and what mutations change."""

from __future__ import annotations

import pytest

from perdure.model.json import Json, decode
from perdure.server import search
from perdure.server.identity import uuid_of
from tests.support.graphql import EVENTS, EVER, RUNS, UNKNOWN, ask, complaint
from tests.support.wire import Wire

# Lists.


async def test_runs_are_paged_and_filtered(wire: Wire) -> None:
    plain = [await wire.start("t/plain", {"n": n}) for n in range(3)]
    waiting = await wire.start("t/wait")

    async def listed(direction: str = "DESC", **chosen: Json) -> list[str]:
        runs = (await ask(wire, RUNS, filter={**EVER, **chosen}, direction=direction))["runs"]
        assert runs["totalCount"] == len(runs["edges"])
        return [edge["node"]["id"] for edge in runs["edges"]]

    first = (await ask(wire, RUNS, first=3, filter=EVER))["runs"]
    assert [edge["node"]["id"] for edge in first["edges"]] == [waiting, plain[2], plain[1]]
    assert first["totalCount"] == 4 and first["pageInfo"]["hasNextPage"] is True
    rest = (await ask(wire, RUNS, first=3, after=first["pageInfo"]["endCursor"], filter=EVER))["runs"]
    assert [edge["node"]["id"] for edge in rest["edges"]] == [plain[0]]
    assert rest["pageInfo"] == {"hasNextPage": False, "endCursor": plain[0], "startCursor": plain[0]}
    assert await listed("ASC") == [*plain, waiting]
    assert await listed(status=["RUNNING"]) == await listed(functionIDs=[uuid_of("shop-waiter")]) == [waiting]
    assert await listed(appIDs=[uuid_of("other")]) == await listed(functionIDs=[uuid_of("nope")]) == []
    assert len(await listed(appIDs=[uuid_of("shop")], status=["RUNNING", "COMPLETED"])) == 4
    assert await listed(timeField="ENDED_AT") == [plain[2], plain[1], plain[0]]
    assert await listed(until="2027-01-15T07:59:59Z") == []
    assert await listed(query="event.data.n > 0\noutput.got.n < 2") == [plain[1]]
    assert await listed(query="event.data.n.x > 1") == []


async def test_conditions_look_at_a_bounded_number_of_runs(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_EXAMINED", 2)
    monkeypatch.setattr(search, "_BATCH", 2)
    runs = [await wire.start("t/plain", {"n": n}) for n in range(3)]
    chosen = {**EVER, "query": "event.data.n == 0"}
    page = (await ask(wire, RUNS, filter=chosen))["runs"]
    assert page["edges"] == [] and page["pageInfo"] == {"hasNextPage": True, "endCursor": runs[1], "startCursor": None}
    page = (await ask(wire, RUNS, filter=chosen, after=page["pageInfo"]["endCursor"]))["runs"]
    assert [edge["cursor"] for edge in page["edges"]] == [runs[0]]


async def test_events_are_paged_and_filtered(wire: Wire) -> None:
    run_id = await wire.start("t/plain", {"n": 1})
    for n in range(3):
        await wire.send({"name": "t/other", "data": {"n": n}})

    async def listed(**chosen: Json) -> list[str]:
        events = (await ask(wire, EVENTS, filter={**EVER, **chosen}))["eventsV2"]
        assert events["totalCount"] == len(events["edges"])
        return [edge["node"]["name"] for edge in events["edges"]]

    page = (await ask(wire, EVENTS, first=3, filter=EVER))["eventsV2"]
    assert page["totalCount"] == 4 and page["pageInfo"]["hasNextPage"] is True
    rest = (await ask(wire, EVENTS, first=3, after=page["pageInfo"]["endCursor"], filter=EVER))["eventsV2"]
    (event,) = [edge["node"] for edge in rest["edges"]]
    function = {"name": "A plain function", "slug": "shop-plain"}
    assert event["runs"] == [{"id": run_id, "status": "COMPLETED", "function": function}]
    assert decode(event["raw"])["data"] == {"n": 1} and rest["pageInfo"]["hasPreviousPage"] is True
    assert await listed(eventNames=["t/plain"]) == ["t/plain"]
    assert await listed(eventNames=["t/plain", "t/other", "nope"]) == ["t/other"] * 3 + ["t/plain"]
    assert await listed(eventNames=[]) == []
    assert await listed(query="event.data.n == 1\nevent.name == 't/plain'") == ["t/plain"]
    assert await listed(until="2027-01-15T08:00:00Z") == ["t/other"] * 3 + ["t/plain"]
    assert await listed(until="2027-01-15T07:59:59.999Z") == []
    await ask(wire, 'mutation { invokeFunction(functionSlug: "shop-plain", data: {a: 1}) }')
    await wire.node.settle()
    assert "inngest/function.invoked" not in await listed()
    assert "inngest/function.invoked" in await listed(includeInternalEvents=True)


async def test_one_event(wire: Wire) -> None:
    (event_id,) = (await wire.send({"name": "t/other", "id": "mine", "v": "2"})).json()["ids"]
    query = (
        "query($i: ULID!) { eventV2(id: $i) { id idempotencyKey name occurredAt raw receivedAt runs { id } version } }"
    )
    event = (await ask(wire, query, i=event_id))["eventV2"]
    assert (event["idempotencyKey"], event["version"], event["runs"]) == ("mine", "2", [])
    status = "query($e: ID!) { event(query: {eventId: $e}) { status } }"
    assert (await ask(wire, status, e=event_id))["event"]["status"] == "NO_FUNCTIONS"


async def test_functions_and_apps(wire: Wire) -> None:
    query = "{ functions { id name slug url concurrency triggers { type value condition } app { externalID } appID } }"
    functions = {function["slug"]: function for function in (await ask(wire, query))["functions"]}
    assert len(functions) == 6 and functions["shop-plain"]["concurrency"] == 0
    assert functions["shop-waiter"] == {
        "id": uuid_of("shop-waiter"),
        "name": "waiter",
        "slug": "shop-waiter",
        "url": "",
        "concurrency": 3,
        "triggers": [{"type": "EVENT", "value": "t/wait", "condition": None}],
        "app": {"externalID": "shop"},
        "appID": uuid_of("shop"),
    }
    query = """{ apps { id externalID name sdkLanguage framework url checksum error connected functionCount method
      functions { slug } } }"""
    (app,) = (await ask(wire, query))["apps"]
    assert sorted(function["slug"] for function in app.pop("functions")) == sorted(functions)
    assert app == {
        "id": uuid_of("shop"),
        "externalID": "shop",
        "name": "shop",
        "sdkLanguage": "python",
        "framework": "perdure",
        "url": None,
        "checksum": None,
        "error": None,
        "connected": True,
        "functionCount": 6,
        "method": "EMBEDDED",
    }
    one = 'query($a: UUID!) { app(id: $a) { name } by: functionBySlug(query: {functionSlug: "shop-two"}) { name } }'
    assert await ask(wire, one, a=uuid_of("shop")) == {"app": {"name": "shop"}, "by": {"name": "two"}}
    assert (await ask(wire, "{ apps(filter: {method: CONNECT}) { id } }"))["apps"] == []


# Changes.


async def test_cancelling(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    query = "mutation($r: ULID!) { cancelRun(runID: $r) { id status } }"
    for _ in range(2):
        assert (await ask(wire, query, r=run_id))["cancelRun"] == {"id": run_id, "status": "CANCELLED"}
    ended = await wire.start("t/plain")
    assert await complaint(wire, query, r=ended) == f"run {ended} has ended: it is completed"
    assert await complaint(wire, query, r=UNKNOWN) == f"there is no run {UNKNOWN}"
    assert await complaint(wire, query, r="x") == "runID must be a ULID"


async def test_running_once_more(wire: Wire) -> None:
    run_id = await wire.start("t/two")
    query = "mutation($r: ULID!, $from: RerunFromStepInput) { rerun(runID: $r, fromStep: $from) }"
    again = (await ask(wire, query, r=run_id))["rerun"]
    from_b = (await ask(wire, query, r=run_id, **{"from": {"stepID": "b"}}))["rerun"]
    await wire.node.settle()
    show = "query($r: String!) { run(runID: $r) { status output } }"
    for new in (again, from_b):
        assert (await ask(wire, show, r=new))["run"] == {"status": "COMPLETED", "output": '{"a":1,"b":2}'}
    assert "no step 'x'" in await complaint(wire, query, r=run_id, **{"from": {"stepID": "x"}})
    assert await complaint(wire, query, r=UNKNOWN) == f"there is no run {UNKNOWN}"


async def test_invoking(wire: Wire) -> None:
    query = 'mutation($d: Map) { invokeFunction(functionSlug: "shop-plain", data: $d) }'
    assert (await ask(wire, query, d={"k": [1]}))["invokeFunction"] is True
    await wire.node.settle()
    (edge,) = (await ask(wire, RUNS, filter={**EVER, "status": ["COMPLETED"]}))["runs"]["edges"]
    show = "query($r: String!) { run(runID: $r) { output } }"
    assert (await ask(wire, show, r=edge["node"]["id"]))["run"]["output"] == '{"got":{"k":[1]}}'
    assert await complaint(wire, query, d=[1]) == "data must be an object"
    unknown = 'mutation { invokeFunction(functionSlug: "shop-nope") }'
    assert "there is no function 'shop-nope'" in await complaint(wire, unknown)


async def test_apps_are_awaited_and_removed(wire: Wire) -> None:
    url = "http://127.0.0.1:9/api/inngest"
    query = "mutation($u: String!) { createApp(input: {url: $u}) { id url connected functionCount method externalID } }"
    app = (await ask(wire, query, u=url))["createApp"]
    app_id = app.pop("id")
    assert app == {"url": url, "connected": False, "functionCount": 0, "method": "SERVE", "externalID": ""}
    assert len((await ask(wire, "{ apps { id } }"))["apps"]) == 2
    delete = "mutation($i: String!) { deleteApp(id: $i) }"
    assert (await ask(wire, delete, i=app_id))["deleteApp"] == app_id
    assert await complaint(wire, delete, i=app_id) == f"there is no app {app_id}"
    assert "those in the server's process stay" in await complaint(wire, delete, i=uuid_of("shop"))
    assert "there is no app x" in await complaint(wire, 'mutation { deleteAppByName(name: "x") }')
    assert "input.url must be" in await complaint(wire, query, u="file:///etc/passwd")
