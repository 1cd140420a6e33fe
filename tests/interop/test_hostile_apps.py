"""Apps that treat a server badly, over real sockets: their runs end with the right error, and nobody else waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import get_args

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from perdure import Node, embedded
from perdure.apps.http import HttpTransport
from perdure.apps.run import RemoteCode
from perdure.engine import intake
from perdure.model.config import EventTrigger, FunctionConfig
from perdure.model.errors import RunCancelledError, RunFailedError
from perdure.model.json import Json, decode
from perdure.model.records import RunStatus
from perdure.runner.handle import RunHandle
from tests.support.hostile_app import HostileApp, Mode, hostile
from tests.support.hosting import asgi_server
from tests.support.remote_app import no_gateway, sha

pytestmark = pytest.mark.timeout(120)

_STEPS = ("a", "b", "c")
_OK = {"ok": True}
FINE: dict[Mode, Json] = {
    "answers": _OK, "slow_answer": _OK, "drip": _OK, "early_answer": _OK, "answers_twice": _OK, "closes_after": _OK,
    "empty": None, "not_json": "<html>", "not_utf8": '{"a":"\ufffd\ufffd"}',
}  # fmt: skip
"""What becomes the result of a function whose app answers in this way."""
_TOO_LARGE = "output_too_large"
FAILING: dict[Mode, str] = {
    "silent": "http_timeout", "drips_headers": "http_timeout", "long_length": "http_timeout",
    "no_sdk": "not_sdk", "switches": "Server returned a fatal error",
    "oversized": _TOO_LARGE, "oversized_until_closed": _TOO_LARGE, "oversized_chunks": _TOO_LARGE,
    "endless_chunks": _TOO_LARGE, "endless_body": _TOO_LARGE, "gzip_bomb": _TOO_LARGE,
    "redirects_for_ever": "too_many_redirects", "redirects_nowhere": "http_unreachable",
    "redirects_to_file": "invalid_url",
}  # fmt: skip
"""The error of a run whose app answers in this way; all other modes: the connection broke."""


async def good_app(request: Request) -> Response:
    """Three steps, one a call, and their sum."""
    memos: dict[str, Json] = (await request.json())["steps"]
    headers = {"x-inngest-sdk": "test:v1", "x-inngest-req-version": "2"}
    for number, step in enumerate(_STEPS, 1):
        if sha(step) not in memos:
            op = {"op": "StepRun", "id": sha(step), "name": step, "data": number}
            return JSONResponse([op], 206, headers)
    return JSONResponse(sum(memos[sha(step)]["data"] for step in _STEPS), 200, headers)


class Place:
    """A node that calls apps over HTTP; a call with its answer may take `timeout` seconds."""

    def __init__(self, node: Node, timeout: float) -> None:
        self.node = node
        self.http = HttpTransport(node.clock.now, timeout=timeout)

    async def register(self, app_id: str, url: str, retries: int = 1) -> str:
        """An app with one function; its id, which is the name of its event too."""
        function_id = f"{app_id}-f"
        config = FunctionConfig(function_id, app_id, "f", (EventTrigger(function_id),), retries, url=url)
        await self.node.register_configs(app_id, [config])
        self.node.runner.use([RemoteCode(function_id, app_id, url, self.http, no_gateway)])
        await self.node.decide(intake.unblock, [config])
        return function_id

    async def start(self, function_id: str, count: int) -> list[RunHandle[Json]]:
        """Runs of a function, as many as wanted."""
        accepted = await self.node.ingest([{"name": function_id}] * count)
        return [self.node.run(run_id) for (run_id,) in accepted.run_ids]


@asynccontextmanager
async def calling_apps(
    db: Path | str = ":memory:", *, timeout: float = 60, max_active: int = 1000, max_per_app: int = 1000
) -> AsyncGenerator[Place]:
    async with embedded(
        [], db=db, retry_interval=1, shutdown_timeout=0.2, max_active=max_active, max_per_app=max_per_app
    ) as node:
        place = Place(node, timeout)
        try:
            yield place
        finally:
            # As at the end of a process: what hangs is cut off.
            await node.stop()
            await place.http.close()


@asynccontextmanager
async def the_good_app() -> AsyncGenerator[str]:
    async with asgi_server(Starlette(routes=[Route("/api/inngest", good_app, methods=["POST"])])) as url:
        yield f"{url}/api/inngest?fnId=good-f&stepId=step"


async def ended(run: RunHandle[Json]) -> RunStatus:
    """How a run ended."""
    with suppress(RunFailedError, RunCancelledError):
        await run.result(timeout=30)
    return await run.status()


async def until_called(app: HostileApp, count: int) -> None:
    async with asyncio.timeout(30):
        while len(app.requests) < count:
            await asyncio.sleep(0.01)


async def test_all_kinds_of_hostility_at_once_and_a_good_app_beside_them() -> None:
    async with AsyncExitStack() as stack, the_good_app() as good_url, calling_apps(timeout=2) as place:
        started: dict[Mode, RunHandle[Json]] = {}
        for mode in get_args(Mode):
            app = await stack.enter_async_context(hostile(mode))
            app.delay = 0.02
            function_id = await place.register(mode, app.url)
            (started[mode],) = await place.start(function_id, 1)
        good = await place.start(await place.register("good", good_url), 100)
        assert [await run.result(timeout=30) for run in good] == [6] * 100
        # They hang still, and kept nobody waiting.
        assert await started["silent"].status() == RunStatus.RUNNING
        for mode, run in started.items():
            if mode in FINE:
                assert await run.result(timeout=30) == FINE[mode], mode
            else:
                await assert_failed(mode, run)
        health = await place.node.health()
    assert (health.orphans, health.leaked_slots) == ([], [])


async def assert_failed(mode: Mode, run: RunHandle[Json]) -> None:
    assert await ended(run) == RunStatus.FAILED, mode
    output = decode((await run._load()).output or b"null")
    assert output["name"] == FAILING.get(mode, "http_broken_response"), mode
    assert len(output["message"]) > 20, mode


async def test_a_thousand_hanging_runs_starve_nobody_and_can_be_cancelled() -> None:
    async with hostile("silent") as slow, the_good_app() as good_url:
        async with calling_apps(max_active=10, max_per_app=50) as place:
            slow_id = await place.register("slow", slow.url)
            hanging = await place.start(slow_id, 1100)
            await until_called(slow, 50)
            good = await place.start(await place.register("good", good_url), 100)
            assert [await run.result(timeout=30) for run in good] == [6] * 100
            assert (await place.node.health()).runs.get(RunStatus.COMPLETED) == 100
            # One decision after another takes what room it saw: a few may come too many, never all.
            assert len(slow.requests) < 1100

            # Those that hang and those that wait for them: who is cancelled makes room for the next.
            slow.mode = "answers"
            for run in hanging[:300]:
                await run.cancel()
            assert [await ended(run) for run in hanging[:300]] == [RunStatus.CANCELLED] * 300
            assert [await run.result(timeout=30) for run in hanging[500:]] == [_OK] * 600
            for run in hanging[300:500]:
                await run.cancel()
            await place.node.drain()
            health = await place.node.health()
        assert sum(health.runs.values()) == 1200
        assert (health.orphans, health.leaked_slots) == ([], [])


async def test_cancelling_a_run_hangs_up_on_its_app() -> None:
    async with hostile("silent") as app, calling_apps() as place:
        (run,) = await place.start(await place.register("slow", app.url), 1)
        await until_called(app, 1)
        await run.cancel()
        assert await ended(run) == RunStatus.CANCELLED
        async with asyncio.timeout(30):
            while not app.hung_up:
                await asyncio.sleep(0.01)
        assert len(app.requests) == 1


async def test_a_node_stops_while_calls_hang_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with hostile("silent") as app:
        async with calling_apps(tmp_path / "db") as place:
            runs = await place.start(await place.register("slow", app.url, retries=0), 20)
            await until_called(app, 20)
            async with asyncio.timeout(20):
                await place.node.stop()
        app.mode = "answers"
        async with calling_apps(tmp_path / "db") as place:
            await place.register("slow", app.url, retries=0)
            # The calls that were cut off are no attempts of theirs.
            for run in runs:
                assert await place.node.run(run.run_id).result(timeout=30) == _OK


async def test_an_app_that_dies_and_comes_back_loses_nothing() -> None:
    async with hostile("half_closed") as app, calling_apps() as place:
        runs = await place.start(await place.register("shaky", app.url, retries=20), 20)
        await until_called(app, 40)
        app.mode = "answers"
        assert [await run.result(timeout=30) for run in runs] == [_OK] * 20


async def test_connections_that_an_app_closes_after_each_answer_cost_no_attempt() -> None:
    async with hostile("closes_after") as app, calling_apps() as place:
        function_id = await place.register("closing", app.url, retries=0)
        for _ in range(5):
            runs = await place.start(function_id, 20)
            assert [await run.result(timeout=30) for run in runs] == [_OK] * 20
        assert len(app.requests) == 100
