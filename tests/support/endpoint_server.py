"""A server of endpoints that a test plays: it takes what an app reports, and makes requests again until a run ends.

Nothing is waited for: sleeps are over at once, and what a wait gives is in `answers`, by step name. It keeps all:
`reports` as (path, operations), `requests` as they came, `calls` as (status, operations), `told` as the bytes of tees.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from aiohttp import web

from perdure.model.json import Json, decode
from perdure.model.keys import SigningKey
from tests.support.hosting import aiohttp_server

NOW = 1_800_000_000_000
BROKEN = "broken"


@dataclass
class PlayedRun:
    """One run. `result` is what it put out, or `error` why it failed."""

    id: str
    request: dict[str, Json]
    retries: int
    memos: dict[str, Json] = field(default_factory=dict[str, Json])
    planned: list[str] = field(default_factory=list[str])
    names: dict[str, str] = field(default_factory=dict[str, str])
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    result: Json = None
    error: Json = None
    over: bool = False
    suspended: bool = False


@dataclass
class EndpointServer:
    """`fail`: what reports get instead of being taken, one after the other: a status, or BROKEN for no answer.

    `lose`: how many reports are taken without an answer. `keeps`: whether what an app adds to a request is kept.
    `goes_on`: a step that failed for good does not end the first request. `patience`: how long silence may last.
    """

    url: str = ""
    fail: list[int | str] = field(default_factory=list[int | str])
    lose: int = 0
    keeps: bool = True
    goes_on: bool = False
    patience: dict[str, float] = field(default_factory=dict[str, float])
    key: SigningKey | None = None
    accepts: str | None = None
    answers: dict[str, Json] = field(default_factory=dict[str, Json])
    runs: dict[str, PlayedRun] = field(default_factory=dict[str, PlayedRun])
    reports: list[tuple[str, list[Json]]] = field(default_factory=list[tuple[str, list[Json]]])
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list[tuple[str, str, Mapping[str, str]]])
    calls: list[tuple[int, Json]] = field(default_factory=list[tuple[int, Json]])
    headers: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    told: list[bytes] = field(default_factory=list[bytes])
    events: list[Json] = field(default_factory=list[Json])

    @property
    def ops(self) -> list[tuple[str, str]]:
        """What was reported: (operation, name), in order."""
        return [(op["op"], op.get("displayName", "")) for _, ops in self.reports for op in ops]

    @property
    def run(self) -> PlayedRun:
        """The one run."""
        (run,) = self.runs.values()
        return run

    # What the app asks.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        if self.accepts not in (None, request.headers.get("Authorization")):
            return web.Response(text="Authentication failed", status=401)
        match request.path.strip("/").split("/"):
            case ["v1", "checkpoint"]:
                return await self._begin(request, await request.json())
            case ["v1", "checkpoint", run_id, "steps"]:
                return await self._steps(request, run_id, await request.json())
            case ["v0", "runs", run_id, "batch"]:
                run = self.runs.get(run_id)
                if run is None:
                    return web.json_response({"error": "run not found", "status": 410}, status=410)
                event = {"name": "inngest/http.request", "data": run.request, "id": "E", "ts": NOW, "user": {}}
                return web.json_response([event])
            case ["v0", "runs", run_id, "actions"]:
                return web.json_response(self.runs[run_id].memos if run_id in self.runs else {})
            case ["v1", "realtime", "publish", "tee"]:
                self.told.append(await request.read())
                return web.Response()
            case ["v1", "http", "runs", run_id, "output"]:
                return self._output(run_id, request.query.get("token"))
            case ["v1", "realtime", "sse"]:
                return self._stream(request)
            case ["e", _]:
                self.events.append(await request.json())
                return web.json_response({"ids": ["ID"], "status": 200})
            case _:
                return web.json_response({"error": "no such path"}, status=404)

    def _refusal(self, request: web.Request) -> web.Response | None:
        failure = self.fail.pop(0) if self.fail else None
        if failure == BROKEN:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response({"error": "refused by the test"}, status=int(failure)) if failure else None

    async def _begin(self, request: web.Request, body: dict[str, Json]) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        run_id = body["run_id"]
        data = dict(body["event"]["data"])
        if not self.keeps:
            data["body"] = base64.b64encode(base64.b64decode(data["body"])).decode()
            data = {key: value for key, value in data.items() if key not in ("body_encoding", "headers", "stream")}
        self.runs.setdefault(run_id, PlayedRun(run_id, data, body["retries"]))
        self._take("/v1/checkpoint", run_id, body["steps"])
        if self.lose:
            self.lose -= 1
            return self._lost(request)
        told = {"fn_id": "F", "app_id": "A", "run_id": run_id, "token": f"T-{run_id}", "realtime_token": f"R-{run_id}"}
        return web.json_response({"data": {**told, **self.patience, **({"goes_on": True} if self.goes_on else {})}})

    async def _steps(self, request: web.Request, run_id: str, body: dict[str, Json]) -> web.Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        self._take("/steps", run_id, body["steps"])
        if self.lose:
            self.lose -= 1
            return self._lost(request)
        return web.Response()

    def _lost(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    def _take(self, path: str, run_id: str, ops: list[Json]) -> None:
        self.reports.append((path, ops))
        run = self.runs[run_id]
        for op in ops:
            self._record(run, op, 0)

    def _record(self, run: PlayedRun, op: dict[str, Json], attempt: int) -> None:
        kind, step = op["op"], op["id"]
        run.names[step] = op.get("displayName", "")
        if kind == "RunComplete":
            run.over, run.result = True, op["data"]
        elif kind == "StepRun":
            run.memos.setdefault(step, {"data": op["data"]})
        elif kind == "StepPlanned":
            run.suspended = True
            if step not in run.planned and step not in run.memos:
                run.planned.append(step)
        elif kind in ("StepError", "StepFailed"):
            run.suspended = not (kind == "StepFailed" and self.goes_on)
            if kind == "StepFailed" or attempt >= run.retries:
                if "displayName" in op:
                    run.memos[step] = {"error": op["error"]}
                else:
                    run.over, run.error = True, op["error"]
        else:
            run.suspended = True
            run.memos.setdefault(step, self.answers.get(op["displayName"]))

    def _output(self, run_id: str, token: str | None) -> web.Response:
        run = self.runs.get(run_id)
        if run is None or token != f"T-{run_id}":
            return web.json_response({"error": "Unable to find run with auth token", "status": 401}, status=401)
        if run.error is not None:
            return web.json_response({"error": run.error}, status=500)
        result: dict[str, Json] = run.result
        body = base64.b64decode(result["body_b64"]) if "body_b64" in result else result["body"].encode()
        response = web.Response(status=result["status"], body=body)
        response.headers.clear()
        for name, value in result.get("headers_list") or result["headers"].items():
            response.headers.add(name, value)
        return response

    def _stream(self, request: web.Request) -> web.Response:
        after = request.headers.get("last-event-id", "")
        return web.Response(body=f"id: {after or 0}\n\n".encode(), content_type="text/event-stream")

    # What the server asks.

    async def call(self, http: httpx2.AsyncClient, run: PlayedRun, step: str | None = None) -> httpx2.Response:
        """Makes the request of a run again, for one step if there is one."""
        data = run.request
        body = base64.b64decode(data["body"])
        headers: dict[str, str] = {
            "user-agent": "server",
            "content-type": data["content_type"] or "application/json",
            "x-run-id": run.id,
            "x-inngest-signature": self.key.sign(body, NOW) if self.key is not None else "",
            "x-request-id": f"Q{len(self.calls)}",
            **data.get("headers", {}),
        }
        told: dict[bytes, bytes] = {name.encode(): value.encode() for name, value in headers.items()}
        if step is not None:
            told |= {b"x-inngest-step-id": step.encode(), b"x-inngest-force-step-plan": b"true"}
        url = f"{data['path']}?{data['query_params']}" if data["query_params"] else data["path"]
        answer = await http.request(data["method"], url, content=body, headers=told)
        self.calls.append((answer.status_code, decode(answer.content) if answer.content else None))
        self.headers.append(dict(answer.headers))
        return answer

    async def play(self, http: httpx2.AsyncClient, run: PlayedRun | None = None) -> PlayedRun:
        """Makes the request again until the run is over."""
        run = run or self.run
        first = True
        for _ in range(50):
            if run.over:
                return run
            step = run.planned[0] if run.planned else None
            key = step or "step"
            attempt = run.attempts.get(key, 1 if first and step is None and not run.memos else 0)
            answer = await self.call(http, run, step)
            first = False
            found = decode(answer.content)
            if answer.status_code == 206:
                failing = False
                for op in found if isinstance(found, list) else [found]:
                    tries = run.attempts.get(op["id"], attempt)
                    failing = op["op"] == "StepError" and tries < run.retries
                    run.attempts[op["id"]] = tries + 1
                    self._record(run, op, tries)
                if step is not None and not failing:
                    run.planned.remove(step)
            elif answer.headers.get("x-inngest-no-retry") == "true" or attempt >= run.retries:
                run.over, run.error = True, found
            else:
                run.attempts[key] = attempt + 1
        raise AssertionError(f"the run did not end: {self.calls}")


@asynccontextmanager
async def endpoint_server() -> AsyncGenerator[EndpointServer, None]:
    """A server on a free port."""
    server = EndpointServer()
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", server.handle)
    async with aiohttp_server(application) as server.url:
        yield server


async def until(holds: Callable[[], object], within: float = 5.0) -> None:
    """Waits until a callable says yes."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.002)


def events_in(text: str) -> list[tuple[str, Json]]:
    """The events of a stream: (name without its prefix, data)."""
    found: list[tuple[str, Json]] = []
    for block in filter(None, text.split("\n\n")):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: inngest."), decode(data.removeprefix("data: "))))
    return found
