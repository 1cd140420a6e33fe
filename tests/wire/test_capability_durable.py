"""Durable operations of a capability: their steps are recorded, tried again, and told as tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest

from perdure import Node, embedded
from perdure.capability.durable import DurableRuns
from perdure.capability.mcp import CapabilityDoor
from perdure.capability.rest import RestDoor
from perdure.capability.upstream import Reply, Request
from perdure.model.json import Json
from perdure.server import make_app
from perdure.server.mcp.asking import inside
from perdure.server.mcp.runs import RunTasks
from perdure.testing import VirtualClock
from tests.support.mcp import Rpc
from tests.support.upstreams import FakeUpstream, faces, opened, running

DOCUMENT = """\
naftiko: 1.0.0-alpha2
capability:
  consumes:
  - type: http
    namespace: up
    baseUri: http://up
    authentication: {type: bearer, token: secret}
    resources:
    - name: a
      path: /reserve
      operations:
      - {name: reserve, method: POST, outputParameters: [{name: code, type: string, value: $.code}]}
    - name: b
      path: '/charge/{{code}}'
      operations: [{name: charge, method: POST, inputParameters: [{name: code, in: path}]}]
  aggregates:
  - label: Orders
    namespace: orders
    functions:
    - name: order
      description: Reserves and charges.
      durable: true
      inputParameters: [{name: item, type: string, description: What., required: true}]
      steps:
      - {name: first, type: call, call: up.reserve}
      - {name: second, type: call, call: up.charge, with: {code: '{{first.code}}'}}
      mappings:
      - {targetName: code, value: $.first.code}
      - {targetName: paid, value: $.second.paid}
  exposes:
  - type: rest
    port: 1
    namespace: door
    resources:
    - path: /orders/{item}
      operations: [{name: order, method: POST, ref: orders.order}]
  - type: mcp
    port: 2
    namespace: tools
    tools:
    - {name: order, ref: orders.order}
"""
KNOWS_TASKS: Json = {
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}
}


class Shop:
    """An upstream whose second operation answers with these statuses, one after the other."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = [*statuses]
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Json:
        self.asked.append(request.url)
        if request.url.endswith("/reserve"):
            return {"code": f"c{len(self.asked)}"}
        status = self.statuses.pop(0)
        return Reply(status, {"content-type": "application/json"}, b'{"paid":true}' if status == 200 else b'"no"')


@asynccontextmanager
async def served(shop: Shop) -> AsyncGenerator[tuple[httpx2.AsyncClient, httpx2.AsyncClient, Node], None]:
    """The REST adapter, the MCP adapter, and the engine."""
    one = running(opened(DOCUMENT), FakeUpstream(shop))
    runs = DurableRuns([one])
    async with embedded(runs.app, db=":memory:", clock=VirtualClock()) as node:
        runs.use(node)
        application = make_app(node)
        tasks = RunTasks(inside(lambda: application), {})
        rest, mcp = RestDoor(faces(one, "rest")), CapabilityDoor(faces(one, "mcp"), tasks)
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(rest), base_url="http://localhost") as first,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(mcp), base_url="http://localhost") as second,
        ):
            yield first, second, node


async def test_a_step_that_fails_is_tried_again_and_the_ones_before_are_not() -> None:
    shop = Shop(503, 503, 200)
    async with served(shop) as (rest, _, node):
        asked = asyncio.create_task(rest.post("/orders/shoe"))
        while len(shop.asked) < 2:
            await asyncio.sleep(0.01)
        await node.drain()
        answer = await asked
    assert (answer.status_code, answer.json()) == (200, {"code": "c1", "paid": True})
    assert shop.asked == ["http://up/reserve", *["http://up/charge/c1"] * 3]


async def test_what_an_upstream_refuses_is_told_with_its_status() -> None:
    shop = Shop(404)
    async with served(shop) as (rest, _, _):
        answer = await rest.post("/orders/shoe")
    assert (answer.status_code, answer.json()["code"]) == (404, "step_failed")
    assert answer.json()["error"] == 'step second: HTTP 404: "no"'
    assert len(shop.asked) == 2


async def test_a_tool_is_a_task_for_clients_that_know_tasks() -> None:
    shop = Shop(200, 200)
    async with served(shop) as (_, mcp, node):
        rpc = Rpc(mcp)
        made = await rpc.result("tools/call", name="order", arguments={"item": "shoe"}, meta=KNOWS_TASKS)
        assert made["resultType"] == "task"
        await node.drain()
        named = Rpc(mcp, **{"mcp-name": made["taskId"]})
        found = await named.result("tasks/get", taskId=made["taskId"], meta=KNOWS_TASKS)
        assert found["result"]["structuredContent"] == {"code": "c1", "paid": True}
        waited = await rpc.call("order", item="shoe")
        assert waited["structuredContent"] == {"code": "c3", "paid": True}
        assert (await rpc.call("order"))["isError"]


def test_durable_needs_steps() -> None:
    text = DOCUMENT.replace(
        "    - {name: order, ref: orders.order}", "    - {name: x, description: X., durable: true, call: up.reserve}"
    )
    assert "not-durable" in {each.code for each in opened(text).findings.all}


@pytest.mark.parametrize("written", ["durable: true", "x-perdure: {durable: true}"])
def test_durable_is_written_in_two_ways(written: str) -> None:
    capability = opened(DOCUMENT.replace("durable: true", written)).capability
    assert all(each.action.durable for each in capability.exposures[1].tools)
