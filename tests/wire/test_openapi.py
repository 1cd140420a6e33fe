"""The OpenAPI document says what the server does: each operation is called with what it allows, and what it does not.

Every answer must have a documented status, content type and schema, and none may be a 5xx but 501. The operations
run against one server with runs in every state, on whose ids half of the requests fall.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app
from perdure.server.catalogue import AGENTS, PROTOCOL, V1, V2, Operation
from perdure.server.openapi import document
from tests.support.wire import Wire, serving

KEY = "signkey-test-00ff"
DOCUMENT = document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
FOUND = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
OPERATIONS = {found.definition.raw["operationId"]: found for found in FOUND}
CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
EXAMPLES = 10


class World:
    """A server with some history, and the loop in which it lives while a test asks it."""

    def __init__(self, runner: asyncio.Runner, wire: Wire, known: dict[str, list[str]]) -> None:
        self.runner = runner
        self.wire = wire
        self.known = known

    def request(self, case: Case[Json]) -> httpx2.Response:
        sent = case.as_transport_kwargs(base_url="http://perdure")
        sent.pop("cookies", None)
        content = sent.pop("data", None)
        return self.runner.run(self.wire.http.request(**sent, content=content))


async def _history(wire: Wire) -> dict[str, list[str]]:
    names = ("t/plain", "t/two", "t/wait", "t/boom", "t/flaky")
    run_ids = [await wire.start(name, {"k": 1}) for name in names]
    events = (await wire.http.get("/v1/events")).json()["data"]
    cancellation = (await wire.http.post("/v1/cancellations", json={"function_id": "two"})).json()["data"]["id"]
    return {
        "run_id": run_ids,
        "event_id": [event["internal_id"] for event in events],
        "step_id": ["nap", "try", step_hash("a")],
        "agent_run_id": ["unknown"],
        "cancellation_id": [cancellation],
        "app_id": ["shop"],
        "function_id": ["plain", "shop-waiter"],
        "slug": ["shop-plain"],
        "key": ["key"],
        "environment": ["dev"],
        "env_id": ["feature"],
    }


@pytest.fixture(scope="module")
def world() -> Generator[World]:
    with asyncio.Runner() as runner:
        context = serving()
        wire = runner.run(context.__aenter__())
        yield World(runner, wire, runner.run(_history(wire)))
        runner.run(context.__aexit__(None, None, None))


def _what(operation: str, name: str) -> str:
    """What a path parameter names: v1 calls them all `id`."""
    if name != "id":
        return name
    for word in ("event", "run", "cancellation"):
        if word in operation.lower():
            return f"{word}_id"
    return "app_id"


def _can_be_wrong(operation: Operation) -> bool:
    """Whether something in a request can break the schema: any text names an app."""
    return operation.body is not None or any(
        each.place == "query" or "pattern" in each.schema for each in operation.parameters
    )


CASES = [(each.id, GenerationMode.POSITIVE) for each in (*PROTOCOL, *V1, *V2)] + [
    (each.id, GenerationMode.NEGATIVE) for each in (*PROTOCOL, *V1, *V2) if _can_be_wrong(each)
]


@pytest.mark.parametrize(("name", "mode"), CASES, ids=[f"{name}-{mode.value}" for name, mode in CASES])
def test_an_operation_answers_as_documented(world: World, name: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[name]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans(), data=st.data())
    def ask(case: Case[Json], known: bool, data: st.DataObject) -> None:
        if known:
            for each in case.path_parameters or {}:
                case.path_parameters[each] = data.draw(st.sampled_from(world.known[_what(name, each)]))
        response = world.request(case)
        assert response.status_code < 500 or response.status_code == 501, response.text
        case.validate_response(response, checks=CHECKS)

    ask()


def test_the_document_is_served() -> None:
    async def get() -> Json:
        async with serving() as wire:
            response = await wire.http.get("/openapi.json")
            assert response.headers["content-type"] == "application/json"
            return response.json()

    assert asyncio.run(get()) == DOCUMENT


async def test_the_document_asks_for_the_key() -> None:
    async with serving() as wire:
        guard = Guard(Keys([EventKey.parse("evtkey")], [SigningKey.parse(KEY)]))
        transport = httpx2.ASGITransport(make_app(wire.node, guard))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/openapi.json")).status_code == 401
            allowed = await http.get("/openapi.json", headers={"authorization": f"Bearer {KEY}"})
            assert allowed.json()["info"]["title"] == "perdure"


def test_the_document_is_whole() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert len(described) == len(V1) + len(V2) + len(PROTOCOL) + len(AGENTS) == len(OPERATIONS)
    assert _references(DOCUMENT) <= {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    for operation in (*V1, *V2, *PROTOCOL, *AGENTS):
        in_path = {each.name for each in operation.parameters if each.place == "path"}
        assert in_path == {part.strip("{}") for part in operation.path.split("/") if part.startswith("{")}
        assert operation.summary and operation.about.endswith(".")


def _references(value: Json) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set[str]()
        return own.union(*(_references(each) for each in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(_references(each) for each in value))
    return set()
