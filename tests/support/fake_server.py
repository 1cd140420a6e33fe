"""A server of the protocol that a test plays: it calls a served app until the run ends, and answers what the app asks.

It keeps everything: `calls` as (step id, status), `ops` as (op, name) in the order in which they were reported,
`checkpoints`, `events`, `signals`, `requests` as they came in, and `told`, the bytes of streams, body by body.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from aiohttp import web

from perdure.model.jcs import canonical
from perdure.model.json import Json
from perdure.model.keys import SigningKey
from tests.support.hosting import aiohttp_server

RUN_ID = "01KAP5Z3M0000000000000000A"
PATH = "/api/inngest"
NOW = 1_800_000_000_000


@dataclass
class Ended:
    """How a run ended: its result, or the error (then `result` is None)."""

    result: Json = None
    error: Json = None


@dataclass
class FakeServer:
    """`answers`: the memos of waits by step name; what has none is answered with null. `refuse`: the status that
    checkpoints get instead of 200, `tee` the one of streams. `accepts`: the only Authorization header that is."""

    http: httpx2.AsyncClient
    url: str = ""
    answers: dict[str, Json] = field(default_factory=dict[str, Json])
    refuse: int = 0
    tee: int = 200
    key: SigningKey | None = None
    checkpointing: bool = True
    calls: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    ops: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reported: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    checkpoints: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    events: list[tuple[str, str, list[Json]]] = field(default_factory=list[tuple[str, str, list[Json]]])
    signals: list[Json] = field(default_factory=list[Json])
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list[tuple[str, str, Mapping[str, str]]])
    memos: dict[str, Json] = field(default_factory=dict[str, Json])
    registered: list[Json] = field(default_factory=list[Json])
    told: list[bytearray] = field(default_factory=list[bytearray])
    accepts: str | None = None

    def body(self, event: Json = None, **ctx: Json) -> dict[str, Json]:
        """The body of a call with what is recorded so far."""
        found = {"name": "t/start", "data": {}, "id": "event-1", "ts": NOW, "user": {}, **(event or {})}
        context = {
            "run_id": RUN_ID,
            "attempt": 0,
            "max_attempts": 5,
            "disable_immediate_execution": False,
            "env": "",
            "generation_id": 1,
            "request_id": "REQ",
            "stack": {"current": len(self.memos), "stack": list(self.memos)},
            "use_api": False,
            **({"fn_id": "FN", "qi_id": "QI"} if self.checkpointing else {}),
            **ctx,
        }
        version = ctx.get("version", 2)
        return {
            "ctx": context,
            "event": found,
            "events": [found],
            "steps": dict(self.memos),
            "use_api": context["use_api"],
            "version": version,
        }

    async def call(
        self, function_id: str, step_id: str = "step", *, event: Json = None, body: Json = None, **ctx: Json
    ) -> httpx2.Response:
        """One call. `body` replaces the whole body."""
        data = canonical(self.body(event, **ctx) if body is None else body)
        headers = {"content-type": "application/json"}
        if self.key is not None:
            headers["x-inngest-signature"] = self.key.sign(data, NOW)
        query = {"fnId": function_id, "stepId": step_id}
        answer = await self.http.post(PATH, params=query, content=data, headers=headers)
        self.calls.append((step_id[:8], answer.status_code))
        return answer

    async def play(self, function_id: str, *, event: Json = None, retries: int = 4) -> Ended:
        """Calls the app until the run ends. Steps that were planned are called for one after the other."""
        planned: list[str] = []
        attempts: dict[str, int] = {}
        immediate = True
        for _ in range(100):
            target = planned.pop(0) if planned else "step"
            attempt = attempts.get(target, 0)
            answer = await self.call(
                function_id,
                target,
                event=event,
                attempt=attempt,
                max_attempts=retries + 1,
                disable_immediate_execution=target != "step" or not immediate,
            )
            if answer.status_code != 206:
                if answer.status_code == 200:
                    return Ended(result=answer.json())
                if answer.headers["x-inngest-no-retry"] == "true" or attempt == retries:
                    return Ended(error=answer.json())
                attempts[target] = attempt + 1
                planned = [target, *planned] if target != "step" else planned
                continue
            assert answer.headers.get("x-inngest-no-retry") != "true"
            failing = False
            for op in answer.json():
                self.reported.append(op)
                self.ops.append((op["op"], op.get("displayName", "")))
                if op["op"] == "RunComplete":
                    return Ended(result=op["data"])
                if op["op"] == "StepPlanned":
                    if op["id"] not in planned:
                        planned.append(op["id"])
                elif op["op"] == "StepError" and attempt < retries:
                    failing = True
                elif op["id"] not in self.memos:
                    self.memos[op["id"]] = self._memo(op)
            attempts[target] = attempt + 1 if failing else 0
            if failing and target != "step":
                planned.insert(0, target)
        raise AssertionError(f"the run did not end: {self.ops}")

    def _memo(self, op: dict[str, Json]) -> Json:
        if op["op"] == "StepRun":
            return {"data": op["data"]}
        if op["op"] in ("StepError", "StepFailed"):
            return {"error": op["error"]}
        return self.answers.get(op["displayName"])

    # What the app asks.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        if self.accepts not in (None, request.headers.get("Authorization")):
            return web.Response(text="Authentication failed", status=401)
        if request.path == "/v1/realtime/publish/tee":
            return await self._take_stream(request)
        body: Json = await request.json() if request.can_read_body else None
        match request.path.strip("/").split("/"):
            case ["fn", "register"]:
                self.registered.append(body)
                return web.json_response({"ok": True, "modified": True, "sync_id": "S", "app_id": "A"})
            case ["e", key]:
                return self._take_events(key, request.headers.get("x-inngest-event-id-seed", ""), body)
            case ["v1", "signals"]:
                self.signals.append(body)
                status = 404 if body["signal"] == "nobody" else 200
                return web.json_response({"data": {"run_id": RUN_ID}}, status=status)
            case ["v1", "checkpoint", run_id, "async"]:
                assert run_id == RUN_ID
                return self._take_checkpoint(body)
            case ["v0", "runs", _, "actions"]:
                return web.json_response(self.memos)
            case ["v0", "runs", _, "batch"]:
                return web.json_response(self.body()["events"])
            case ["page"]:
                return web.Response(text="a page", status=418)
            case _:
                return web.json_response({"error": "no such path"}, status=404)

    async def _take_stream(self, request: web.Request) -> web.Response:
        if self.tee == 200:
            self.told.append(bytearray())
            async for piece in request.content.iter_any():
                self.told[-1] += piece
        return web.json_response({"error": "the stream has enough"}, status=self.tee)

    def _take_events(self, key: str, seed: str, body: list[Json]) -> web.Response:
        bad = next((event for event in body if event["name"] == "bad"), None)
        if bad is not None:
            return web.json_response({"error": "event name is bad", "ids": [], "status": 400}, status=400)
        self.events.append((key, seed, body))
        return web.json_response({"ids": [f"ID{index}" for index, _ in enumerate(body)], "status": 200})

    def _take_checkpoint(self, body: dict[str, Json]) -> web.Response:
        self.checkpoints.append(body)
        if self.refuse:
            return web.json_response({"error": "refused"}, status=self.refuse)
        for op in body["steps"]:
            self.ops.append((f"{op['op']} (checkpoint)", op["displayName"]))
            self.memos[op["id"]] = self._memo(op)
        return web.Response()


@asynccontextmanager
async def fake_server() -> AsyncGenerator[FakeServer, None]:
    """A fake server on a free port. `server.http` is to be set to a client of the app."""
    async with httpx2.AsyncClient() as nobody:
        server = FakeServer(nobody)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", server.handle)
        async with aiohttp_server(application) as server.url:
            yield server
