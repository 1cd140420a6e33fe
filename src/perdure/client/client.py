"""`Client`: sends events to a server, and asks it about runs.

Sending is safe to repeat: each call carries a seed from which the server makes the events' ids, so a request that
is tried again after a lost answer stores nothing twice.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import quote

import aiohttp

from perdure.client.agents.api import AgentsApi
from perdure.client.agents.connection import Connection
from perdure.client.answers import answer_of, shaped
from perdure.client.errors import ApiError, ServerUnreachableError, reason_of
from perdure.client.frames import json_frames
from perdure.client.shapes import ReplayInfo, RunInfo, RunPage, Span
from perdure.model import values
from perdure.model.environments import HEADER
from perdure.model.event import Event
from perdure.model.json import Json, decode, encode
from perdure.model.keys import NO_EVENT_KEY, SigningKey

EventLike: TypeAlias = Event | Mapping[str, Json]
"""An event to send: an `Event`, or an object with `name` and optional `data`, `id`, `ts`, `user`, `v`."""

DEFAULT_URL = "http://127.0.0.1:8288"
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=30)
_TRIES = 3
_PAUSE = 0.2


class Client(AgentsApi):
    """A connection to a server. Use: `async with Client() as client: await client.send({"name": "shop/paid"})`.

    `event_key` goes into the path of events; servers for development accept any. `signing_key` proves the caller
    to servers that ask for it ("signkey-prod-<hex>" or hex); only its hash is sent. `bearer` is sent instead, as
    it is: an API key. `timeout` is that of one request, in seconds. Every method raises
    `ServerUnreachableError` or `ApiError`. `environment`: the branch environment that is asked instead of the main one.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        event_key: str = NO_EVENT_KEY,
        signing_key: str | None = None,
        bearer: str | None = None,
        timeout: float = 30.0,
        environment: str | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must begin with http:// or https://, got {base_url!r}")
        if not event_key or "/" in event_key:
            raise ValueError("event_key must be a text without slashes")
        self.base_url = base_url.rstrip("/")
        self._event_key = quote(event_key, safe="")
        bearer = bearer or (SigningKey.parse(signing_key).bearer if signing_key else None)
        self._headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        if environment:
            self._headers[HEADER] = environment
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # Events.

    async def send(self, events: EventLike | Sequence[EventLike]) -> list[str]:
        """Sends one event or several; returns their internal ids once they are stored. All or none is stored."""
        body: Json
        if isinstance(events, Event | Mapping):
            body, count = _plain(events), 1
        else:
            body = [_plain(event) for event in events]
            count = len(body)
        if count == 0:
            return []
        seed = f"{time.time_ns() // 1_000_000},{base64.b64encode(os.urandom(10)).decode()}"
        answer = await self._call(
            "POST", f"/e/{self._event_key}", body, headers={"x-inngest-event-id-seed": seed}, tries=_TRIES
        )
        ids: list[str] = answer["ids"]
        return ids

    async def events(
        self, *, limit: int = 20, cursor: str | None = None, name: str | None = None
    ) -> list[dict[str, Json]]:
        """Received events, newest first; the last one's `internal_id` is the cursor of the next page."""
        answer = await self._call("GET", "/v1/events", query={"limit": limit, "cursor": cursor, "name": name})
        found: list[dict[str, Json]] = answer["data"]
        return found

    async def runs_of_event(self, event_id: str) -> list[str]:
        """The ids of the runs that an event started."""
        answer = await self._call("GET", f"/v1/events/{quote(event_id, safe='')}/runs")
        return [run["run_id"] for run in answer["data"]]

    # Runs.

    async def get_run(self, run_id: str, *, output: bool = True) -> RunInfo:
        """A run, by default with its output."""
        path = f"/v2/runs/{quote(run_id, safe='')}"
        answer = await self._call("GET", path, query={"includeOutput": "true" if output else None})
        return shaped(answer["data"], RunInfo)

    async def get_trace(self, run_id: str, *, output: bool = True) -> Span:
        """The trace of a run: its root span."""
        path = f"/v2/runs/{quote(run_id, safe='')}/trace"
        answer = await self._call("GET", path, query={"includeOutput": "true" if output else None})
        return shaped(answer["data"]["rootSpan"], Span)

    async def list_runs(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        status: str | None = None,
        function: str | None = None,
        app: str | None = None,
    ) -> RunPage:
        """Runs, newest first, at most 100 a page. `function` is a slug or an id within an app."""
        query = {"limit": limit, "cursor": cursor, "status": status, "functionId": function, "appId": app}
        answer = await self._call("GET", "/v2/runs", query=query)
        return RunPage(shaped(answer["data"], list[RunInfo]), answer["page"].get("cursor"))

    async def signal(self, name: str, data: Json = None) -> str | None:
        """Sends a signal; returns the id of the run that waited for it, None when none did."""
        try:
            answer = await self._call("POST", "/v1/signals", {"signal": name, "data": data})
        except ApiError as error:
            if error.status == 404 and error.message == "No signal found":
                return None
            raise
        run_id: str = answer["data"]["run_id"]
        return run_id

    async def invoke(self, function: str, data: Mapping[str, Json] | None = None, *, id: str | None = None) -> str:
        """Starts one function (a slug or an id within an app); returns the id of its run.

        `id` makes it idempotent: within 24h, the same id gives the run that it started first.
        """
        body: dict[str, Json] = {
            "data": values.decode(values.encode(dict(data or {}), where="data"), None, where="data")
        }
        if id is not None:
            body["idempotencyKey"] = id
        path, _ = await self._function(function)
        answer = await self._call("POST", f"{path}/invoke", body, repeated=True)
        run_id: str = answer["data"]["runId"]
        return run_id

    async def rerun(self, run_id: str, *, from_step: str | None = None, arguments: Sequence[Json] | None = None) -> str:
        """Starts a run once more; returns the id of the new run.

        With `from_step` (the name of a step, or its hash) what came before that step is not done again. `arguments`
        are what that step gets instead of its own; functions of apps on other servers take them.
        """
        if from_step is None and arguments is not None:
            raise ValueError("arguments: are those of a step; say which with from_step")
        chosen = {"stepId": from_step} | ({} if arguments is None else {"input": list(arguments)})
        body = {} if from_step is None else {"fromStep": chosen}
        answer = await self._call("POST", f"/v2/runs/{quote(run_id, safe='')}/rerun", body)
        started: str = answer["data"]["runId"]
        return started

    async def skip_step(self, run_id: str, step: str, value: Json = None) -> str:
        """Gives a step that waits, or is to be tried again later, a value; returns the step's hash.

        `step` is a name or a hash. For a wait for an event, `value` is the event's data; a sleep takes none.
        """
        answer = await self._call("POST", _step_path(run_id, step, "skip"), {} if value is None else {"data": value})
        skipped: str = answer["data"]["stepId"]
        return skipped

    async def wake_step(self, run_id: str, step: str) -> str:
        """Ends what a step waits for: a sleep ends, a wait times out, a retry is attempted now; returns its hash."""
        woken: str = (await self._call("POST", _step_path(run_id, step, "wake")))["data"]["stepId"]
        return woken

    async def cancel(self, run_id: str) -> str:
        """Cancels a run; returns its status, which is "Cancelled" unless it had ended before."""
        answer = await self._call("POST", f"/v1/runs/{quote(run_id, safe='')}/cancel")
        status: str = answer["data"]["status"]
        return status

    async def cancel_many(
        self,
        function: str,
        *,
        if_: str | None = None,
        started_after: str | None = None,
        started_before: str | None = None,
    ) -> int:
        """Cancels the runs of a function that were queued in a span of time and satisfy `if_`; returns how many."""
        given = {"if": if_, "started_after": started_after, "started_before": started_before}
        body = {"function_id": function} | {key: value for key, value in given.items() if value is not None}
        answer = await self._call("POST", "/v1/cancellations", body)
        cancelled: int = answer["data"]["cancelled"]
        return cancelled

    async def cancellations(self, *, limit: int = 20, cursor: str | None = None) -> list[dict[str, Json]]:
        """Cancellations in bulk, newest first; the last one's `id` is the cursor of the next page."""
        answer = await self._call("GET", "/v1/cancellations", query={"limit": limit, "cursor": cursor})
        found: list[dict[str, Json]] = answer["data"]
        return found

    async def replay(
        self,
        function: str,
        *,
        status: Sequence[str] = ("FAILED",),
        queued_from: str | None = None,
        queued_until: str | None = None,
        id: str | None = None,
    ) -> ReplayInfo:
        """Starts the ended runs of a function (a slug or an id within an app) once more.

        Chosen are runs that ended with one of the statuses and were queued in a span of time (RFC 3339, both ends
        included). `id` makes it idempotent for 30 days: asked for again, it does nothing twice, and goes on where
        it was interrupted.
        """
        given = {"from": queued_from, "until": queued_until, "replayId": id}
        body = {"status": list(status)} | {key: value for key, value in given.items() if value is not None}
        path, _ = await self._function(function)
        return shaped((await self._call("POST", f"{path}/replay", body))["data"], ReplayInfo)

    # The server.

    async def call(self, method: str, path: str, *, query: Mapping[str, Json] | None = None, body: Json = None) -> Json:
        """Any request to the server's API; returns the JSON of the answer, None where it is empty.

        A list in the query is sent as one parameter for each of its items.
        """
        return await self._call(method, path, body, query=query)

    async def functions(self) -> list[dict[str, Json]]:
        """The registered functions."""
        found: list[dict[str, Json]] = (await self._call("GET", "/v1/functions"))["data"]
        return found

    async def pause(self, function: str) -> str:
        """Pauses a function (a slug or an id within an app); returns its slug."""
        path, slug = await self._function(function)
        await self._call("POST", f"{path}/pause")
        return slug

    async def resume(self, function: str) -> str:
        """Ends the pause of a function; returns its slug."""
        path, slug = await self._function(function)
        await self._call("POST", f"{path}/resume")
        return slug

    async def _function(self, name: str) -> tuple[str, str]:
        """The path and the slug of the function that a name stands for."""
        found: dict[str, str] = {}
        for each in await self.functions():
            slug, app = each["id"], each["config"]["app"]
            if name in (slug, slug.removeprefix(app + "-")):
                found[slug] = f"/v2/apps/{quote(app, safe='')}/functions/{quote(slug, safe='')}"
        if name in found:
            return found[name], name
        if len(found) > 1:
            raise ApiError(400, f"{name} is in several apps; use one of {', '.join(found)}")
        for slug, path in found.items():
            return path, slug
        raise ApiError(404, f"Function not found: {name}")

    async def health(self) -> bool:
        """Whether the server says that it is well."""
        return bool((await self._call("GET", "/health"))["status"] == 200)

    async def doctor(self) -> dict[str, Json]:
        """What the server knows of its own state: counts, and what should not be there."""
        found: dict[str, Json] = (await self._call("GET", "/v1/doctor"))["data"]
        return found

    # Agents.

    @property
    def connection(self) -> Connection:
        """What the clients of agents ask with."""
        return self

    async def ask(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        query: Mapping[str, Json] | None = None,
        patient: bool = False,
    ) -> Json:
        """The same as `call`; `patient`: it takes as long as it takes."""
        return await self._call(method, path, body, query=query, timeout=_NO_LIMIT if patient else None)

    async def frames(
        self, method: str, path: str, body: Json = None, *, query: Mapping[str, Json] | None = None, after: str = ""
    ) -> AsyncGenerator[tuple[str | None, Json]]:
        """The frames of a stream of JSON, each with its id; `after`: the id of the last one that is known."""
        told = json_frames(self._open(), self.base_url, method, path, params=_params(query), body=body, after=after)
        async with aclosing(told) as frames:
            async for frame in frames:
                yield frame

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client() as client:`")
        return self._session

    async def _call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        query: Mapping[str, Json] | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int = 1,
        repeated: bool = False,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> Json:
        session = self._open()
        data = None if body is None else encode(body)
        head, params = {"content-type": "application/json", **(headers or {})}, _params(query)
        limit = timeout or self._timeout
        for tried in range(1, tries + 1):
            try:
                async with session.request(
                    method, self.base_url + path, params=params, data=data, headers=head, timeout=limit
                ) as response:
                    content = await response.read()
                if repeated and response.status == 409 and b'"runId"' in content:
                    # The answer to an invocation that was made before: the run is there.
                    return decode(content)
                if response.status != 503 or tried == tries:
                    return answer_of(path, response.status, content)
            except aiohttp.ClientConnectorError as error:
                raise ServerUnreachableError(self.base_url, reason_of(error)) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                if tried == tries:
                    raise ServerUnreachableError(self.base_url, reason_of(error)) from error
            await asyncio.sleep(_PAUSE * tried)
        raise AssertionError("unreachable: the last try returns or raises")


def _params(query: Mapping[str, Json] | None) -> list[tuple[str, str]]:
    return [pair for key, value in (query or {}).items() for pair in _pairs(key, value)]


def _pairs(key: str, value: Json) -> list[tuple[str, str]]:
    """A query parameter: none, one, or one for each item of a list."""
    if isinstance(value, list | tuple):
        return [pair for item in value for pair in _pairs(key, item)]
    if value is None:
        return []
    return [(key, str(value).lower() if isinstance(value, bool) else str(value))]


def _step_path(run_id: str, step: str, act: str) -> str:
    return f"/v2/runs/{quote(run_id, safe='')}/steps/{quote(step, safe='')}/{act}"


def _plain(event: EventLike) -> Json:
    if isinstance(event, Event):
        body = event.to_json()
        return {key: value for key, value in body.items() if value or key not in ("id", "ts")}
    return values.decode(values.encode(dict(event), where="the event"), None, where="the event")
