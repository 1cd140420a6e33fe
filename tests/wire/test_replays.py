"""Replays over HTTP: which runs they choose, that they do nothing twice, and what they refuse."""

from __future__ import annotations

from functools import partial

import pytest

from perdure import App
from perdure.engine import replays
from perdure.engine.retention import delete_events
from perdure.engine.schedule import Refused
from perdure.model.json import Json
from perdure.model.records import RunStatus
from tests.support.wire import Wire

BOOM = "/v2/apps/shop/functions/boom/replay"


async def post(wire: Wire, path: str, body: Json = None, status: int = 200) -> Json:
    response = await wire.http.post(path, json={} if body is None else body)
    assert response.status_code == status, response.text
    await wire.node.settle()
    return response.json()


async def failed(wire: Wire, count: int) -> list[str]:
    """Runs that failed, one a second."""
    run_ids: list[str] = []
    for n in range(count):
        run_ids.append(await wire.start("t/boom", {"n": n}))
        await wire.clock.advance("1s")
    await wire.clock.advance("1h")
    return run_ids


async def originals(wire: Wire) -> list[str | None]:
    runs = (await wire.http.get("/v1/runs?limit=100&order=ASC&function_id=boom")).json()["data"]
    return [run.get("original_run_id") for run in runs]


async def test_failed_runs_are_done_once_more(wire: Wire) -> None:
    run_ids = await failed(wire, 3)
    await wire.start("t/plain")
    replay = (await post(wire, BOOM))["data"]
    assert (replay["runCount"], replay["skippedCount"]) == (3, 0)
    assert replay["createdAt"] == replay["endedAt"]
    assert await originals(wire) == [None, None, None, *run_ids]


async def test_a_replay_of_an_id_does_nothing_twice(wire: Wire) -> None:
    run_ids = await failed(wire, 2)
    first = (await post(wire, BOOM, {"replayId": "monday"}))["data"]
    await wire.clock.advance("1h")
    again = (await post(wire, "/api" + BOOM, {"replayId": "monday"}))["data"]
    assert first == again and first["id"] == "monday"
    assert await originals(wire) == [None, None, *run_ids]
    other = await post(wire, BOOM, {"replayId": "monday", "status": ["COMPLETED"]}, 409)
    assert other["errors"][0]["code"] == "replay_mismatch"
    # Under another name the reruns, which failed as well, are replayed with the rest.
    assert (await post(wire, BOOM))["data"]["runCount"] == 4


async def test_a_replay_that_was_interrupted_goes_on(wire: Wire) -> None:
    run_ids = await failed(wire, 3)
    choice = replays.Choice()
    await wire.node.decide(replays.begin, "monday", "shop-boom", choice)
    page = await wire.node.decide(partial(replays.advance, limit=2), "monday")
    assert not isinstance(page, Refused) and (page.started, page.ended_at) == (2, None)
    # Meanwhile another run fails; it is none of this replay's.
    await wire.start("t/boom")
    await wire.clock.advance("1h")
    done = (await post(wire, BOOM, {"replayId": "monday"}))["data"]
    assert done["runCount"] == 3
    assert sorted(filter(None, await originals(wire))) == run_ids


async def test_runs_are_chosen_by_status_and_time(wire: Wire) -> None:
    run_ids = await failed(wire, 4)
    body = {"from": "2027-01-15T08:00:01Z", "until": "2027-01-15T08:00:02Z", "status": ["failed", "CANCELLED"]}
    assert (await post(wire, BOOM, body))["data"]["runCount"] == 2
    assert list(filter(None, await originals(wire))) == run_ids[1:3]
    assert (await post(wire, BOOM, {"status": ["COMPLETED"]}))["data"]["runCount"] == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"status": "FAILED"}, "status must be a list of COMPLETED, FAILED, CANCELLED, SKIPPED"),
        ({"status": []}, "status must be a list of COMPLETED, FAILED, CANCELLED, SKIPPED"),
        ({"status": ["RUNNING"]}, "status is invalid: runs that have ended are COMPLETED, FAILED, CANCELLED, SKIPPED"),
        ({"from": 5}, "from must be a time, such as 2027-01-15T08:00:00Z"),
        ({"until": "soon"}, "until: "),
        ({"from": "2027-01-15T08:00:01Z", "until": "2027-01-15T08:00:00Z"}, "from must not be after until"),
        ({"replayId": ""}, "replayId must be a text of 1 to 128 characters"),
        ({"replayId": "x" * 129}, "replayId must be a text of 1 to 128 characters"),
        ({"since": 1}, "unknown field 'since'; known are from, until, status, replayId"),
    ],
)
async def test_a_malformed_replay(wire: Wire, body: Json, message: str) -> None:
    (told,) = (await post(wire, BOOM, body, 400))["errors"]
    assert told["message"].startswith(message)


async def test_what_cannot_be_replayed(wire: Wire) -> None:
    await failed(wire, 2)
    assert (await post(wire, BOOM.replace("boom", "nope"), {}, 404))["errors"][0]["code"] == "not_found"
    await post(wire, BOOM.replace("replay", "pause"))
    assert (await post(wire, BOOM, {"replayId": "r"}, 422))["errors"][0]["code"] == "function_skipped"
    await post(wire, BOOM.replace("replay", "resume"))
    assert (await post(wire, BOOM, {"replayId": "r"}))["data"]["runCount"] == 2, "it goes on"
    await wire.node.register(App("shop"))
    await post(wire, BOOM, {}, 404)


async def test_runs_that_cannot_be_started_again_are_counted(wire: Wire) -> None:
    (run_id,) = await failed(wire, 1)
    event_id = (await wire.http.get(f"/v1/runs/{run_id}")).json()["data"]["event_id"]
    await wire.node.decide(delete_events, [event_id])
    replay = (await post(wire, BOOM))["data"]
    assert (replay["runCount"], replay["skippedCount"]) == (0, 1)


async def test_a_replay_in_process(wire: Wire) -> None:
    run_id = await wire.start("t/plain", {"k": 1})
    replay = await wire.node.replay("shop-plain", statuses=[RunStatus.COMPLETED])
    await wire.node.settle()
    assert replay.started == 1
    runs = (await wire.http.get("/v1/runs?function_id=plain")).json()["data"]
    assert runs[0]["original_run_id"] == run_id and runs[0]["output"] == {"got": {"k": 1}}


async def test_a_long_replay_takes_several_pages(wire: Wire) -> None:
    await wire.send([{"name": "t/plain"}] * 120)
    await wire.node.settle()
    body = {"status": ["COMPLETED"]}
    assert (await post(wire, "/v2/apps/shop/functions/plain/replay", body))["data"]["runCount"] == 120
