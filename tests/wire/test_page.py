"""The page's files, what it asks of the API, and the stream that says when something has changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from perdure import App, Context, embedded, step
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import make_app
from perdure.server.auth import Guard
from perdure.server.live import changes
from perdure.server.live import routes as live_routes
from perdure.server.page import page_files
from perdure.server.realtime.events import Timing
from tests.support.wire import Wire

KEYS = Keys([EventKey.parse("key")], [SigningKey.parse("signkey-test-00112233")])
BUDGET = 150 * 1024
UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"


def test_the_whole_page_is_small() -> None:
    assert sum(map(len, page_files().values())) < BUDGET


def test_no_file_of_the_page_asks_another_origin_or_writes_markup() -> None:
    for name, content in page_files().items():
        text = content.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg|localhost)", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        if name.endswith(".html"):
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/views/runs.js", "/page/page.css", "/page/icon.svg"])
async def test_files_are_open_and_guarded_by_a_policy(wire: Wire, path: str) -> None:
    guarded = make_app(wire.node, Guard(KEYS))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(guarded), base_url="http://perdure") as http:
        answer = await http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = await http.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304
        assert (await http.get("/v2/runs")).status_code == 401


async def test_the_page_of_an_engine_that_is_mounted_has_its_files_below(wire: Wire) -> None:
    mounted = Starlette(routes=[Mount("/perdure", wire.node.asgi())])
    transport = httpx2.ASGITransport(mounted)
    async with httpx2.AsyncClient(transport=transport, base_url="http://perdure", follow_redirects=True) as http:
        index = await http.get("/perdure")
        assert str(index.url) == "http://perdure/perdure/"
        for path in re.findall(r'(?:src|href)="(page/[^"]+)"', index.text):
            assert (await http.get(f"/perdure/{path}")).status_code == 200
        assert (await http.get("/perdure/session")).json()["role"] == "admin"


@pytest.mark.parametrize("path", ["/page/", "/page/nothing.js", "/page/../pyproject.toml", "/page/views/"])
async def test_nothing_else_is_a_file_of_the_page(wire: Wire, path: str) -> None:
    assert (await wire.http.get(path)).status_code == 404


async def test_a_run_is_shown_with_its_steps(wire: Wire) -> None:
    run_id = await wire.start("t/flaky", {"k": 1})
    shown = (await wire.http.get(f"/v2/runs/{run_id}/steps")).json()["data"]
    (step,) = shown["steps"]
    assert (step["name"], step["status"], step["op"], len(step["attempts"])) == ("try", "RETRYING", "RUN", 1)
    assert "dueAt" in step and shown["driver"]["state"] == "PARKED" and not shown["streamed"]
    assert shown["events"][0]["data"] == {"k": 1} and shown["run"]["slug"] == "shop-flaky"
    one = (await wire.http.get(f"/v2/runs/{run_id}/steps/{step['id']}")).json()["data"]
    assert one["attempts"][0]["error"]["message"] == "not yet"
    await wire.clock.advance("1m")
    one = (await wire.http.get(f"/v2/runs/{run_id}/steps/{step['id']}")).json()["data"]
    assert (one["status"], one["output"], one["attempt"]) == ("COMPLETED", "at last", 1)


async def test_a_step_is_skipped_and_woken_over_http(wire: Wire) -> None:
    run_id = await wire.start("t/wait")
    assert (await wire.http.post(f"/v2/runs/{run_id}/steps/nap/wake")).status_code == 200
    await wire.node.settle()
    answer = await wire.http.post(f"/v2/runs/{run_id}/steps/approval/skip", json={"data": {"by": "Ada"}})
    assert answer.json()["data"]["runId"] == run_id
    await wire.node.settle()
    run = (await wire.http.get(f"/v2/runs/{run_id}?includeOutput=true")).json()["data"]
    assert (run["status"], run["output"]) == ("COMPLETED", True)
    again = await wire.http.post(f"/v2/runs/{run_id}/steps/approval/skip", json={})
    assert (again.status_code, again.json()["errors"][0]["code"]) == (409, "run_ended")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"{UNKNOWN}/steps/nap/skip", {}, 404),
        ("{run}/steps/nothing/skip", {}, 404),
        ("{run}/steps/nap/skip", {"data": 1}, 400),
        ("{run}/steps/nap/skip", {"value": 1}, 400),
        ("{run}/steps/nap/wake", {"data": 1}, 400),
        ("nonsense/steps/nap/wake", {}, 400),
    ],
)
async def test_what_cannot_be_skipped_is_refused(wire: Wire, path: str, body: object, status: int) -> None:
    run_id = await wire.start("t/wait")
    answer = await wire.http.post(f"/v2/runs/{path.format(run=run_id)}", json=body)
    assert answer.status_code == status and answer.json()["errors"][0]["message"]


async def test_runs_are_found_by_text_and_by_conditions(wire: Wire) -> None:
    ids = [await wire.start("t/plain", {"n": n, "who": "Zoë" if n == 1 else "Bob"}) for n in range(4)]
    await wire.start("t/boom", {"n": 9})

    async def found(**query: str) -> list[str]:
        answer = await wire.http.get("/v2/runs", params=query)
        assert answer.status_code == 200
        return [run["id"] for run in answer.json()["data"]]

    assert await found(text="zoË") == [ids[1]]
    assert await found(query="event.data.n >= 2 && event.data.n < 9") == [ids[3], ids[2]]
    assert await found(query="event.data.n >= 2", text="Bob", limit="1") == [ids[3]]
    assert await found(query='output.got.who == "Bob"') == [ids[3], ids[2], ids[0]]
    refused = await wire.http.get("/v2/runs", params={"query": "event.data.("})
    assert refused.status_code == 400 and refused.json()["errors"][0]["message"].startswith("query: ")


async def test_failures_activity_flow_and_system_are_told(wire: Wire) -> None:
    for n in range(3):
        await wire.start("t/boom", {"n": n})
    await wire.clock.advance("1h")
    (group,) = (await wire.http.get("/v2/failures")).json()["data"]
    assert (group["count"], group["error"]) == (3, {"name": "ValueError", "message": "boom"})
    activity = (await wire.http.get("/v2/apps/shop/functions/boom/activity?hours=24")).json()["data"]
    assert sum(each["count"] for each in activity["buckets"]) == 3
    assert (await wire.http.get("/v2/activity?hours=0")).status_code == 400
    flow = (await wire.http.get("/v2/apps/shop/functions/waiter/flow")).json()["data"]
    assert flow == {"keys": [], "nextTicks": []}
    system = (await wire.http.get("/v2/system")).json()["data"]
    assert system["runs"]["failed"] == 3 and system["nodes"][0]["alive"] and system["storeBytes"] > 0


class Changes:
    """What `GET /v2/changes` says, piece by piece, without a socket."""

    def __init__(self, wire: Wire, known: str = "", draining: bool = False) -> None:
        self._wire, self._known, self._draining = wire, known, draining

    async def __aenter__(self) -> AsyncGenerator[bytes]:
        self._pieces = changes(self._wire.node, self._known, lambda: self._draining, Timing())
        return self._pieces

    async def __aexit__(self, *_: object) -> None:
        await self._pieces.aclose()


def _id(piece: bytes) -> str:
    found = re.fullmatch(rb"id: (\S+)\ndata: \1\n\n", piece)
    assert found is not None, piece
    return found[1].decode()


async def test_changes_are_told_once_and_nothing_to_who_knows(wire: Wire) -> None:
    async with asyncio.timeout(30):
        async with Changes(wire) as pieces:
            assert await anext(pieces) == b":\n\n"
            first = _id(await anext(pieces))
            for _ in range(20):
                await wire.start("t/plain")
            second = _id(await anext(pieces))
            assert first != second
        async with Changes(wire, second) as pieces:
            assert await anext(pieces) == b":\n\n"
            waiting = asyncio.ensure_future(anext(pieces))
            await wire.start("t/plain")
            assert _id(await waiting) != second
        async with Changes(wire, draining=True) as pieces:
            assert [piece async for piece in pieces] == [b":\n\n"]


async def test_the_streams_have_routes_below_both_mounts(wire: Wire) -> None:
    paths = [route.path for route in live_routes(wire.node, lambda: False)]
    assert paths == [
        "/v2/changes",
        "/v2/runs/{run_id}/stream",
        "/api/v2/changes",
        "/api/v2/runs/{run_id}/stream",
    ]


async def test_a_step_in_its_first_attempt_is_shown_while_it_executes() -> None:
    app, begun, go_on = App("shop"), asyncio.Event(), asyncio.Event()

    async def bake() -> str:
        begun.set()
        await go_on.wait()
        return "bread"

    @app.function("baker", trigger="t/bake")
    async def baker(ctx: Context) -> str:
        await step.run("knead", lambda: 1)
        return await step.run("bake", bake)

    async with embedded(app, db=":memory:") as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
            (event_id,) = await node.send([{"name": "t/bake", "data": {}}])
            async with asyncio.timeout(30):
                await begun.wait()
            (run,) = await node.runs_of(event_id)
            path = f"/v2/runs/{run.run_id}/steps"
            knead, baking = (await http.get(path)).json()["data"]["steps"]
            assert (knead["status"], baking["name"], baking["status"]) == ("COMPLETED", "bake", "RUNNING")
            assert "startedAt" in baking and "endedAt" not in baking
            one = (await http.get(f"{path}/{baking['id']}")).json()["data"]
            assert (one["status"], one["attempts"], one["options"]) == ("RUNNING", [], {})
            assert (await http.post(f"{path}/{baking['id']}/skip", json={})).status_code == 404
            go_on.set()
            async with asyncio.timeout(30):
                assert await run.result() == "bread"
            _, baked = (await http.get(path)).json()["data"]["steps"]
            assert (baked["status"], baked["attempt"]) == ("COMPLETED", 0)
            assert node.executing(run.run_id) == ()


async def test_what_is_counted_over_all_runs_is_counted_a_tenth_of_the_time(wire: Wire) -> None:
    counted: list[int] = []
    health = wire.node.health

    async def slow() -> object:
        counted.append(wire.clock.now())
        await wire.clock.advance("1s")
        return await health()

    wire.node.health = slow  # type: ignore[method-assign, assignment]
    for _ in range(3):
        await asyncio.gather(*(wire.http.get("/v2/system") for _ in range(5)))
    assert len(counted) == 1
    await wire.clock.advance("11s")
    assert (await wire.http.get("/v2/system")).status_code == 200
    assert len(counted) == 2
