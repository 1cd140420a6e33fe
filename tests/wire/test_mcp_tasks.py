"""Functions as tools, and their runs as tasks: what clients with and without the extension get."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest

from perdure import Context, embedded, step
from perdure.model.json import Json
from perdure.server import make_app
from perdure.server.mcp.asking import inside
from perdure.server.mcp.native import offering
from perdure.testing import VirtualClock
from tests.support.mcp import LEGACY, Rpc
from tests.support.wire import Wire, wire_app

KNOWS_TASKS: Json = {
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}
}


@asynccontextmanager
async def asking() -> AsyncGenerator[Wire, None]:
    """A server with a function that asks."""
    app, clock = wire_app(), VirtualClock()

    @app.function("asks")
    async def asks(ctx: Context) -> Json:
        question = {"message": "Really?", "requestedSchema": {"type": "object", "properties": {}}}
        await step.run("ask confirm", lambda: question)
        answer = await step.wait_for_signal("confirm", signal=f"mcp/{ctx.run_id}/confirm", timeout="1d")
        return {"answer": answer.data if answer else None}

    async with embedded(app, db=":memory:", clock=clock) as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
            yield Wire(node, clock, http)


async def task(rpc: Rpc, method: str, task_id: str, **params: Json) -> Json:
    named = Rpc(rpc.http, rpc.path, **{"mcp-name": task_id})
    return await named.result(f"tasks/{method}", taskId=task_id, meta=KNOWS_TASKS, **params)


async def test_functions_are_tools_where_they_are_asked_for(wire: Wire) -> None:
    rpc = Rpc(wire.http, "/mcp?toolsets=run")
    tools = {each["name"]: each for each in (await rpc.result("tools/list"))["tools"]}
    assert {"run_shop-plain", "run_shop-boom"} <= tools.keys()
    assert all(each["outputSchema"]["type"] == "object" for each in tools.values())
    done = await rpc.call("run_shop-plain", a=1)
    assert done["structuredContent"] == {"got": {"a": 1}}
    assert "run_shop-plain" not in str(await Rpc(wire.http).result("tools/list"))


async def test_a_call_becomes_a_task_that_is_polled(wire: Wire) -> None:
    rpc = Rpc(wire.http, "/mcp?toolsets=run,functions")
    made = await rpc.result("tools/call", name="run_shop-waiter", arguments={}, meta=KNOWS_TASKS)
    assert (made["resultType"], made["status"], made["ttlMs"]) == ("task", "working", None)
    await wire.node.settle()
    found = await task(rpc, "get", made["taskId"])
    assert (found["resultType"], found["status"], found["statusMessage"]) == ("complete", "working", "nap")
    assert await task(rpc, "cancel", made["taskId"]) == await task(rpc, "cancel", made["taskId"])
    assert (await task(rpc, "get", made["taskId"]))["status"] == "cancelled"
    sync = await rpc.result(
        "tools/call", name="invoke_function_sync", arguments={"functionId": "shop-plain"}, meta=KNOWS_TASKS
    )
    await wire.node.settle()
    done = await task(rpc, "get", sync["taskId"])
    assert done["status"] == "completed"
    assert done["result"]["structuredContent"]["output"] == {"got": {}}
    assert set(done["result"]["structuredContent"]) >= {"runId", "eventId", "status"}


async def test_a_failed_function_is_a_completed_task_with_an_error(wire: Wire) -> None:
    rpc = Rpc(wire.http, "/mcp?toolsets=run")
    made = await rpc.result("tools/call", name="run_shop-boom", arguments={}, meta=KNOWS_TASKS)
    await wire.node.drain()
    found = await task(rpc, "get", made["taskId"])
    assert (found["status"], found["result"]["isError"]) == ("completed", True)
    assert found["result"]["content"][0]["text"] == "ValueError: boom"


async def test_a_run_asks_and_is_answered() -> None:
    async with asking() as wire:
        rpc = Rpc(wire.http, "/mcp?toolsets=run")
        made = await rpc.result("tools/call", name="run_shop-asks", arguments={}, meta=KNOWS_TASKS)
        await wire.node.settle()
        found = await task(rpc, "get", made["taskId"])
        assert found["status"] == "input_required"
        assert found["inputRequests"]["confirm"]["method"] == "elicitation/create"
        assert found["inputRequests"]["confirm"]["params"]["message"] == "Really?"
        answers: Json = {"confirm": {"action": "accept", "content": {"ok": True}}, "unknown": {"action": "accept"}}
        assert (await task(rpc, "update", made["taskId"], inputResponses=answers))["resultType"] == "complete"
        await wire.node.settle()
        found = await task(rpc, "get", made["taskId"])
        assert found["result"]["structuredContent"] == {"answer": {"action": "accept", "content": {"ok": True}}}


@pytest.mark.parametrize("task_id", ["nothing", "01HF7YAT000000000000000001", "01HF7YAT000000000000000001.other"])
async def test_a_task_that_there_is_not(wire: Wire, task_id: str) -> None:
    rpc = Rpc(wire.http, **{"mcp-name": task_id})
    for method in ("tasks/get", "tasks/cancel"):
        assert (await rpc.error(method, taskId=task_id, meta=KNOWS_TASKS))["code"] == -32602
    assert (await rpc.error("tasks/update", taskId=task_id, inputResponses={}, meta=KNOWS_TASKS))["code"] == -32602


async def test_clients_without_tasks_see_none(wire: Wire) -> None:
    rpc = Rpc(wire.http, **{"mcp-name": "x"})
    undeclared = await rpc.error("tasks/get", taskId="x")
    assert undeclared["code"] == -32021
    assert "io.modelcontextprotocol/tasks" in undeclared["data"]["requiredCapabilities"]["extensions"]
    assert (await rpc.error("tasks/list", meta=KNOWS_TASKS))["code"] == -32601
    older = Rpc(wire.http, "/mcp?toolsets=run", revision=LEGACY[0])
    assert (await older.error("tasks/get", taskId="x"))["code"] == -32601
    assert (await older.call("run_shop-plain"))["structuredContent"] == {"got": {}}


async def test_who_may_start_nothing_has_no_tasks(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    rpc = Rpc(wire.http, "/mcp?readonly=1", **{"mcp-name": run_id})
    assert (await rpc.error("tasks/cancel", taskId=run_id, meta=KNOWS_TASKS))["code"] == -32601
    capabilities = (await Rpc(wire.http, "/mcp?readonly=1").result("server/discover"))["capabilities"]
    assert "io.modelcontextprotocol/tasks" not in capabilities["extensions"]


async def test_the_header_names_the_task(wire: Wire) -> None:
    rpc = Rpc(wire.http, **{"mcp-name": "another"})
    answer = await rpc.ask("tasks/get", taskId="x", meta=KNOWS_TASKS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


def test_functions_whose_names_become_the_same_are_told_apart() -> None:
    made = offering(inside(lambda: not_asked), ["shop-a.b", "shop-a_b", "shop-a b"])
    names = [each.name for each in made.tools if each.toolset == "run"]
    assert names == ["run_shop-a_b", "run_shop-a_b_2", "run_shop-a_b_3"]


async def not_asked(scope: Json, receive: Json, send: Json) -> None:
    raise AssertionError("nothing is asked to make an offering")
