"""Requests that become runs, as their apps report them, and the answers that their callers come for.

`POST /v1/checkpoint` begins a run, `POST /v1/checkpoint/{run}/steps` reports on; `GET .../output` waits for the end and
answers as the endpoint would have. Whoever asks for the answer shows the token that the app was given for the run: it
is signed with a secret of this installation, and good for as long as a run can wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.apps.endpoint import LimitError
from perdure.apps.endpoints import BusyError
from perdure.apps.run import StaleCallError, UnknownRunError
from perdure.model.errors import NotFoundError, error_info
from perdure.model.ids import is_ulid
from perdure.model.json import Json, encode
from perdure.model.limits import MAX_REPLY_BYTES, MAX_WAIT
from perdure.model.records import Run, RunStatus
from perdure.server.auth import Guard
from perdure.server.backend import Backend
from perdure.server.bodies import read_body
from perdure.server.envelope import JSON_TYPE, ApiError, error_reply, reply, v1
from perdure.server.realtime import issue_token
from perdure.server.tokens import Claims, TokenError, sign, verify
from perdure.wire.endpoints import EndpointError, answer_of, goes_on, parse_new_run, reported_ops
from perdure.wire.identity import uuid_of
from perdure.wire.ops import FatalOpError, MalformedOpsError
from perdure.wire.realtime import STREAM_TOPIC, Topic

LONGEST_POLL: Final = 300.0
"""How long one request for an answer waits (seconds)."""
_ISSUER: Final = "api.inngest.com"
_SUBJECT: Final = "run-claim"
_PURPOSE: Final = "run"
_TOKEN_LIFETIME: Final = 2 * MAX_WAIT
_PREFIXES: Final = ("/v1/checkpoint", "/v1/http/runs")
_OF_THE_ORIGIN: Final = frozenset({"clear-site-data", "service-worker-allowed", "content-security-policy"})
"""Headers that would speak for the server's origin, where the app's answer is told."""
_METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def routes(backend: Backend, guard: Guard) -> list[Route]:
    """The routes of endpoints."""
    api = _Api(backend, guard)
    return [
        route
        for prefix in _PREFIXES
        for route in (
            Route(prefix, api.begin, methods=["POST"]),
            Route(f"{prefix}/{{id}}/steps", api.steps, methods=["POST"]),
            Route(f"{prefix}/{{id}}/output", api.output, methods=_METHODS),
        )
    ]


class _Api:
    def __init__(self, backend: Backend, guard: Guard) -> None:
        self._backend = backend
        self._guard = guard

    async def begin(self, request: Request) -> Response:
        body, now = await _body(request), self._backend.clock.now()
        try:
            new = parse_new_run(body, now)
            function = await self._backend.endpoints.begin(new)
        except _REFUSALS as error:
            return _refusal(request, error)
        answer: dict[str, Json] = {
            "fn_id": uuid_of(function.id),
            "app_id": uuid_of(function.app_id),
            "run_id": new.run_id,
            "token": self._token(new.run_id, now),
            "realtime_token": self._stream_token(new.run_id, now),
        }
        if new.goes_on:
            # An app of ours: it goes on after a step that failed for good, and says in time that it is still there.
            patience = self._backend.endpoints.patience
            answer |= {"goes_on": True, "silence": patience.silence, "grace": patience.grace}
        return v1(answer, now)

    def _token(self, run_id: str, now: int) -> str:
        claims = Claims(_ISSUER, _SUBJECT, run_id, {"Env": self._guard.environment_id, "RunID": run_id})
        return sign(claims, self._backend.secret(_PURPOSE), now=now, lifetime=_TOKEN_LIFETIME)

    def _stream_token(self, run_id: str, now: int) -> str:
        secret = self._guard.secret("realtime", self._backend.secret)
        return issue_token(
            [Topic(run_id, STREAM_TOPIC)],
            secret,
            now=now,
            token_id=run_id,
            lifetime=_TOKEN_LIFETIME,
            environment_id=self._guard.environment_id,
        )

    async def steps(self, request: Request) -> Response:
        run_id, body = _run_id(request), await _body(request)
        try:
            ops = reported_ops(body, self._backend.clock.now())
            await self._backend.endpoints.report(run_id, ops, goes_on=goes_on(body))
        except _REFUSALS as error:
            return _refusal(request, error)
        return Response(status_code=200, media_type=JSON_TYPE)

    async def output(self, request: Request) -> Response:
        run_id: str = request.path_params["id"]
        if not self._may_read(request, run_id):
            raise ApiError(401, "Unable to find run with auth token")
        try:
            waiting = self._backend.endpoints.outcome(run_id, LONGEST_POLL)
            run = await _unless_gone(request, waiting)
        except NotFoundError as error:
            raise ApiError(404, str(error)) from error
        if run is None:
            minutes = f"{LONGEST_POLL / 60:g} minutes"
            return reply({"status": "running", "message": f"run did not end within {minutes}"})
        return _answer(run)

    def _may_read(self, request: Request, run_id: str) -> bool:
        token = request.query_params.get("token", "")
        try:
            claims = verify(token, self._backend.secret(_PURPOSE), issuer=_ISSUER, now=self._backend.clock.now())
        except TokenError:
            return False
        return claims.subject == _SUBJECT and claims.extra.get("RunID") == run_id


_STATUSES: Final[dict[type[Exception], int]] = {
    EndpointError: 400,
    MalformedOpsError: 400,
    FatalOpError: 400,
    UnknownRunError: 404,
    StaleCallError: 409,
    LimitError: 413,
    BusyError: 503,
}
"""Why a report is refused. Who is told 503 is to send it again; for all else that is useless."""
_REFUSALS: Final = tuple(_STATUSES)


def _refusal(request: Request, error: Exception) -> Response:
    status = _STATUSES[type(error)]
    headers = {"retry-after": "1"} if status == 503 else None
    return error_reply(request.url.path, ApiError(status, str(error)), headers)


async def _body(request: Request) -> bytes:
    return await read_body(request.scope, request.receive, MAX_REPLY_BYTES)


def _run_id(request: Request) -> str:
    run_id: str = request.path_params["id"]
    if not is_ulid(run_id):
        raise ApiError(400, f"Invalid run ID: {run_id}")
    return run_id


async def _unless_gone(request: Request, waiting: Coroutine[Json, Json, Run | None]) -> Run | None:
    """Waits, unless the caller hangs up first: nobody is to be waited for that is not there."""
    answer = asyncio.ensure_future(waiting)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([answer, leaving], return_when=asyncio.FIRST_COMPLETED)
        return await answer if answer.done() else None
    finally:
        for task in (answer, leaving):
            task.cancel()
        await asyncio.gather(answer, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(run: Run) -> Response:
    output = run.output or b"null"
    if run.status == RunStatus.COMPLETED:
        found = answer_of(output)
        response = Response(found.body, found.status)
        length = [pair for pair in response.raw_headers if pair[0] == b"content-length"]
        response.raw_headers = [
            *(
                (name.encode("latin-1"), value.encode("latin-1", "replace"))
                for name, value in found.headers
                if name not in _OF_THE_ORIGIN
            ),
            *length,
            # It comes from the server's origin, but a page of the app must not act as one of the server.
            (b"content-security-policy", b"sandbox"),
            (b"x-content-type-options", b"nosniff"),
        ]
        return response
    if run.status == RunStatus.FAILED:
        # Without the stack: it is the caller of the endpoint who reads this.
        info = error_info(output)
        return _json({"error": {"name": info.name, "message": info.message}}, 500)
    return _json({"error": {"name": "RunCancelled", "message": "The run was cancelled before it ended."}}, 410)


def _json(body: Json, status: int) -> Response:
    return Response(encode(body), status, media_type=JSON_TYPE)
