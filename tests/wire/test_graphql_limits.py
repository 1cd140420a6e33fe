"""The GraphQL subset: what is refused, and what a query may cost."""

from __future__ import annotations

import httpx2
import pytest
from graphql import GraphQLEnumType, get_introspection_query

from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app, search, trace
from perdure.server.graphql import reader
from perdure.server.graphql.execution import schema
from tests.support.graphql import EVENTS, EVER, RUNS, UNKNOWN, ask, complaint, whole
from tests.support.wire import Wire


async def test_what_is_not_there(wire: Wire) -> None:
    body = await whole(wire, "query($r: String!) { run(runID: $r) { status } }", r=UNKNOWN)
    assert body["data"] == {"run": None}
    assert body["errors"][0]["path"] == ["run"] and body["errors"][0]["message"] == f"there is no run {UNKNOWN}"
    for query, message in (
        (f'{{ event(query: {{eventId: "{UNKNOWN}"}}) {{ id }} }}', f"there is no event {UNKNOWN}"),
        ('{ event(query: {eventId: "zzz"}) { id } }', "the event ID is not valid: it must be a ULID"),
        (f'{{ runTrace(runID: "{UNKNOWN}") {{ name }} }}', f"there is no run {UNKNOWN}"),
        (
            '{ runTraceSpanOutputByID(outputID: "x") { data } }',
            "outputID is not valid: give one that a span of a trace has",
        ),
        (
            '{ runTraceSpanOutputByID(outputID: "é") { data } }',
            "outputID is not valid: give one that a span of a trace has",
        ),
        (
            '{ runTraceSpanOutputByID(outputID: "W10=") { data } }',
            "outputID is not valid: give one that a span of a trace has",
        ),
    ):
        assert await complaint(wire, query) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "truncated"),
        ("[]", "must be a JSON object"),
        ("{}", "query is required"),
        ('{"query": 1}', "query is required"),
        ('{"query": "{ apps { id } }", "variables": []}', "variables must be an object"),
        ('{"query": "{ apps { id } }", "operationName": 1}', "operationName must be a text"),
    ],
)
async def test_malformed_requests(wire: Wire, body: str, message: str) -> None:
    response = await wire.http.post("/v0/gql", content=body)
    assert response.status_code == 400 and message in response.json()["errors"][0]["message"]


async def test_other_requests(wire: Wire) -> None:
    assert (await wire.http.get("/v0/gql")).status_code == 405
    assert (await wire.http.post("/v0/gql", content=b" " * 4 * 1024 * 1024)).status_code == 413
    answer = await wire.http.post(
        "/v0/gql", json={"query": "query A { apps { id } } query B { functions { id } }", "operationName": "A"}
    )
    assert list(answer.json()["data"]) == ["apps"]


def _spread(levels: int) -> str:
    """Fragments that double with each level."""
    parts = ["query { functions { ...F0 } }"]
    for level in range(levels):
        below = f"...F{level + 1}"
        parts.append(
            f"fragment F{level} on Function {{ app {{ functions {{ {below} }} x: functions {{ {below} }} }} }}"
        )
    return " ".join([*parts, f"fragment F{levels} on Function {{ id }}"])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{", "Syntax Error"),
        ("{ nope }", "Cannot query field 'nope'"),
        ("{ " + "apps { id } " * 2000 + "}", "more than 5000 tokens"),
        ("{ a" + " { a" * 1500 + " }" * 1501, "nested too deeply"),
        ("{ apps { " + "functions { app { " * 12 + "id" + " }" * 26, "more than 25 levels deep"),
        (_spread(10), "more than 1000 fields"),
        ("{ apps { " + "id " * 21 + "} }", "asks for 'id' more than 20 times in one place"),
        ("{ apps { ...F } } fragment F on App { functions { app { ...F } } }", "fragment 'F' contains itself"),
        ("{ apps { id } } " + "fragment F on App { id } " * 10, "only one fragment named"),
        ("{ apps { id } } " + " ".join(f"fragment F{n} on App {{ id }}" for n in range(51)), "more than 50 fragments"),
        ("{ apps { ...F } }", "Unknown fragment"),
        ("{ apps { id } } # " + "x" * 70000, "longer than 65536 characters"),
    ],
    ids=lambda value: value[:20],
)
async def test_queries_that_ask_for_too_much(wire: Wire, query: str, message: str) -> None:
    assert message in await complaint(wire, query)


async def test_reads_are_counted(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = await wire.start("t/two")
    query = (
        "query($r: String!) { a: run(runID: $r) { trace { name } output } b: run(runID: $r) { trace { name } output } }"
    )
    monkeypatch.setattr(reader, "MAX_READS", 2)
    await ask(wire, query, r=run_id)
    monkeypatch.setattr(reader, "MAX_READS", 1)
    assert "needs more than 1 reads: ask for fewer items" in await complaint(wire, query, r=run_id)
    monkeypatch.setattr(reader, "MAX_READS", 2)
    monkeypatch.setattr(reader, "MAX_SPANS", 5)
    assert "needs more than 5 spans" in await complaint(wire, query, r=run_id)
    monkeypatch.setattr(reader, "MAX_SPANS", 6)
    monkeypatch.setattr(reader, "MAX_TEXT", 20)
    assert "needs more than 20 bytes of payloads" in await complaint(wire, query, r=run_id)


async def test_pages_are_bounded(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        await wire.start("t/plain", {"n": n})
    monkeypatch.setattr(search, "MAX_PAGE", 2)
    page = (await ask(wire, RUNS, first=1000000, filter=EVER))["runs"]
    assert len(page["edges"]) == 2 and page["pageInfo"]["hasNextPage"] is True
    assert await complaint(wire, RUNS, first=0, filter=EVER) == "first must be at least 1"
    assert "after is not valid" in await complaint(wire, RUNS, after="x", filter=EVER)
    assert "filter.from: " in await complaint(wire, RUNS, filter={"from": "yesterday"})
    assert "filter.until must be a time" in await complaint(wire, RUNS, filter={**EVER, "until": 5})
    assert "query: " in await complaint(wire, RUNS, filter={**EVER, "query": "event.data.("})
    assert "at most 20 names" in await complaint(wire, EVENTS, filter={**EVER, "eventNames": ["x"] * 21})


async def test_tools_can_learn_the_schema(wire: Wire) -> None:
    types = (await ask(wire, get_introspection_query()))["__schema"]["types"]
    assert {"FunctionRunV2", "RunTraceSpan", "EventV2"} <= {each["name"] for each in types}


def test_the_schema_knows_every_operation_of_the_trace() -> None:
    enum = schema().type_map["StepOp"]
    assert isinstance(enum, GraphQLEnumType)
    assert set(trace._STEP_OPS.values()) | {"AI_GATEWAY"} <= set(enum.values)


async def test_keys_are_asked_for(wire: Wire) -> None:
    key = SigningKey.parse("00ff00ff")
    transport = httpx2.ASGITransport(make_app(wire.node, Guard(Keys([EventKey.parse("evt")], [key]))))
    async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
        assert (await http.post("/v0/gql", json={"query": "{ apps { id } }"})).status_code == 401
        assert (await http.delete(f"/v0/runs/{UNKNOWN}")).status_code == 401


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (StoreError("disk full at /secret"), "the store cannot answer now; try again later"),
        (ZeroDivisionError("/secret"), "internal server error"),
    ],
)
async def test_what_fails_inside_is_logged_and_not_told(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception, message: str
) -> None:
    async def fail(begin: object) -> Json:
        raise failure

    monkeypatch.setattr(wire.node, "view", fail)
    body = await whole(wire, "{ functions { id } }")
    assert body["data"] == {"functions": None}
    assert body["errors"] == [{"message": message, "locations": [{"line": 1, "column": 3}], "path": ["functions"]}]
    assert any("/secret" in (record.exc_text or record.getMessage()) for record in caplog.records)


async def test_a_part_that_fails_leaves_the_others_their_answers(wire: Wire) -> None:
    run_id = await wire.start("t/two")
    query = """query($r: String!, $u: String!) { a: run(runID: $r) { trace { name } }
      b: run(runID: $u) { status } c: run(runID: $r) { trace { name } hasAI } }"""
    body = await whole(wire, query, r=run_id, u=UNKNOWN)
    trace = {"name": "shop-two"}
    assert body["data"] == {"a": {"trace": trace}, "b": None, "c": {"trace": trace, "hasAI": False}}
