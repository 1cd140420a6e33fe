"""What tests of the GraphQL API work with: questions, and the answers or complaints that come back."""

from __future__ import annotations

from perdure.model.json import Json
from tests.support.wire import Wire

UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"
EVER = {"from": "2020-01-01T00:00:00Z", "until": "2040-01-01T00:00:00Z"}
RUNS = """query($first: Int = 40, $after: String, $filter: RunsFilterV2!, $direction: RunsOrderByDirection = DESC) {
  runs(first: $first, after: $after, filter: $filter, orderBy: [{field: QUEUED_AT, direction: $direction}]) {
    edges { cursor node { id status } } pageInfo { hasNextPage endCursor startCursor } totalCount
  }
}"""
EVENTS = """query($first: Int = 40, $after: String, $filter: EventsFilter!) {
  eventsV2(first: $first, after: $after, filter: $filter) {
    edges { node { id name occurredAt receivedAt raw runs { id status function { name slug } } } }
    totalCount pageInfo { hasNextPage endCursor hasPreviousPage startCursor }
  }
}"""


async def whole(wire: Wire, query: str, **variables: Json) -> Json:
    response = await wire.http.post("/v0/gql", json={"query": query, "variables": variables})
    assert response.status_code == 200, response.text
    return response.json()


async def ask(wire: Wire, query: str, **variables: Json) -> Json:
    body = await whole(wire, query, **variables)
    assert "errors" not in body, body
    return body["data"]


async def complaint(wire: Wire, query: str, **variables: Json) -> str:
    body = await whole(wire, query, **variables)
    message: str = body["errors"][0]["message"]
    return message


async def span_output(wire: Wire, output_id: str) -> Json:
    query = (
        "query($o: String!) { runTraceSpanOutputByID(outputID: $o) { input data error { message name stack cause } } }"
    )
    return (await ask(wire, query, o=output_id))["runTraceSpanOutputByID"]
