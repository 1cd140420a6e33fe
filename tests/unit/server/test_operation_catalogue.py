"""The operation catalogue: what follows from an operation, and that each has exactly one handler."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import Response

from perdure.model.json import Json
from perdure.server.catalogue import PROTOCOL, V1, V2, Operation, arguments, hints, request_for, tool_schema
from perdure.server.catalogue import Request as Call
from perdure.server.routing import routes

BY_ID = {operation.id: operation for operation in (*V1, *V2, *PROTOCOL)}
RUN = "01M811P18277Y0AMMWSQ8QVTTA"


def test_ids_places_tools_and_commands_are_given_once() -> None:
    every = (*V1, *V2, *PROTOCOL)
    assert len(BY_ID) == len(every)
    for operations in (V1 + PROTOCOL, V2):
        places = [(operation.method, operation.path) for operation in operations]
        assert len(places) == len(set(places))
    for names in ([each.tool for each in V2 if each.tool], [each.command for each in V2]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("operation", V2, ids=lambda operation: operation.id)
def test_the_arguments_of_an_operation_have_different_names(operation: Operation) -> None:
    names = [argument.name for argument in arguments(operation)]
    assert len(names) == len(set(names))
    assert not any("_" in name for name in names)
    assert hints(operation)["readOnlyHint"] is operation.read_only
    assert operation.read_only == (operation.method == "GET")


@pytest.mark.parametrize(
    ("name", "given", "call"),
    [
        ("Health", {}, Call("GET", "/v2/health", {}, None)),
        (
            "ListFunctionRuns",
            {"appId": "a/b", "functionId": "f", "status": ["FAILED"], "limit": 5, "cursor": None},
            Call("GET", "/v2/apps/a%2Fb/functions/f/runs", {"status": ["FAILED"], "limit": 5}, None),
        ),
        ("CancelRun", {"runId": RUN}, Call("POST", f"/v2/runs/{RUN}/cancel", {}, {})),
        (
            "Rerun",
            {"runId": RUN, "fromStep": {"stepId": "a"}},
            Call("POST", f"/v2/runs/{RUN}/rerun", {}, {"fromStep": {"stepId": "a"}}),
        ),
        ("CreateScores", {"runId": RUN, "body": []}, Call("POST", f"/v2/runs/{RUN}/scores", {}, [])),
    ],
)
def test_a_request(name: str, given: dict[str, Json], call: Call) -> None:
    assert request_for(BY_ID[name], given) == call


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("Health", {"x": 1}, "Health has no argument 'x'; it has none"),
        ("CancelRun", {"run_id": RUN}, "CancelRun has no argument 'run_id'; it has runId"),
        ("InvokeFunction", {"appId": "a"}, "InvokeFunction needs functionId, data"),
    ],
)
def test_a_request_that_cannot_be(name: str, given: dict[str, Json], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        request_for(BY_ID[name], given)


def test_a_tool_takes_what_the_operation_takes() -> None:
    schema = tool_schema(BY_ID["ReplayFunction"])
    assert schema["required"] == ["appId", "functionId"]
    assert set(schema["properties"]) == {"appId", "functionId", "from", "until", "status", "replayId"}
    assert all(each["description"] for each in schema["properties"].values())


def test_operations_and_handlers_must_match() -> None:
    async def handler(request: Request) -> Response:
        return Response()

    health = BY_ID["Health"]
    assert [route.path for route in routes([health], {"Health": handler}, ("/a", "/b"))] == ["/a/health", "/b/health"]
    with pytest.raises(LookupError, match="operation Health has no handler"):
        routes([health], {})
    with pytest.raises(LookupError, match="handlers without an operation: Other"):
        routes([health], {"Health": handler, "Other": handler})
