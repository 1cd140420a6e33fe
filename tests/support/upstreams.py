"""Upstreams of capabilities for tests: one that answers from a table and remembers, and a real server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import httpx2

from perdure.capability.arguments import arguments
from perdure.capability.calling import Caller
from perdure.capability.loading import Opened, open_file, open_text
from perdure.capability.performing import Performer
from perdure.capability.rest import Face
from perdure.capability.running import Running, face
from perdure.capability.upstream import Reply, Request
from perdure.model.json import Json, encode
from perdure.server import make_app
from perdure.server.backend import Backend

FOLDER = Path(__file__).parent / "capabilities"
JSON_HEADERS = {"content-type": "application/json"}


class FakeUpstream:
    """Answers requests by a function, and remembers them. A value that is no `Reply` is sent as JSON."""

    def __init__(self, answers: Callable[[Request], Json]) -> None:
        self._answers = answers
        self.requests: list[Request] = []

    async def send(self, request: Request, max_size: int) -> Reply:
        self.requests.append(request)
        answer = self._answers(request)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(200, dict(JSON_HEADERS), encode(answer))

    @property
    def last(self) -> Request:
        return self.requests[-1]


class ServerUpstream:
    """A perdure server in this process."""

    def __init__(self, node: Backend) -> None:
        self._http = httpx2.AsyncClient(transport=httpx2.ASGITransport(make_app(node)))
        self.requests: list[Request] = []

    async def send(self, request: Request, max_size: int) -> Reply:
        self.requests.append(request)
        url = f"{request.url}?{urlencode(request.query)}" if request.query else request.url
        answer = await self._http.request(request.method, url, headers=request.headers, content=request.body)
        return Reply(answer.status_code, dict(answer.headers), answer.content)


def opened(text: str, files: Mapping[str, str] | None = None) -> Opened:
    """A document from its text, with other files by name."""

    def load(location: str) -> str:
        try:
            return (files or {})[location.removeprefix("./")]
        except KeyError as error:
            raise FileNotFoundError(2, "No such file or directory", location) from error

    return open_text(text, "test.yaml", load)


def running(document: Opened | str, upstream: FakeUpstream | ServerUpstream, **given: str) -> Running:
    """A document (or a file of `capabilities/`) ready to be run, with its variables."""
    one = open_file(FOLDER / document) if isinstance(document, str) else document
    variables = one.bind({}, given)
    one.findings.raise_errors()
    placed = {each.namespace: "http://perdure" for each in one.capability.consumers if "inngest" in each.base_uri}
    return Running(one, Performer(one.capability, Caller(variables, upstream, placed)), placed)


def faces(one: Running, kind: str) -> list[Face]:
    """The adapters of a kind."""
    return [face(one, each, local_only=False) for each in one.opened.capability.exposures if each.kind == kind]


async def perform(one: Running, name: str, **given: Json) -> Json:
    """Carries out a tool by its name; the JSON that comes of it."""
    for exposure in one.opened.capability.exposures:
        for tool in exposure.tools:
            if tool.action.name == name:
                found = arguments(one.opened.capability, exposure, tool.action)
                outcome = await one.performer.perform(exposure, tool.action, found, given)
                return outcome.value if outcome.result is None else outcome.result.value
    raise LookupError(name)
