"""The reports of a request come to any node: the one that drives its run gets them."""

from __future__ import annotations

import asyncio

import httpx2

from perdure import embedded
from perdure.server import Guard, make_app
from tests.support.endpoint_world import DOMAIN, complete
from tests.support.remote_app import op


async def test_reports_come_to_the_node_that_drives_the_run(postgres_url: str) -> None:
    async with embedded([], db=postgres_url, lifetime=4) as one, embedded([], db=postgres_url, lifetime=4) as other:
        await asyncio.sleep(0.2)
        clients = [
            httpx2.AsyncClient(transport=httpx2.ASGITransport(make_app(node, Guard())), base_url="http://perdure")
            for node in (one, other)
        ]
        run_id = one.decider.ids()
        data = {"domain": DOMAIN, "method": "GET", "path": "/f", "query_params": "", "body": "", "fn": ""}
        body = {
            "run_id": run_id, "steps": [op("StepRun", "a", 1)], "retries": 3, "request_version": 2,
            "event": {"name": "inngest/http.request", "data": data},
        }  # fmt: skip
        assert (await clients[0].post("/v1/checkpoint", json=body)).status_code == 200
        for step in ("b", "c"):
            report = {"run_id": run_id, "steps": [op("StepRun", step, step)]}
            response = await clients[1].post(f"/v1/checkpoint/{run_id}/steps", json=report)
            assert response.status_code == 200, response.text
        report = {"run_id": run_id, "steps": [complete()]}
        assert (await clients[1].post(f"/v1/checkpoint/{run_id}/steps", json=report)).status_code == 200
        ended = await other.endpoints.outcome(run_id, 5)
        assert ended is not None and ended.status == 2
        late = {"run_id": run_id, "steps": [op("StepRun", "d", 1)]}
        response = await clients[1].post(f"/v1/checkpoint/{run_id}/steps", json=late)
        assert response.status_code == 409, response.text
        for client in clients:
            await client.aclose()
