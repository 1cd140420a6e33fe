"""A server that plays an endpoint, its relay and its output: each request gets the next of the replies in line.

A `Case` is what is replied and what a client must make of it; `tests/wire/streams/` has those that were recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from perdure.model.json import Json
from tests.support.hosting import aiohttp_server

STREAMS = Path(__file__).parents[1] / "wire" / "streams"
SSE = {"content-type": "text/event-stream"}


@dataclass
class Reply:
    """`then`: "end", "break" (the connection dies), or "hang" (nothing more comes, and nothing ends)."""

    chunks: list[str | bytes] = field(default_factory=list[str | bytes])
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: dict(SSE))
    then: str = "end"


@dataclass
class Expected:
    """`events` as (kind, what a callback of the npm client gets); `error`: a part of the message that is raised."""

    events: list[tuple[str, Json]]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str = ""
    error: str | None = None
    stream_errors: list[str] = field(default_factory=list[str])
    resumed_after: list[str] | None = None
    """The Last-Event-ID of each request to the relay, "" for none; None: not looked at."""


@dataclass
class Case:
    about: str
    endpoint: list[Reply]
    expected: Expected
    relay: list[Reply] = field(default_factory=list[Reply])
    output: list[Reply] = field(default_factory=list[Reply])


def recorded() -> dict[str, Case]:
    """The cases that were recorded, by name."""
    return {path.stem: _case(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(STREAMS.glob("*.json"))}


def _case(found: Json) -> Case:
    told = found["expected"] | {"events": [(kind, value) for kind, value in found["expected"]["events"]]}
    replies = {key: [Reply(**reply) for reply in found[key]] for key in ("endpoint", "relay")}
    return Case(found["about"], replies["endpoint"], Expected(**told), replies["relay"])


@dataclass
class Replaying:
    """The server. `requests` by path; `open`: connections that nobody has closed yet."""

    case: Case
    origin: str = ""
    open: int = 0
    requests: dict[str, list[Mapping[str, str]]] = field(default_factory=dict[str, list[Mapping[str, str]]])
    methods: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    @property
    def url(self) -> str:
        return self.origin + "/endpoint"

    async def closed(self) -> None:
        """Waits until no connection is in use any more."""
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.005)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.strip("/")
        if name == "endpoint":
            self.methods.append((request.method, await request.read()))
        asked = self.requests.setdefault(name, [])
        replies = {"endpoint": self.case.endpoint, "relay": self.case.relay, "output": self.case.output}[name]
        # The last one is given to whoever asks more often, as a server would that does not recover.
        reply = replies[min(len(asked), len(replies) - 1)]
        asked.append(request.headers)
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        self.open += 1
        try:
            await response.prepare(request)
            for chunk in reply.chunks:
                await response.write(chunk if isinstance(chunk, bytes) else self._placed(chunk))
            if reply.then == "hang":
                await asyncio.Event().wait()
            if reply.then == "break" and request.transport is not None:
                request.transport.close()
                return response
            if reply.status not in (204, 304):
                await response.write_eof()
        finally:
            self.open -= 1
        return response

    def _placed(self, chunk: str) -> bytes:
        return chunk.replace("{origin}", self.origin).encode()


@asynccontextmanager
async def replaying(case: Case) -> AsyncGenerator[Replaying]:
    """Plays a case on a free port."""
    server = Replaying(case)
    application = web.Application()
    application.router.add_route("*", "/{name:endpoint|relay|output}", server.answer)
    # A request whose client left is cancelled, which is how `open` learns of it.
    async with aiohttp_server(application, handler_cancellation=True, shutdown_timeout=1) as server.origin:
        yield server
