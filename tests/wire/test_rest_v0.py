"""What is left of the v0 API besides the routes of apps."""

from __future__ import annotations

from tests.support.graphql import UNKNOWN
from tests.support.wire import Wire


async def test_v0_cancels_runs(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    for _ in range(2):
        assert (await wire.http.delete(f"/v0/runs/{run_id}")).status_code == 204
    assert (await wire.http.get(f"/v1/runs/{run_id}")).json()["data"]["status"] == "Cancelled"
    unknown = await wire.http.delete(f"/v0/runs/{UNKNOWN}")
    assert (unknown.status_code, unknown.json()["error"]) == (
        404,
        "A function run with the given ID could not be found",
    )
    assert (await wire.http.delete("/v0/runs/zzz")).status_code == 400


async def test_v0_takes_telemetry(wire: Wire) -> None:
    assert (await wire.http.post("/v0/telemetry", json={"any": "thing"})).status_code == 204
