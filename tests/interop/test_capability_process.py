"""`perdure capability run` in a process of its own: over a real server, and killed in a durable operation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
from mcp import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.dev_server import DevServer
from tests.support.hosting import asgi_server
from tests.support.upstreams import FOLDER

APP = """
from perdure import App, Context
app = App("shop")

@app.function("order", trigger="shop/ordered")
async def order(ctx: Context) -> dict:
    return {"got": ctx.event.data}
"""
DURABLE = """\
naftiko: 1.0.0-alpha2
capability:
  consumes:
  - type: http
    namespace: up
    baseUri: http://up
    resources:
    - {name: a, path: /reserve, operations: [{name: reserve, method: POST}]}
    - {name: b, path: /charge, operations: [{name: charge, method: POST}]}
  exposes:
  - type: rest
    port: 8080
    namespace: door
    resources:
    - path: /orders
      operations:
      - name: order
        method: POST
        durable: true
        steps: [{name: first, type: call, call: up.reserve}, {name: second, type: call, call: up.charge}]
"""


class Process:
    """A process that serves capabilities; `urls` are its listeners by their kind."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.urls: dict[str, str] = {}

    async def ready(self) -> None:
        """Reads what it prints until it serves."""
        assert self.process.stdout is not None
        while (line := (await self.process.stdout.readline()).decode().strip()) != "ready":
            assert line, "the process ended"
            kind, _, rest = line.partition(" ")
            if kind in ("rest", "mcp"):
                self.urls[kind] = rest.split()[0]


@contextlib.asynccontextmanager
async def capability(folder: Path, *arguments: str) -> AsyncGenerator[Process, None]:
    """A running process; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "perdure", "capability", "run", *arguments, "--rest-port", "0", "--mcp-port", "0",
        cwd=folder, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    made = Process(process)
    try:
        async with asyncio.timeout(20):
            await made.ready()
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_both_adapters_over_a_real_server(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    documents = [str(FOLDER / "events-api.yaml"), str(FOLDER / "workflow.yaml")]
    variables = ["--set", "EVENTS_TOKEN=a", "--set", "WORKFLOW_SIGNING_KEY=b"]
    with DevServer(tmp_path, "shop.py", "--db", ":memory:", "--no-discovery", "--no-reload") as server:
        async with (
            capability(tmp_path, *documents, *variables, "--url", server.url) as running,
            httpx2.AsyncClient(base_url=running.urls["rest"]) as rest,
            httpx2.AsyncClient(base_url=server.url) as native,
        ):
            sent = await rest.post("/e/key", json={"name": "shop/ordered", "data": {"n": 1}})
            path = f"/v1/events/{sent.json()['ids'][0]}/runs"
            while not (runs := (await rest.get(path)).json()["data"]) or runs[0]["status"] != "Completed":
                await asyncio.sleep(0.02)
            assert runs == (await native.get(path)).json()["data"]
            async with Client(f"{running.urls['mcp']}/mcp") as agent:
                assert len((await agent.list_tools()).tools) == 13
                found = await agent.call_tool("get-canonical-run", {"runId": runs[0]["run_id"]})
            native_run = (await native.get(f"/v2/runs/{runs[0]['run_id']}")).json()
            assert found.structured_content is not None
            assert found.structured_content["data"] == native_run["data"]
            running.process.send_signal(signal.SIGTERM)
            assert await running.process.wait() == 0


async def test_a_durable_operation_goes_on_after_its_process_was_killed(tmp_path: Path) -> None:
    asked: list[str] = []
    charging, may_answer = asyncio.Event(), asyncio.Event()

    async def reserve(request: Request) -> Response:
        asked.append("reserve")
        return JSONResponse({"ok": True})

    async def charge(request: Request) -> Response:
        asked.append("charge")
        charging.set()
        await may_answer.wait()
        return JSONResponse({"paid": True})

    routes = [Route("/reserve", reserve, methods=["POST"]), Route("/charge", charge, methods=["POST"])]
    (tmp_path / "order.yaml").write_text(DURABLE)
    async with asgi_server(Starlette(routes=routes)) as url:
        async with (
            capability(tmp_path, "order.yaml", "--base-uri", url) as first,
            httpx2.AsyncClient(base_url=first.urls["rest"], timeout=20) as http,
        ):
            waiting = asyncio.create_task(http.post("/orders"))
            await asyncio.wait_for(charging.wait(), 10)
            first.process.kill()
            with contextlib.suppress(httpx2.HTTPError):
                await waiting
        charging.clear()
        async with capability(tmp_path, "order.yaml", "--base-uri", url):
            await asyncio.wait_for(charging.wait(), 10)
            may_answer.set()
            await asyncio.sleep(0.2)
    assert asked == ["reserve", "charge", "charge"]
